package annex_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/internal/annex/special"
)

// TestMain: under the name of the special remote, which git-annex starts, the test binary is one.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "git-annex-remote-dlrun" {
		r := special.Remote{In: os.Stdin, Out: os.Stdout, Blobs: shelf{os.Getenv("TEST_SHELF")}}
		if r.Serve(context.Background()) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// shelf is a directory of blobs, each under its digest in hex. One called "stuck" never comes to an end.
type shelf struct{ dir string }

func (s shelf) Stat(_ context.Context, l special.Location) (int64, error) {
	fi, err := os.Stat(filepath.Join(s.dir, strings.TrimPrefix(l.Digest, "sha256:")))
	if errors.Is(err, os.ErrNotExist) {
		return 0, special.ErrAbsent
	}
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (s shelf) Open(ctx context.Context, l special.Location, _, offset int64) (io.ReadCloser, error) {
	if l.Name == "stuck" {
		time.Sleep(time.Minute)
	}
	f, err := os.Open(filepath.Join(s.dir, strings.TrimPrefix(l.Digest, "sha256:")))
	if err != nil {
		return nil, special.ErrAbsent
	}
	_, err = f.Seek(offset, io.SeekStart)
	return f, err
}

// dataset is what `datalad create` makes, as far as it matters here, and the programs that git-annex needs.
func (l lab) dataset(dir string) *annex.Dataset {
	l.t.Helper()
	l.write(dir+"/.gitattributes", "* annex.backend=MD5E\n**/.git* annex.largefiles=nothing\n")
	l.write(dir+"/.datalad/config", "[datalad \"dataset\"]\n\tid = 1\n")
	l.run(dir, "git", "init", "-q")
	l.run(dir, "git", "annex", "init", "-q")
	l.run(dir, "git", "add", ".")
	l.run(dir, "git", "commit", "-q", "-m", "new dataset")
	return l.open(dir)
}

func (l lab) open(dir string) *annex.Dataset {
	l.t.Helper()
	programs := l.path("programs")
	l.t.Setenv("TEST_SHELF", l.path("shelf"))
	if os.Mkdir(programs, 0o755) == nil {
		self, err := os.Executable()
		must(l.t, err)
		must(l.t, os.Symlink(self, programs+"/git-annex-remote-dlrun"))
		must(l.t, os.Mkdir(l.path("shelf"), 0o755))
	}
	d, err := annex.OpenDataset(l.t.Context(), l.path(dir), programs)
	must(l.t, err)
	return d
}

func (l lab) out(dir string, argv ...string) string {
	l.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = l.path(dir)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("%s: %v\n%s%s", strings.Join(argv, " "), err, out, said.String())
	}
	return strings.TrimSpace(string(out))
}

// layer puts a layer on the shelf, and into the image at dir unless that is empty.
func (l lab) layer(dir string, size int) annex.Layer {
	l.t.Helper()
	content := strings.Repeat(fmt.Sprintf("layer of %d bytes. ", size), size/16)[:size]
	hex := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	l.write("shelf/"+hex, content)
	const image = ".datalad/environments/bb/image"
	if dir != "" {
		l.write(dir+"/"+image+"/blobs/sha256/"+hex, content)
	}
	return annex.Layer{Path: image + "/blobs/sha256/" + hex, Digest: "sha256:" + hex, Size: int64(size)}
}

const bbImage = ".datalad/environments/bb/image"

var bb = annex.Container{Name: "bb", Image: bbImage, Format: "dlrun {img} -- {cmd}"}

func TestChange(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	d := l.dataset("ds")
	l.write("ds/staged", "by the user\n")
	l.run("ds", "git", "add", "staged")

	if path, err := d.ImagePath(t.Context(), "bb"); err != nil || path != bbImage {
		t.Fatalf("ImagePath: %q, %v", path, err)
	}
	l.write("ds/"+bbImage+"/index.json", "{}\n")
	layers := []annex.Layer{l.layer("ds", 100_000), l.layer("ds", 100), l.layer("", 200_000)}
	add := func() (changed bool) {
		t.Helper()
		c, err := d.Begin(t.Context(), bbImage)
		must(t, err)
		must(t, c.Track(t.Context(), layers))
		must(t, c.Register(t.Context(), bb))
		changed, err = c.Commit(t.Context(), "add container bb")
		must(t, err)
		return changed
	}
	if !add() {
		t.Error("the first commit says that nothing has changed")
	}
	if status := l.out("ds", "git", "status", "--porcelain"); status != "A  staged" {
		t.Errorf("git status: %q, want what the user has staged, and nothing else", status)
	}
	want := map[string]bool{layers[0].Path: true, layers[2].Path: false}
	files, err := d.Files(t.Context(), bbImage)
	must(t, err)
	got := map[string]bool{}
	for path, f := range files {
		got[path] = f.Here
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("annexed files, and which are here (-want +got):\n%s", diff)
	}
	for _, layer := range []annex.Layer{layers[0], layers[2]} {
		if got := files[layer.Path].Key; got != annex.LayerKey(layer.Digest, layer.Size) {
			t.Errorf("key %s of %s", got, layer.Path)
		}
	}
	if c, err := d.Container(t.Context(), "bb"); err != nil || c != bb {
		t.Errorf("registered is %+v, %v", c, err)
	}
	if list, err := d.Containers(t.Context(), ".datalad/environments/bb"); err != nil || !slices.Equal(list, []annex.Container{bb}) {
		t.Errorf("registered are %+v, %v", list, err)
	}
	if add() {
		t.Error("once more, and it says that something has changed")
	}

	// Where the layers are, and once more.
	r, err := d.Remote(t.Context())
	must(t, err)
	var records []annex.Record
	for _, layer := range []annex.Layer{layers[0], layers[2]} {
		records = append(records, annex.Record{
			Key: annex.LayerKey(layer.Digest, layer.Size), URL: "dlrun+docker://registry.invalid/lab/bb@" + layer.Digest,
			Web: "https://registry.invalid/v2/lab/bb/blobs/" + layer.Digest,
		})
	}
	for _, want := range []int{2, 0} {
		n, err := d.Record(t.Context(), r, files, records)
		if err != nil || n != want {
			t.Errorf("%d new records, %v; want %d", n, err, want)
		}
		files, err = d.Files(t.Context(), bbImage)
		must(t, err)
	}
	for _, w := range []string{"web: https://registry.invalid/v2/lab/bb/blobs/" + layers[2].Digest, "dlrun: dlrun+docker://registry.invalid/lab/bb@" + layers[2].Digest} {
		if got := l.out("ds", "env", "PATH="+os.Getenv("PATH")+":"+l.path("programs"), "git", "annex", "whereis", layers[2].Path); !strings.Contains(got, w) {
			t.Errorf("git annex whereis lacks %s:\n%s", w, got)
		}
	}

	// A clone that knows of the remote enables it, and gets what nobody else has.
	l.run("", "git", "clone", "-q", "ds", "clone")
	clone := l.open("clone")
	if again, err := clone.Remote(t.Context()); err != nil || again.UUID != r.UUID {
		t.Errorf("the remote of the clone is %+v, %v; want %+v", again, err, r)
	}
	l.run("clone", "git", "remote", "rm", "origin")
	var seen annex.GetProgress
	err = annex.Get(t.Context(), l.path("clone/"+bbImage), l.path("programs"), records[1].Key, time.Minute, func(p annex.GetProgress) { seen = p })
	must(t, err)
	if want := (annex.GetProgress{Key: records[1].Key, From: "dlrun", Read: 200_000, Total: 200_000}); seen != want {
		t.Errorf("progress %+v, want %+v", seen, want)
	}
	if files, err := clone.Files(t.Context(), bbImage); err != nil || !files[layers[2].Path].Here {
		t.Errorf("it is not here: %+v, %v", files, err)
	}

	// What cannot come is an error, soon.
	err = annex.Get(t.Context(), l.path("clone"), "", "SHA256-s5--"+strings.Repeat("0", 64), time.Minute, func(annex.GetProgress) {})
	if err == nil || !strings.Contains(err.Error(), "not available") {
		t.Errorf("a key that nobody has: %v", err)
	}
	stuck := "SHA256-s5--" + strings.Repeat("1", 64)
	_, err = clone.Record(t.Context(), r, nil, []annex.Record{{Key: stuck, URL: "dlrun+docker://registry.invalid/stuck@sha256:" + strings.Repeat("1", 64)}})
	must(t, err)
	begun := time.Now()
	err = annex.Get(t.Context(), l.path("clone"), l.path("programs"), stuck, time.Second, func(annex.GetProgress) {})
	if err == nil || !strings.Contains(err.Error(), "nothing has happened for 1s") || time.Since(begun) > 8*time.Second {
		t.Errorf("a registry that does not answer: %v after %v", err, time.Since(begun))
	}
}

func TestUndo(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	d := l.dataset("ds")
	state := func() string {
		return l.out("ds", "sh", "-c", "git status --porcelain --ignored; git log --format=%s; find . -path ./.git -prune -o -print -type l -exec cat {} + | sort; find .git/annex/objects -type f 2>/dev/null | sort; cat .datalad/config")
	}
	fail := func(layers ...annex.Layer) {
		t.Helper()
		before := state()
		c, err := d.Begin(t.Context(), bbImage)
		must(t, err)
		must(t, os.RemoveAll(l.path("ds/"+bbImage)))
		l.write("ds/"+bbImage+"/index.json", "something new\n")
		for _, layer := range layers {
			l.layer("ds", int(layer.Size))
		}
		must(t, c.Track(t.Context(), layers))
		must(t, c.Register(t.Context(), annex.Container{Name: "other", Image: "x", Format: "y"}))
		l.write("ds/.git/hooks/pre-commit", "#!/bin/sh\necho no such commit >&2\nexit 1\n")
		must(t, os.Chmod(l.path("ds/.git/hooks/pre-commit"), 0o755))
		_, err = c.Commit(t.Context(), "refused")
		if err == nil || err.Error() != "git commit: no such commit" {
			t.Errorf("commit: %v", err)
		}
		must(t, os.Remove(l.path("ds/.git/hooks/pre-commit")))
		must(t, c.Undo(t.Context()))
		if diff := cmp.Diff(before, state()); diff != "" {
			t.Errorf("after Undo (-before +after):\n%s", diff)
		}
	}
	fail(l.layer("", 100_000))

	l.write("ds/"+bbImage+"/index.json", "{}\n")
	old := l.layer("ds", 150_000)
	c, err := d.Begin(t.Context(), bbImage)
	must(t, err)
	must(t, c.Track(t.Context(), []annex.Layer{old}))
	must(t, c.Register(t.Context(), bb))
	_, err = c.Commit(t.Context(), "add container bb")
	must(t, err)
	fail(l.layer("", 100_000), old)

	// What is not saved is not touched.
	l.write("ds/"+bbImage+"/index.json", "changed by hand\n")
	if _, err := d.Begin(t.Context(), bbImage); err == nil || !strings.Contains(err.Error(), "index.json has changes that are not saved") {
		t.Errorf("Begin: %v", err)
	}
}

// TestAdjusted is how datasets look on file systems without symlinks.
func TestAdjusted(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	d := l.dataset("ds")
	l.run("ds", "git", "annex", "adjust", "--unlock", "--quiet")
	l.write("ds/"+bbImage+"/index.json", "{}\n")
	layers := []annex.Layer{l.layer("ds", 100_000), l.layer("", 200_000)}
	c, err := d.Begin(t.Context(), bbImage)
	must(t, err)
	must(t, c.Track(t.Context(), layers))
	must(t, c.Register(t.Context(), bb))
	_, err = c.Commit(t.Context(), "add container bb")
	must(t, err)
	if status := l.out("ds", "git", "status", "--porcelain"); status != "" {
		t.Errorf("git status: %s", status)
	}
	for _, layer := range layers {
		if mode := l.out("ds", "git", "ls-tree", "main", layer.Path); !strings.HasPrefix(mode, "120000 ") {
			t.Errorf("in the branch behind the adjusted one: %q, want a symlink", mode)
		}
	}
	files, err := d.Files(t.Context(), bbImage)
	if err != nil || !files[layers[0].Path].Here || files[layers[1].Path].Key != annex.LayerKey(layers[1].Digest, layers[1].Size) {
		t.Errorf("files %+v, %v", files, err)
	}
}

func TestNoDataset(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	must(t, os.Mkdir(l.path("plain"), 0o755))
	l.run("", "git", "init", "-q", "repo")
	for dir, want := range map[string]string{"plain": "is in no DataLad dataset", "repo": "it has no .datalad/config"} {
		_, err := annex.OpenDataset(t.Context(), l.path(dir), "")
		var h interface{ Hint() string }
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &h) || !strings.Contains(h.Hint(), "datalad create") {
			t.Errorf("%s: %v", dir, err)
		}
	}
	d := l.dataset("ds")
	for _, name := range []string{"", "a b", "a_b", "../x", "a.b"} {
		if _, err := d.Container(t.Context(), name); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	for path, want := range map[string]string{"ds/x/y": "", "ds/a": "a", "ds": ".", "plain": "", "ds/../ds/.datalad/z": ".datalad/z"} {
		if rel, ok := d.Rel(l.path(path)); ok != (want != "") || ok && rel != want {
			t.Errorf("Rel %s: %q, %t", path, rel, ok)
		}
	}
}

// TestSmallToGit: of an image whose every file is annexed the small ones come into git, locked or not.
func TestSmallToGit(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	begin := func(ds string) *annex.Change {
		d := l.dataset(ds)
		for name, size := range map[string]int{"manifest.json": 200, "id.json": 900, "aa/layer.tar": 100_000, "aa/VERSION": 3, "gone": 50} {
			l.write(ds+"/image/"+name, strings.Repeat("x", size))
		}
		l.run(ds, "git", "annex", "add", "-q", "--force-large", "image")
		l.run(ds, "git", "annex", "unlock", "-q", "image/id.json")
		l.run(ds, "git", "commit", "-q", "-m", "image")
		l.run(ds, "git", "annex", "drop", "-q", "--force", "image/gone")
		c, err := d.Begin(t.Context(), "image")
		must(t, err)
		return c
	}
	c := begin("ds")
	n, err := c.SmallToGit(t.Context())
	if err != nil || n != 3 {
		t.Errorf("%d files moved, %v; want 3", n, err)
	}
	_, err = c.Commit(t.Context(), "small files")
	must(t, err)
	if status := l.out("ds", "git", "status", "--porcelain"); status != "" {
		t.Errorf("git status: %s", status)
	}
	if got, want := l.out("ds", "git", "annex", "find", "--include=*", "image"), "image/aa/layer.tar\nimage/gone"; got != want {
		t.Errorf("annexed is %q, want %q", got, want)
	}
	if got := l.out("ds", "git", "show", "HEAD:image/id.json"); got != strings.Repeat("x", 900) {
		t.Errorf("id.json in git is %q", got)
	}

	// Undone where the commit does not come about.
	c = begin("undone")
	_, err = c.SmallToGit(t.Context())
	must(t, err)
	must(t, c.Undo(t.Context()))
	if status := l.out("undone", "git", "status", "--porcelain"); status != "" {
		t.Errorf("git status after Undo: %s", status)
	}
	if got := l.out("undone", "cat", "image/manifest.json", "image/id.json"); got != strings.Repeat("x", 1100) {
		t.Errorf("content after Undo: %q", got)
	}
}

// TestLock: who changes a dataset waits for another who does, not for ever, and for another git at work in the index.
func TestLock(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	d := l.dataset("ds")
	unlock, err := d.Lock(t.Context())
	must(t, err)
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := d.Lock(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v", err)
	}
	time.AfterFunc(300*time.Millisecond, unlock)
	again, err := d.Lock(t.Context())
	must(t, err)
	again()

	l.write("ds/"+bbImage+"/index.json", "{}\n")
	l.write("ds/.git/index.lock", "")
	c, err := d.Begin(t.Context(), bbImage)
	must(t, err)
	time.AfterFunc(time.Second, func() { os.Remove(l.path("ds/.git/index.lock")) })
	must(t, c.Track(t.Context(), nil))
	if _, err := os.Stat(l.path("ds/.git/index.lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the index was changed under a lock: %v", err)
	}
}
