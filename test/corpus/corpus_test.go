package corpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	testimage "github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/processes"
	"github.com/dlrun/dlrun/test/internal/users"
)

const arch = runtime.GOARCH

// What one image may take, refused or not. Alone on a machine none takes more than ten seconds.
const (
	maxTime   = 2 * time.Minute
	maxMemory = 150 << 20 // bytes of anonymous memory at once, of all processes
)

// row is one image and what must become of it.
type row struct {
	name    string
	image   image
	lazy    func() image // instead, where the image is large
	flags   []string     // of dlrun
	verb    string       // of dlrun
	command []string     // instead of a listing of /

	refused []string // what the error says; the exit code is 125
	late    bool     // it is refused when it is run, and may have been unpacked
	want    []check  // what a listing shows
	out     string   // what the command prints
	unlike  bool     // the oracle does not know such images
}

// outside is a directory that hostile images try to reach, by name. The user may write to it.
var outside = fmt.Sprintf("/var/tmp/dlrun-corpus-%d", os.Getuid())

// TestCorpus runs every image on the built binary.
func TestCorpus(t *testing.T) {
	b := newBench(t)
	names := map[string]bool{}
	for _, group := range []struct {
		name string
		rows []row
	}{
		{"whiteouts", whiteouts()}, {"types", types()}, {"links", links()}, {"names", names_()}, {"attributes", attributes()}, {"formats", formats()},
		{"blobs", blobs()}, {"documents", documents()},
		{"escapes", escapes()}, {"lies", lies()}, {"confusions", confusions()}, {"bombs", bombs()}, {"special files", specials()}, {"root", roots()}, {"configs", configs()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, r := range group.rows {
				if name := group.name + "/" + r.name; names[name] {
					t.Fatalf("two images are called %s", name)
				} else {
					names[name] = true
				}
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					b.try(t, r)
				})
			}
		})
	}
	if diff := difference(b.witness, state(t, outside)); diff != "" {
		t.Errorf("%s has changed: %s", outside, diff)
	}
	t.Logf("%d images", len(names))
}

// bench is what all images are tried on.
type bench struct {
	dir           string
	dlrun, lister string
	user          *users.User
	witness       map[string]string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	cache, err := testimage.Cache()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{}
	if b.user, err = users.Get(users.Nosub); err != nil {
		t.Fatal(err)
	}
	if b.dir, err = os.MkdirTemp(cache, "corpus-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, b.dir) })
	if err := os.Chmod(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.dlrun, b.lister = filepath.Join(b.dir, "dlrun"), filepath.Join(b.dir, "treecmp")
	binary, err := os.ReadFile("../../bin/dlrun")
	if err != nil {
		t.Fatalf("%v (make build)", err)
	}
	if err := os.WriteFile(b.dlrun, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", b.lister, "../treecmp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build treecmp: %v: %s", err, out)
	}
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatalf("%v: another run of this test?", err)
	}
	t.Cleanup(func() { remove(t, outside) })
	for name, text := range map[string]string{
		"secret": "SECRET\n", "passwd": "outsider:x:4242:4242::/:/bin/sh\n", "dir/kept": "kept\n",
	} {
		file := filepath.Join(outside, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b.own(t, outside)
	b.witness = state(t, outside)
	return b
}

// own gives what is at dir to the user.
func (b *bench) own(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, b.user.UID, b.user.GID))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir string) {
	if out, err := exec.Command("sh", "-c", `chmod -R u+rwX "$1" && rm -rf "$1"`, "sh", dir).CombinedOutput(); err != nil {
		t.Errorf("remove %s: %v: %s", dir, err, out)
	}
}

// outcome of one run.
type outcome struct {
	code           int
	stdout, stderr string
	took           time.Duration
	memory         int // bytes of anonymous memory, the most that was seen
}

func (b *bench) run(t *testing.T, dir string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), maxTime)
	defer cancel()
	cmd := b.user.Command(ctx, b.dlrun, args...)
	cmd.Dir = "/"
	cmd.Env = append(cmd.Env, "HOME="+filepath.Join(dir, "home"), "TMPDIR="+filepath.Join(dir, "tmp"), "DLRUN_CACHE="+filepath.Join(dir, "store"),
		"XDG_CONFIG_HOME="+filepath.Join(dir, "home"), "HOSTLEAK=leaked")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var o outcome
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	for tick := time.Tick(20 * time.Millisecond); ; {
		select {
		case <-tick:
			o.memory = max(o.memory, processes.Anonymous(cmd.Process.Pid))
			continue
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
		}
		break
	}
	o.took, o.code, o.stdout, o.stderr = time.Since(begun), cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	if ctx.Err() != nil {
		t.Fatalf("it did not end within %v: %s", maxTime, o.stderr)
	}
	return o
}

// try runs one image and judges.
func (b *bench) try(t *testing.T, r row) {
	dir, err := os.MkdirTemp(b.dir, "image-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, dir) })
	for _, name := range []string{"home", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(dir, "image")
	if r.lazy != nil {
		r.image = r.lazy()
	}
	if err := r.image.write(img); err != nil {
		t.Fatal(err)
	}
	b.own(t, dir)
	before := state(t, dir, "tmp")

	args := append([]string{}, r.verb)
	if r.verb == "" {
		args = nil
	}
	args = append(args, "-q", "-w", "/", "-v", b.lister+":/.treecmp:ro")
	args = append(append(args, r.flags...), img, "--")
	listing := len(r.command) == 0 && r.verb == ""
	if listing {
		args = append(args, "/.treecmp", "list", "-ns", "/")
	}
	o := b.run(t, dir, append(args, r.command...)...)
	t.Logf("code %d, %v, %d MiB, %s", o.code, o.took.Round(time.Millisecond), o.memory>>20, strings.TrimSpace(o.stderr))

	if strings.Contains(o.stderr, "goroutine ") || strings.Contains(o.stderr, "internal error") || o.code == 2 {
		t.Errorf("it panicked: %s", o.stderr)
	}
	if o.memory > maxMemory {
		t.Errorf("it took %d MiB of memory", o.memory>>20)
	}
	if diff := difference(before, state(t, dir, "store", "tmp")); diff != "" {
		t.Errorf("changed beside the store: %s", diff)
	}
	left(t, filepath.Join(dir, "store"), len(r.refused) > 0 && !r.late)
	if len(r.refused) > 0 {
		if o.code != 125 || !strings.HasPrefix(o.stderr, "dlrun: ") {
			t.Fatalf("it was not refused: code %d, %q", o.code, o.stderr)
		}
		if n := strings.Count(o.stderr, "\n"); n > 3 || len(o.stderr) > 2000 {
			t.Errorf("the error has %d lines, %d bytes", n, len(o.stderr))
		}
		for _, text := range r.refused {
			if !strings.Contains(o.stderr, text) {
				t.Errorf("the error does not say %q: %s", text, o.stderr)
			}
		}
		return
	}
	if o.code != 0 {
		t.Fatalf("code %d: %s", o.code, o.stderr)
	}
	if o.stderr != "" {
		t.Errorf("on stderr: %q", o.stderr)
	}
	if r.out != "" && o.stdout != r.out {
		t.Errorf("on stdout: %q, want %q", o.stdout, r.out)
	}
	if !listing {
		return
	}
	if !r.unlike {
		b.compare(t, dir, oracle(r.image.archives()).listing(), o.stdout)
	}
	lines := parseListing(t, o.stdout)
	for _, c := range r.want {
		if wrong := c(lines); wrong != "" {
			t.Error(wrong)
		}
	}
}

// compare tells where the run saw something else than the oracle.
func (b *bench) compare(t *testing.T, dir string, want []string, got string) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("an image of nothing compares with anything")
	}
	files := []string{filepath.Join(dir, "want"), filepath.Join(dir, "got")}
	for i, text := range []string{strings.Join(want, "\n") + "\n", got} {
		if err := os.WriteFile(files[i], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(b.lister, "diff", files[0], files[1]).CombinedOutput(); err != nil {
		t.Errorf("the run sees (- oracle, + run): %v\n%s", err, out)
	}
}

func parseListing(t *testing.T, text string) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		quoted, err := strconv.QuotedPrefix(l)
		if err != nil {
			continue // a path that is skipped
		}
		p, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatal(err)
		}
		lines[p] = l
	}
	return lines
}

// left checks what a run leaves in the store: no work, and after a refusal no root.
func left(t *testing.T, store string, refused bool) {
	t.Helper()
	patterns := []string{"tmp/*"}
	if refused {
		patterns = append(patterns, "roots/*", "merged/*")
	}
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(filepath.Join(store, pattern)); len(found) > 0 {
			t.Errorf("left behind: %v", found)
		}
	}
}

// state describes what lies below dir, but for some names in it.
func state(t *testing.T, dir string, but ...string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if slices.Contains(but, rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(fi.Mode(), " ", fi.Size())
		if rel != "." {
			text += fmt.Sprint(" ", fi.ModTime())
		}
		if fi.Mode().IsRegular() && fi.Size() < 1<<20 {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += " " + sha(b)
		}
		m[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func difference(a, b map[string]string) string {
	var out []string
	for _, p := range slices.Sorted(maps.Keys(a)) {
		if a[p] != b[p] {
			out = append(out, fmt.Sprintf("%s: %q -> %q", p, a[p], b[p]))
		}
	}
	for p := range b {
		if _, ok := a[p]; !ok {
			out = append(out, p+": new")
		}
	}
	return strings.Join(out, "; ")
}
