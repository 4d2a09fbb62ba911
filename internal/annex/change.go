package annex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// smallest is the size in bytes above which a layer is annexed: largerthan=64kb below. What is smaller is as well kept in git.
const smallest = 64_000

// attributes are those of an image directory that has none. The backend makes the key of a layer its digest, whatever the dataset uses
// otherwise; -text keeps a clone with core.autocrlf from changing what has a digest.
const attributes = `* -text annex.largefiles=nothing
blobs/*/* annex.backend=SHA256 annex.largefiles=largerthan=64kb
`

// LayerKey is the key that git-annex gives to a blob in such a directory.
func LayerKey(digest string, size int64) string {
	return fmt.Sprintf("SHA256-s%d--%s", size, strings.TrimPrefix(digest, "sha256:"))
}

// Layer is a file with a layer of an image.
type Layer struct {
	Path   string // relative to the root of the dataset
	Digest string // sha256:HEX of the file
	Size   int64  // bytes
}

// Lock waits until no other dlrun changes the dataset, and returns how to let the next one in. A file system without locks is gone
// on with: git guards its own files.
func (d *Dataset) Lock(ctx context.Context) (unlock func(), err error) {
	dir, err := d.gitDir(ctx)
	if err != nil {
		return nil, err
	}
	// The directory itself, so that nothing is left in it.
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return func() { f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Change is what becomes one commit of a dataset, or nothing. It is about the image at one path and the configuration
// of DataLad; other changes that the user has at hand stay as they are.
type Change struct {
	d       *Dataset
	image   string
	config  []byte   // of DataLad before
	tracked bool     // there was an image before
	there   bool     // there was something at its path
	brought []string // keys whose content this change has brought
}

// Begin notes the state before a change to the image at path, relative to the root. It is an error when what would be
// committed has changes that are not saved.
func (d *Dataset) Begin(ctx context.Context, path string) (*Change, error) {
	c := &Change{d: d, image: path}
	var err error
	if c.tracked, err = d.Tracked(ctx, path); err != nil {
		return nil, err
	}
	_, err = os.Lstat(filepath.Join(d.Root, path))
	c.there = err == nil
	paths := []string{configFile}
	if c.tracked {
		paths = append(paths, path)
	}
	unsaved, err := d.Unsaved(ctx, paths...)
	if err != nil {
		return nil, err
	}
	if len(unsaved) > 0 {
		return nil, &hinted{fmt.Errorf("%s has changes that are not saved", unsaved[0]), "datalad save " + unsaved[0]}
	}
	if c.config, err = os.ReadFile(filepath.Join(d.Root, configFile)); err != nil {
		return nil, err
	}
	return c, c.log(ctx)
}

// record is what the next dlrun needs to undo a change whose process was killed.
type record struct {
	Head           string   // the commit that the change is made on
	Image          string   // relative to the root of the dataset
	Tracked, There bool     // as in Change
	Config         []byte   // of DataLad before
	Brought        []string // keys
}

// recordFile is in the git directory, where git and git-annex pass it over.
func (d *Dataset) recordFile(ctx context.Context) (string, error) {
	dir, err := d.gitDir(ctx)
	return filepath.Join(dir, "dlrun-change.json"), err
}

func (d *Dataset) gitDir(ctx context.Context) (string, error) {
	dir, err := d.git(ctx, "", "rev-parse", "--absolute-git-dir")
	return strings.TrimSuffix(dir, "\n"), err
}

func (d *Dataset) head(ctx context.Context) (string, error) {
	head, err := d.git(ctx, "", "rev-parse", "HEAD")
	return strings.TrimSuffix(head, "\n"), err
}

// log writes the record.
func (c *Change) log(ctx context.Context) error {
	file, err := c.d.recordFile(ctx)
	if err != nil {
		return err
	}
	head, err := c.d.head(ctx)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(record{head, c.image, c.tracked, c.there, c.config, c.brought})
	if err != nil {
		return err
	}
	return replace(file, raw)
}

// unlog removes the record: the change is made, or undone.
func (c *Change) unlog(ctx context.Context) error {
	file, err := c.d.recordFile(ctx)
	if err != nil {
		return err
	}
	if err := os.Remove(file); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Recover undoes a change that was killed, and returns the path of its image, or "" where there is none. The caller holds the
// lock. Where something has been committed since, what there is stays: it may be the user's by now.
func (d *Dataset) Recover(ctx context.Context) (image string, err error) {
	file, err := d.recordFile(ctx)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var r record
	head, err := d.head(ctx)
	if err != nil {
		return "", err
	}
	if json.Unmarshal(raw, &r) != nil || r.Head != head || !filepath.IsLocal(r.Image) {
		return "", os.Remove(file)
	}
	c := &Change{d: d, image: r.Image, tracked: r.Tracked, there: r.There, config: r.Config, brought: r.Brought}
	if _, same, err := d.ask(ctx, "diff", "--quiet", "--", configFile); err != nil {
		return "", err
	} else if !same { // edited since
		if c.config, err = os.ReadFile(filepath.Join(d.Root, configFile)); err != nil {
			return "", err
		}
	}
	return r.Image, c.Undo(ctx)
}

// Track puts the image under version control: layers into the annex, all else into git. A layer that is not on disk is registered
// by its digest, without content.
func (c *Change) Track(ctx context.Context, layers []Layer) error {
	d := c.d
	if _, err := c.attributes(""); err != nil {
		return err
	}
	var large, absent, keys strings.Builder
	for _, l := range layers {
		if strings.ContainsAny(l.Path, "\n") {
			return fmt.Errorf("%q cannot be annexed: git-annex is told of it in a line", l.Path)
		}
		switch _, err := os.Lstat(filepath.Join(d.Root, l.Path)); {
		case errors.Is(err, os.ErrNotExist):
			fmt.Fprintf(&absent, "%s %s\n", LayerKey(l.Digest, l.Size), l.Path)
		case err != nil:
			return err
		case l.Size > smallest:
			fmt.Fprintf(&large, "%s\n", l.Path)
			fmt.Fprintf(&keys, "%s\n", LayerKey(l.Digest, l.Size))
		}
	}
	if err := c.note(ctx, keys.String()); err != nil {
		return err
	}
	for _, step := range []struct {
		input string
		args  []string
	}{
		// The options outweigh what annex.largefiles of the user's git configuration may say.
		{large.String(), []string{"annex", "add", "--quiet", "--force-large", "--batch"}},
		{absent.String(), []string{"annex", "fromkey", "--quiet", "--force", "--batch"}},
		{"", []string{"-c", "annex.largefiles=nothing", "add", "--all", "--force", "--", c.image}},
	} {
		if step.input == "" && step.args[0] == "annex" {
			continue
		}
		if _, err := d.git(ctx, step.input, step.args...); err != nil {
			return err
		}
	}
	return nil
}

// note remembers which of the keys, one a line, have no content here yet.
func (c *Change) note(ctx context.Context, keys string) error {
	if keys == "" {
		return nil
	}
	out, err := c.d.git(ctx, keys, "annex", "contentlocation", "--batch")
	if err != nil {
		return err
	}
	places := strings.Split(out, "\n")
	for i, key := range strings.Split(strings.TrimSuffix(keys, "\n"), "\n") {
		if i < len(places) && places[i] == "" {
			c.brought = append(c.brought, key)
		}
	}
	return c.log(ctx)
}

// Register tells datalad-container of the image, as `datalad containers-add` does.
func (c *Change) Register(ctx context.Context, container Container) error {
	section := "datalad.containers." + container.Name
	for _, v := range [][2]string{{"image", container.Image}, {"cmdexec", container.Format}} {
		if _, err := c.d.git(ctx, "", "config", "--file", configFile, section+"."+v[0], v[1]); err != nil {
			return err
		}
	}
	_, err := c.d.git(ctx, "", "-c", "annex.largefiles=nothing", "add", "--", configFile)
	return err
}

// Commit makes the commit, unless nothing has changed.
func (c *Change) Commit(ctx context.Context, message string) (changed bool, err error) {
	paths := []string{"--", configFile}
	if tracked, err := c.d.Tracked(ctx, c.image); err != nil {
		return false, err
	} else if tracked {
		paths = append(paths, c.image)
	}
	_, same, err := c.d.ask(ctx, append([]string{"diff", "--cached", "--quiet", "HEAD"}, paths...)...)
	if err != nil {
		return false, err
	}
	if same {
		return false, c.unlog(ctx)
	}
	if _, err := c.d.git(ctx, "", append([]string{"commit", "--quiet", "-m", message}, paths...)...); err != nil {
		return false, err
	}
	// In an adjusted branch the commit is still to reach the branch behind it.
	head, ok, err := c.d.ask(ctx, "symbolic-ref", "--quiet", "--short", "HEAD")
	if err == nil && ok && strings.HasPrefix(head, "adjusted/") {
		_, err = c.d.git(ctx, "", "annex", "sync", "--quiet", "--no-push", "--no-pull", "--no-commit", "--no-resolvemerge", "--no-content")
	}
	return true, errors.Join(err, c.unlog(ctx))
}

// Undo brings back what was there at Begin, after an error, also one of a context that is done. Where files were there that git
// did not know, they stay, in the annex or not.
func (c *Change) Undo(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	d := c.d
	var problems []error
	do := func(input string, args ...string) {
		if _, err := d.git(ctx, input, args...); err != nil {
			problems = append(problems, err)
		}
	}
	problems = append(problems, os.WriteFile(filepath.Join(d.Root, configFile), c.config, 0o644))
	paths := []string{"--", configFile}
	if known, err := d.Tracked(ctx, c.image); err == nil && known || c.tracked {
		paths = append(paths, c.image)
	}
	do("", append([]string{"reset", "--quiet", "HEAD"}, paths...)...)
	if c.there && !c.tracked {
		return errors.Join(append(problems, c.unlog(ctx))...)
	}
	problems = append(problems, os.RemoveAll(filepath.Join(d.Root, c.image)))
	if c.tracked {
		do("", "checkout", "--quiet", "HEAD", "--", c.image)
	} else {
		c.removeEmpty()
	}
	if len(c.brought) > 0 {
		do(strings.Join(c.brought, "\n")+"\n", "annex", "dropkey", "--quiet", "--force", "--batch")
	}
	return errors.Join(append(problems, c.unlog(ctx))...)
}

// removeEmpty removes the directories above the image that hold nothing, as git would.
func (c *Change) removeEmpty() {
	for dir := filepath.Dir(c.image); dir != "."; dir = filepath.Dir(dir) {
		if os.Remove(filepath.Join(c.d.Root, dir)) != nil {
			return
		}
	}
}

// SmallToGit moves the small annexed files of the image that are here from the annex into git, and returns how many: a clone then
// reads what the image consists of before it has got anything. Docker's adapter, and DataLad by itself, annex them all.
func (c *Change) SmallToGit(ctx context.Context) (int, error) {
	d := c.d
	files, err := d.Files(ctx, c.image)
	if err != nil {
		return 0, err
	}
	var paths []string
	for path, f := range files {
		full := filepath.Join(d.Root, path)
		info, err := os.Stat(full)
		if !f.Here || err != nil || !info.Mode().IsRegular() || info.Size() > smallest {
			continue
		}
		content, err := os.ReadFile(full)
		if err != nil {
			return 0, err
		}
		if err := replace(full, content); err != nil {
			return 0, err
		}
		paths = append(paths, path)
	}
	if len(paths) == 0 {
		return 0, nil
	}
	slices.Sort(paths)
	moved := len(paths)
	made, err := c.attributes("*.tar annex.largefiles=largerthan=64kb\n")
	if err != nil {
		return 0, err
	}
	paths = append(paths, made...)
	// What git knows as annexed stays so until it is forgotten.
	list := strings.Join(paths, "\x00")
	if _, err := d.git(ctx, list, "rm", "--cached", "--quiet", "--ignore-unmatch", "--pathspec-from-file=-", "--pathspec-file-nul"); err != nil {
		return 0, err
	}
	_, err = d.git(ctx, list, "-c", "annex.largefiles=nothing", "add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul")
	return moved, err
}

// attributes writes the .gitattributes of the image, unless there is one, and returns its path if so.
func (c *Change) attributes(more string) (made []string, err error) {
	path := filepath.Join(c.image, ".gitattributes")
	f, err := os.OpenFile(filepath.Join(c.d.Root, path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(attributes + more)
	return []string{path}, errors.Join(err, f.Close())
}

// replace gives a file, or a link in its place, another content.
func replace(path string, content []byte) error {
	tmp := path + ".dlrun-new"
	if err := os.WriteFile(tmp, content, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}
