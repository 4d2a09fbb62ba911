package annex_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dlrun/dlrun/internal/annex"
)

// plant makes a file tree from a small language, one entry a line, and returns
// its physical root, which every "$" stands for:
//
//	git PATH            a git directory
//	annex PATH          a git directory with one annexed object
//	dir|fifo PATH
//	link PATH TARGET    a symlink
//	file PATH TEXT      a file of one line
//	sub ROOT PATH...    ROOT/.gitmodules, registering the paths
func plant(t testing.TB, spec string) string {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.Mkdir(filepath.Join(base, "home"), 0o755))
	for line := range strings.Lines(spec) {
		f := strings.Fields(strings.ReplaceAll(line, "$", base))
		if len(f) == 0 {
			continue
		}
		path := filepath.Join(base, f[1])
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch f[0] {
		case "git", "annex":
			must(t, os.MkdirAll(filepath.Join(path, "objects"), 0o755))
			must(t, os.WriteFile(filepath.Join(path, "HEAD"), []byte("ref: refs/heads/main\n"), 0o644))
			if f[0] == "annex" {
				must(t, os.MkdirAll(filepath.Join(path, "annex/objects/vK/PZ/K"), 0o755))
				must(t, os.WriteFile(filepath.Join(path, "annex/objects/vK/PZ/K/K"), []byte("content\n"), 0o444))
			}
		case "dir":
			must(t, os.MkdirAll(path, 0o755))
		case "fifo":
			must(t, syscall.Mkfifo(path, 0o644))
		case "link":
			must(t, os.Symlink(f[2], path))
		case "file":
			must(t, os.WriteFile(path, []byte(strings.Join(f[2:], " ")+"\n"), 0o644))
		case "sub":
			var text strings.Builder
			for _, sub := range f[2:] {
				text.WriteString("[submodule \"" + sub + "\"]\n\tpath = " + sub + "\n\turl = ./" + sub + "\n")
			}
			must(t, os.MkdirAll(path, 0o755))
			must(t, os.WriteFile(filepath.Join(path, ".gitmodules"), []byte(text.String()), 0o644))
		default:
			t.Fatalf("plant: %q", line)
		}
	}
	return base
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// resolve follows path as a command does inside, where only dir and the binds
// of view exist, and returns where it ends. A path that leaves them fails.
func resolve(t *testing.T, view annex.View, dir, path string) string {
	t.Helper()
	seen := []string{dir}
	for _, b := range append(view.Datasets, view.Objects...) {
		seen = append(seen, b.Path)
	}
	at := "/"
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name)
		mounted, below, above := false, false, false
		for _, s := range seen {
			mounted = mounted || next == s
			below = below || strings.HasPrefix(next, s+"/")
			above = above || next == "/" || strings.HasPrefix(s, next+"/")
		}
		switch {
		case mounted, !below && above:
			at = next
			continue
		case !below:
			t.Errorf("%s: %s is not seen inside", path, next)
			return ""
		}
		fi, err := os.Lstat(next)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return ""
		}
		if fi.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > 40 {
			t.Errorf("%s: loop", path)
			return ""
		}
		target, err := os.Readlink(next)
		must(t, err)
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at
}

// readable fails unless path leads inside to a regular file below a read-only objects bind.
func readable(t *testing.T, view annex.View, dir, path string) {
	t.Helper()
	end := resolve(t, view, dir, path)
	if end == "" {
		return
	}
	if fi, err := os.Stat(end); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("%s ends at %s, which is no file (%v)", path, end, err)
	}
	for _, b := range view.Objects {
		if b.ReadOnly && strings.HasPrefix(end, b.Path+"/") {
			return
		}
	}
	t.Errorf("%s ends at %s, which no read-only bind of %v holds", path, end, view.Objects)
}
