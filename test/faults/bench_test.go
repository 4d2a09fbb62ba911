package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/users"
)

// patience is how long any run may take, with strace looking on.
const patience = 2 * time.Minute

// bench is what every fault is tried on.
type bench struct {
	dir, dlrun, lister string
	image, want        string // the image, and the listing of what a run sees
	other              string // another image
	user               *users.User
	stores             int
	one                time.Duration // of a first run
}

func newBench(t *testing.T) *bench {
	t.Helper()
	// What a run leaves behind becomes a child of this process, and is seen.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	cache, err := image.Cache()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{}
	if b.user, err = users.Get(users.Nosub); err != nil {
		t.Fatal(err)
	}
	if b.dir, err = os.MkdirTemp(cache, "faults-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("sh", "-c", `chmod -R u+rwX "$1" && rm -rf "$1"`, "sh", b.dir).CombinedOutput(); err != nil {
			t.Errorf("remove %s: %v: %s", b.dir, err, out)
		}
	})
	b.dlrun, b.lister, b.image = filepath.Join(b.dir, "dlrun"), filepath.Join(b.dir, "treecmp"), filepath.Join(b.dir, "image")
	b.other = filepath.Join(b.dir, "other")
	binary, err := os.ReadFile("../../bin/dlrun")
	if err != nil {
		t.Fatalf("%v (make build)", err)
	}
	scratch := t.TempDir()
	if err := errors.Join(os.WriteFile(b.dlrun, binary, 0o755), os.Chmod(b.dir, 0o755),
		image.Write(b.image, scratch, v1.Config{}, image.Gzip, layers()...),
		image.Write(b.other, scratch, v1.Config{}, image.Gzip, image.Entries(image.File("f", 0o644, "x")))); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", b.lister, "../treecmp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build treecmp: %v: %s", err, out)
	}
	if err := os.Chown(b.dir, b.user.UID, b.user.GID); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	store := b.store(t)
	o := b.run(t, store)
	b.one = time.Since(begun)
	b.clear(t, store)
	if o.code != 0 || !strings.Contains(o.stdout, `"/layer3/d7/f9" file`) || strings.Contains(o.stdout, `"/layer0/d1"`) {
		t.Fatalf("the run without a fault: code %d: %s", o.code, o.stderr)
	}
	b.want = o.stdout
	return b
}

// layers are four of some hundred files, with all that an unpack does at its end: whiteouts, opaque and read-only
// directories, and directories that upper layers imply.
func layers() []image.Layer {
	r := rand.New(rand.NewPCG(1, 2))
	var list []image.Layer
	for l := range 4 {
		top := fmt.Sprintf("layer%d/", l)
		entries := []image.Entry{image.Dir(top, 0o711), image.Dir("shared/", 0o750), image.File(fmt.Sprintf("shared/%d", l), 0o644, "x")}
		for d := range 8 {
			dir := fmt.Sprintf("%sd%d/", top, d)
			entries = append(entries, image.Dir(dir, 0o555))
			for f := range 25 {
				text := make([]byte, r.IntN(30_000))
				for i := range text {
					text[i] = byte('a' + r.IntN(16))
				}
				entries = append(entries, image.File(fmt.Sprintf("%sf%d", dir, f), 0o444, string(text)))
			}
		}
		if l > 0 {
			entries = append(entries, image.Whiteout(fmt.Sprintf("layer%d/d1", l-1)), image.Opaque(fmt.Sprintf("layer%d/d2", l-1)),
				image.File(fmt.Sprintf("layer%d/d3/more", l-1), 0o600, "more"))
		}
		list = append(list, image.Entries(entries...))
	}
	return list
}

// store names one that does not exist.
func (b *bench) store(t *testing.T) string {
	t.Helper()
	b.stores++
	return filepath.Join(b.dir, fmt.Sprint("store-", b.stores))
}

// outcome of one run.
type outcome struct {
	code           int // -1: killed
	stdout, stderr string
	took           time.Duration
}

// command lists the image through store. before is put in front: strace, prlimit.
func (b *bench) command(ctx context.Context, store string, before ...string) *exec.Cmd {
	args := append(slices.Clone(before), b.dlrun, "-q", "--cache", store, "-w", "/", "-v", b.lister+":/.treecmp:ro", b.image, "--",
		"/.treecmp", "list", "-skip", "/home", "-skip", "/var", "/")
	cmd := b.user.Command(ctx, args[0], args[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(cmd.Env, "TMPDIR="+b.dir, "XDG_CONFIG_HOME="+b.dir)
	cmd.SysProcAttr.Setpgid = true
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func (b *bench) run(t *testing.T, store string, before ...string) outcome {
	t.Helper()
	return b.runWith(t, store, nil, before...)
}

// runWith runs, and calls during once the run has begun.
func (b *bench) runWith(t *testing.T, store string, during func(cmd *exec.Cmd), before ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := b.command(ctx, store, before...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during(cmd)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if ctx.Err() != nil {
		t.Errorf("it hung: %s", stderr.String())
	}
	return outcome{cmd.ProcessState.ExitCode(), seen(stdout.String()), stderr.String(), time.Since(begun)}
}

// seen is what of a listing depends on the image. Directories that are made for mount points are as old as the run.
func seen(listing string) string {
	var kept []string
	for l := range strings.Lines(listing) {
		switch {
		case strings.HasPrefix(l, "skip "):
		case strings.HasPrefix(l, `"/layer`), strings.HasPrefix(l, `"/shared`):
			kept = append(kept, l)
		default:
			l, _, _ = strings.Cut(l, " mtime=")
			kept = append(kept, l+"\n")
		}
	}
	return strings.Join(kept, "")
}

// tally is a line of the table.
type tally struct {
	fault                                  string
	tries, right, refused, killed          int
	wrong, next, garbage, orphans, unclear int
}

// judge looks at a run that had a fault, and at the next one.
func (b *bench) judge(t *testing.T, y *tally, store, what string, o outcome) {
	t.Helper()
	y.tries++
	switch {
	case o.code == 0 && o.stdout == b.want:
		y.right++
	case o.code == 0:
		y.wrong++
		t.Errorf("%s: exit code 0 and the wrong tree: %s", what, o.stderr)
	case o.code < 0 || o.code == 137:
		y.killed++
	default:
		y.refused++
	}
	// Go gives up in its own words where there is no memory and no thread to be had.
	ownWords := strings.Contains(o.stderr, "out of memory") || strings.Contains(o.stderr, "cannot allocate") ||
		strings.Contains(o.stderr, "pthread_create failed") || strings.Contains(o.stderr, "new OS thread") || strings.Contains(o.stderr, "netpollBreak")
	if strings.Contains(o.stderr, "goroutine ") && !ownWords {
		y.unclear++
		t.Errorf("%s: %s", what, o.stderr)
	}
	if left := outlived(); left != "" {
		y.orphans++
		t.Errorf("%s: outlived the run: %s", what, left)
	}
	b.judgeNext(t, y, store, what)
}

// judgeNext looks at the next run, which has no fault.
func (b *bench) judgeNext(t *testing.T, y *tally, store, what string) {
	t.Helper()
	if next := b.run(t, store); next.code != 0 || next.stdout != b.want {
		y.next++
		t.Errorf("%s: the next run: code %d, right tree: %v: %s", what, next.code, next.stdout == b.want, next.stderr)
	}
	left, _ := filepath.Glob(store + "/tmp/*")
	if len(left) > 0 { // a run that unpacks nothing sweeps nothing
		if out, err := b.user.Command(t.Context(), b.dlrun, "unpack", "--cache", store, b.other).CombinedOutput(); err != nil {
			t.Errorf("%s: unpack another image: %v: %s", what, err, out)
		}
		left, _ = filepath.Glob(store + "/tmp/*")
	}
	if len(left) > 0 {
		y.garbage++
		t.Errorf("%s: the next run leaves %v", what, left)
	}
	b.clear(t, store)
}

// clear removes a store, and what else lies beside the image.
func (b *bench) clear(t *testing.T, store string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", `test ! -e "$1" || { chmod -R u+rwX "$1" && rm -rf "$1"; }`, "sh", store).CombinedOutput(); err != nil {
		t.Errorf("remove %s: %v: %s", store, err, out)
	}
}

// outlived names the processes of a run that are there after its end; they have a moment to go.
func outlived() string {
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var left []string
		for _, pid := range children() {
			if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil && got == pid {
				continue
			}
			cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			left = append(left, fmt.Sprint(pid, " ", strings.ReplaceAll(string(cmdline), "\x00", " ")))
		}
		if len(left) == 0 {
			return ""
		}
		if time.Now().After(end) {
			for _, pid := range children() {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			return strings.Join(left, ", ")
		}
	}
}

// children of this process; no other test runs beside.
func children() []int {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for f := range strings.FieldsSeq(string(text)) {
			var pid int
			if _, err := fmt.Sscan(f, &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// calls counts the system calls of a first run, by name: those of the thread that makes the most, since strace counts
// for each by itself.
func (b *bench) calls(t *testing.T, names []string) map[string]int {
	t.Helper()
	store, trace := b.store(t), filepath.Join(b.dir, "trace")
	o := b.run(t, store, "strace", "-f", "--seccomp-bpf", "-q", "-o", trace, "-e", "signal=none", "-e", "trace="+strings.Join(names, ","))
	if o.code != 0 {
		t.Fatalf("strace: code %d: %s", o.code, o.stderr)
	}
	b.clear(t, store)
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	count, threads := map[string]int{}, map[string]int{}
	for l := range strings.Lines(string(data)) {
		pid, call, ok := strings.Cut(strings.TrimSpace(l), " ")
		if name, _, isCall := strings.Cut(strings.TrimSpace(call), "("); ok && isCall && !strings.HasPrefix(call, "<...") {
			threads[pid+name]++
			count[name] = max(count[name], threads[pid+name])
		}
	}
	return count
}

// nth are n of the numbers from 1 to a third of count, spread evenly: the next run may share its calls among more
// threads.
func nth(n, count int) []int {
	count = (count + 2) / 3
	var list []int
	for i := range min(n, count) {
		list = append(list, 1+(2*i+1)*count/(2*min(n, count)))
	}
	for i := range list {
		list[i] = min(list[i], count)
	}
	return slices.Compact(list)
}
