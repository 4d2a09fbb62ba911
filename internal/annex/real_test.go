package annex_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/internal/annex"
)

// lab runs the real git, git-annex and DataLad below one temporary directory.
type lab struct {
	t    *testing.T
	base string
}

// newLab fails where a program is not installed, unless DLRUN_TEST_PARTIAL=1 asks for what can be had.
func newLab(t *testing.T, programs ...string) lab {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("DLRUN_TEST_PARTIAL") == "1" {
				t.Skipf("%s is not installed and DLRUN_TEST_PARTIAL=1", program)
			}
			t.Fatalf("%s is not installed; on Debian: apt install %[1]s (DLRUN_TEST_PARTIAL=1 runs the tests without it)", program)
		}
	}
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	t.Cleanup(func() {
		// git-annex protects its objects by 0555 directories, which an ordinary user cannot empty.
		filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	l := lab{t, base}
	must(t, os.Mkdir(l.path("home"), 0o755))
	t.Setenv("HOME", l.path("home"))
	t.Setenv("XDG_CONFIG_HOME", l.path("home/.config"))
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Setenv("DATALAD_LOG_LEVEL", "error")
	l.run("", "git", "config", "--global", "user.name", "Test")
	l.run("", "git", "config", "--global", "user.email", "test@example.org")
	l.run("", "git", "config", "--global", "init.defaultBranch", "main")
	l.run("", "git", "config", "--global", "protocol.file.allow", "always")
	return l
}

func (l lab) path(rel string) string { return filepath.Join(l.base, rel) }

func (l lab) run(dir string, argv ...string) {
	l.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = l.path(dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

func (l lab) write(path, text string) {
	l.t.Helper()
	must(l.t, os.MkdirAll(filepath.Dir(l.path(path)), 0o755))
	must(l.t, os.WriteFile(l.path(path), []byte(text), 0o644))
}

// annexRepo makes a git-annex repository with one annexed file, d/in.
func (l lab) annexRepo(dir string) {
	l.t.Helper()
	l.write(dir+"/d/in", "content of "+dir+"\n")
	l.run(dir, "git", "init", "-q")
	l.run(dir, "git", "annex", "init", "-q")
	l.run(dir, "git", "annex", "add", "-q", "d")
	l.run(dir, "git", "commit", "-q", "-m", "one file")
}

// view finds what dir must see, compares the datasets, and follows every
// annexed file below the roots, and their .git, as a command inside would.
func (l lab) view(dir, datasets string, o annex.Options, roots ...string) annex.View {
	l.t.Helper()
	view, err := annex.Find(l.path(dir), o)
	must(l.t, err)
	if diff := cmp.Diff(list(l.base, datasets), view.Datasets); diff != "" {
		l.t.Errorf("%s: datasets (-want +got):\n%s", dir, diff)
	}
	for _, root := range roots {
		files := 0
		must(l.t, filepath.WalkDir(l.path(root), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.Name() == ".git" {
				if d.Type()&fs.ModeSymlink != 0 {
					resolve(l.t, view, l.path(dir), path+"/HEAD")
				}
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if target, _ := os.Readlink(path); strings.Contains(target, "/annex/objects/") {
				files++
				readable(l.t, view, l.path(dir), path)
			}
			return nil
		}))
		if files == 0 {
			l.t.Errorf("%s: no annexed file below %s, so nothing is proven", dir, root)
		}
	}
	return view
}

func TestDataLad(t *testing.T) {
	l := newLab(t, "git", "git-annex", "datalad")
	l.run("", "datalad", "create", "top")
	l.run("top", "datalad", "create", "-d", ".", "sub/mid")
	l.run("top", "datalad", "create", "-d", "sub/mid", "sub/mid/deep/inner")
	for _, ds := range []string{"top", "top/sub/mid", "top/sub/mid/deep/inner"} {
		l.write(ds+"/d/in.txt", "content of "+ds+"\n")
	}
	l.run("top", "datalad", "save", "-r", "-m", "files")
	l.run("", "datalad", "clone", "--reckless", "ephemeral", l.path("top"), "eph")
	l.run("", "datalad", "clone", "--reckless", "ephemeral", l.path("eph"), "eph2")
	l.run("", "datalad", "clone", "top", "clone")
	l.run("clone", "datalad", "get", "d", "sub/mid")
	if target, err := os.Readlink(l.path("eph/.git/annex")); err != nil || !filepath.IsAbs(target) {
		t.Fatalf("eph/.git/annex -> %q (%v): not the ephemeral clone that this tests", target, err)
	}

	var o annex.Options
	l.view("top", "top", o, "top")
	l.view("top/d", "top", o, "top")
	l.view("top/sub", "top", o, "top")
	l.view("top/sub/mid/deep", "top", o, "top")
	l.view("top/sub/mid/deep/inner/d", "top", o, "top")
	l.view("eph", "eph", o, "eph")
	l.view("eph/d", "eph", o, "eph")
	l.view("eph2/d", "eph2", o, "eph2")
	l.view("clone/sub/mid", "clone", o, "clone")

	l.run("", "git", "init", "-q", "top/unregistered")
	l.view("top/unregistered", "top/unregistered", o)
	l.view("top/d", "", annex.Options{Home: l.path("top")}, "top/d")
	l.view("top/sub/mid/d", "top/sub/mid", annex.Options{Home: l.path("top")}, "top/sub/mid")
	others := annex.Options{Owned: func(path string) bool { return path != l.path("top") }}
	l.view("top/sub/mid/deep/inner", "top/sub/mid", others, "top/sub/mid")
	l.view("top/d", "", others, "top/d")

	for path, want := range map[string]int{"top": 3, "top/sub": 3, "top/d/in.txt": 1, "top/sub/mid/deep/inner": 1, "eph": 1, "eph/d": 2} {
		objects, err := annex.ObjectsBelow(l.path(path))
		must(t, err)
		if len(objects) != want {
			t.Errorf("%d annex objects directories below %s, want %d: %q", len(objects), path, want, objects)
		}
	}
}

func TestWorktree(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	l.annexRepo("ds")
	l.run("ds", "git", "worktree", "add", "-q", "../wt")
	l.view("wt", "ds/.git wt", annex.Options{}) // .git is still a file
	l.run("wt", "git", "annex", "init", "-q")
	l.view("wt", "ds/.git wt", annex.Options{}, "wt")
	l.view("wt/d", "ds/.git wt", annex.Options{}, "wt")
	l.view("ds/d", "ds", annex.Options{}, "ds")
}

func TestSubmodule(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	l.annexRepo("source")
	l.annexRepo("top")
	l.run("top", "git", "submodule", "--quiet", "add", "../source", "a b/sub")
	l.run("top", "git", "commit", "-q", "-m", "submodule")
	l.view("top/a b/sub", "top", annex.Options{}, "top/d")
	l.run("top/a b/sub", "git", "annex", "init", "-q")
	l.run("top/a b/sub", "git", "annex", "get", "-q", ".")
	l.view("top/a b/sub/d", "top", annex.Options{}, "top")
	l.view("top/a b/sub/d", "top/.git/modules/a?b/sub top/a?b/sub", annex.Options{Home: l.path("top")}, "top/a b/sub")
	l.run("top", "git", "submodule", "--quiet", "deinit", "-f", "a b/sub")
	if view := l.view("top", "top", annex.Options{}, "top"); len(view.Objects) != 2 {
		t.Errorf("objects %v: those of the submodule that was removed are still seen in .git", view.Objects)
	}
}

func TestSeparateGitDir(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	must(t, os.Mkdir(l.path("store"), 0o755))
	l.run("", "git", "init", "-q", "--separate-git-dir", l.path("store/ds.git"), "ds")
	l.annexRepo("ds")
	l.view("ds/d", "ds ro:store/ds.git", annex.Options{}, "ds")
}

// TestHomeIsAnnex is git-annex's own first use: a home directory under git.
func TestHomeIsAnnex(t *testing.T) {
	l := newLab(t, "git", "git-annex")
	l.annexRepo("home")
	l.write("home/.ssh/id_rsa", "secret\n")
	l.view("home/d", "", annex.Options{}, "home/d")
}
