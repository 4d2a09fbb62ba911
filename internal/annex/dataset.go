package annex

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Dataset is a DataLad dataset, read and changed by the programs git and git-annex.
type Dataset struct {
	Root string // of the work tree, physical
	env  []string
}

const (
	configFile  = ".datalad/config"
	environment = ".datalad/environments" // where datalad-container keeps images, unless it is told otherwise
)

// OpenDataset returns the dataset that holds dir. programs is a directory with git-annex-remote-dlrun in it, for the
// git-annex that cannot find it in PATH; it may be empty.
func OpenDataset(ctx context.Context, dir, programs string) (*Dataset, error) {
	d := &Dataset{Root: dir, env: annexEnv(programs)}
	for _, program := range []string{"git", "git-annex"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, notInstalled(program)
		}
	}
	root, err := d.git(ctx, "", "rev-parse", "--show-toplevel")
	var failed *CommandError
	if errors.As(err, &failed) && strings.Contains(failed.Said, "not a git repository") {
		return nil, &hinted{fmt.Errorf("%s is in no DataLad dataset", dir), "datalad create DIR makes one"}
	}
	if err != nil {
		return nil, err
	}
	if d.Root, err = filepath.EvalSymlinks(strings.TrimSuffix(root, "\n")); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(d.Root, configFile)); err != nil {
		return nil, &hinted{fmt.Errorf("%s is no DataLad dataset: it has no %s", d.Root, configFile), "datalad create --force -d " + d.Root}
	}
	return d, nil
}

// containerName is what datalad-container takes for one.
var containerName = regexp.MustCompile(`^[0-9a-zA-Z-]+$`)

// Container is an image as datalad-container knows it.
type Container struct {
	Name   string
	Image  string // path of the image below the root of the dataset
	Format string // the call format, with {img} and {cmd}
}

// Container returns what is registered under a name, the zero value when nothing is. It is an error when it cannot be a name.
func (d *Dataset) Container(ctx context.Context, name string) (Container, error) {
	if !containerName.MatchString(name) {
		return Container{}, fmt.Errorf("%q is no name of a container: datalad-container takes letters, digits and hyphens", name)
	}
	image, ok, err := d.ask(ctx, "config", "--file", configFile, "--get", "datalad.containers."+name+".image")
	if err != nil || !ok {
		return Container{}, err
	}
	format, _, err := d.ask(ctx, "config", "--file", configFile, "--get", "datalad.containers."+name+".cmdexec")
	return Container{name, image, format}, err
}

// Containers returns all that are registered with an image at or below path, which is relative to the root.
func (d *Dataset) Containers(ctx context.Context, path string) ([]Container, error) {
	out, _, err := d.ask(ctx, "config", "--file", configFile, "--null", "--get-regexp", `^datalad\.containers\..*\.image$`)
	if err != nil {
		return nil, err
	}
	var list []Container
	for entry := range strings.SplitSeq(out, "\x00") {
		key, image, _ := strings.Cut(entry, "\n")
		name := strings.TrimSuffix(strings.TrimPrefix(key, "datalad.containers."), ".image")
		if !within(filepath.Join("/", image), filepath.Join("/", path)) || !containerName.MatchString(name) {
			continue
		}
		c, err := d.Container(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// ImagePath is where datalad-container keeps the image of a new container, relative to the root.
func (d *Dataset) ImagePath(ctx context.Context, name string) (string, error) {
	place, ok, err := d.ask(ctx, "config", "--file", configFile, "--get", "datalad.containers.location")
	if err != nil {
		return "", err
	}
	if !ok {
		place = environment
	}
	if !filepath.IsLocal(place) {
		return "", fmt.Errorf("datalad.containers.location is %q, which is outside of the dataset", place)
	}
	return filepath.Join(place, name, "image"), nil
}

// Rel is path relative to the root, with ok false where it lies outside. Links on the way to its directory are followed, its
// own last name is not.
func (d *Dataset) Rel(path string) (rel string, ok bool) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", false
	}
	rel, err = filepath.Rel(d.Root, filepath.Join(parent, filepath.Base(abs)))
	return rel, err == nil && filepath.IsLocal(rel)
}

// Unsaved returns the paths at or below those given that differ from the last commit, untracked ones included.
func (d *Dataset) Unsaved(ctx context.Context, paths ...string) ([]string, error) {
	out, err := d.git(ctx, "", append([]string{"status", "--porcelain", "-z", "--untracked-files=all", "--"}, paths...)...)
	if err != nil {
		return nil, err
	}
	var list []string
	for entry := range strings.SplitSeq(out, "\x00") {
		if len(entry) > 3 {
			list = append(list, entry[3:])
		}
	}
	return list, nil
}

// Tracked reports whether git knows anything at or below path.
func (d *Dataset) Tracked(ctx context.Context, path string) (bool, error) {
	out, err := d.git(ctx, "", "ls-files", "-z", "--", path)
	return out != "", err
}

// File is an annexed file.
type File struct {
	Path string   // relative to the root
	Key  string   // of git-annex
	URLs []string // that are recorded for the key, by whoever claims them
	In   []string // UUIDs of the repositories that are said to have it
	Here bool     // this repository has it
}

// Files returns the annexed files at or below path, by path; content need not be here.
func (d *Dataset) Files(ctx context.Context, path string) (map[string]File, error) {
	out, err := d.git(ctx, "", "annex", "whereis", "--json", "--json-error-messages", "--include=*", "--", path)
	// A file without a known copy makes it fail, although its line is there.
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	files := map[string]File{}
	for line := range strings.Lines(out) {
		type place struct {
			UUID string
			Here bool
			URLs []string
		}
		var said struct {
			File, Key          string
			Whereis, Untrusted []place
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			return nil, fmt.Errorf("git annex whereis: %w", err)
		}
		if said.File == "" || said.Key == "" {
			continue
		}
		f := File{Path: said.File, Key: said.Key}
		for _, w := range append(said.Whereis, said.Untrusted...) {
			f.URLs = append(f.URLs, w.URLs...)
			f.In = append(f.In, w.UUID)
			f.Here = f.Here || w.Here
		}
		files[f.Path] = f
	}
	if len(files) == 0 && err != nil {
		return nil, err
	}
	return files, nil
}
