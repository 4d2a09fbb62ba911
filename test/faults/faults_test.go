package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// long is set for the many tries of `make faults`.
var long = os.Getenv("DLRUN_TEST_FAULTS") == "long"

// of is how many tries to make.
func of(short, many int) int {
	if long {
		return many
	}
	return short
}

func TestFaults(t *testing.T) {
	b := newBench(t)
	t.Logf("a first run takes %v", b.one.Round(time.Millisecond))
	var table []*tally
	for _, f := range []struct {
		name string
		do   func(t *testing.T, y *tally)
	}{
		{"kill -9, spread over the run", b.kills},
		{"kill -9 while it is published", b.killsInPublish},
		{"SIGINT, SIGTERM, SIGHUP in mid-unpack", b.signals},
		{"a system call fails: EIO", func(t *testing.T, y *tally) { b.failing(t, y, "EIO", all) }},
		{"a system call fails: ENOSPC", func(t *testing.T, y *tally) { b.failing(t, y, "ENOSPC", writing) }},
		{"a system call fails: EDQUOT", func(t *testing.T, y *tally) { b.failing(t, y, "EDQUOT", writing) }},
		{"a system call fails: ENOMEM, EMFILE", b.exhausted},
		{"flock is refused", b.withoutLocks},
		{"memory, file size, open files limited", b.limits},
		{"a cache entry is damaged or deleted", b.damaged},
		{"clocks of 1971 and 2099", b.clocks},
		{"a cache that cannot be written", b.readOnly},
		{"a full disk", b.full},
		{"no inodes", b.inodes},
		{"64 first runs at once", b.storm},
		{"8 first runs at once, 3 of them killed", b.stormKilled},
	} {
		t.Run(f.name, func(t *testing.T) {
			y := &tally{fault: f.name}
			f.do(t, y)
			if y.tries == 0 {
				t.Error("nothing was tried")
			}
			table = append(table, y)
		})
	}
	text := format(table)
	t.Logf("\n%s", text)
	if file := os.Getenv("DLRUN_TEST_FAULTS_TABLE"); file != "" && !t.Failed() {
		if err := replaceTable(file, text); err != nil {
			t.Error(err)
		}
	}
}

// format is the table in Markdown.
func format(table []*tally) string {
	var s strings.Builder
	s.WriteString("| fault | tries | right tree | refused | killed | wrong tree, exit code 0 | next run not right | left after it | outlived |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, y := range table {
		fmt.Fprintf(&s, "| %s | %d | %d | %d | %d | %d | %d | %d | %d |\n", y.fault, y.tries, y.right, y.refused, y.killed, y.wrong, y.next, y.garbage, y.orphans)
	}
	return s.String()
}

// replaceTable puts the table between its marks in a document.
func replaceTable(file, table string) error {
	const begin, end = "<!-- make faults -->\n", "<!-- end -->\n"
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(doc), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table", file)
	}
	return os.WriteFile(file, []byte(head+begin+table+end+tail), 0o644)
}

// kills ends runs at times that cover a first run evenly: the process that the caller knows, all processes of the
// run, and the one that unpacks.
func (b *bench) kills(t *testing.T, y *tally) {
	n := of(9, 60)
	for i := range n {
		store := b.store(t)
		at := b.one * time.Duration(2*i+1) / time.Duration(2*n)
		how := []string{"the front", "all", "who unpacks"}[i%3]
		o := b.runWith(t, store, func(cmd *exec.Cmd) {
			time.Sleep(at)
			pid := cmd.Process.Pid
			switch how {
			case "all":
				pid = -pid
			case "who unpacks":
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
				if f := strings.Fields(string(text)); len(f) > 0 {
					pid, _ = strconv.Atoi(f[len(f)-1])
				}
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
		})
		b.judge(t, y, store, fmt.Sprintf("%s killed after %v", how, at.Round(time.Millisecond)), o)
	}
}

// publishing are the calls that give what was unpacked its place and look.
var publishing = []string{"renameat", "rename", "renameat2", "mknodat", "mknod", "lsetxattr", "fchmodat", "utimensat", "fsync", "syncfs", "unlinkat", "flock"}

// killsInPublish ends runs at those calls.
func (b *bench) killsInPublish(t *testing.T, y *tally) {
	counts := b.calls(t, publishing)
	n := of(9, 60)
	if counts["renameat"]+counts["rename"]+counts["renameat2"] < 2 {
		t.Fatalf("hardly a call of rename in a run of four layers: %v", counts)
	}
	tried := 0
	for round := 0; tried < n; round++ {
		for _, name := range publishing {
			list := nth(of(2, 20), counts[name])
			if round >= len(list) || tried >= n {
				continue
			}
			store := b.store(t)
			// Not --seccomp-bpf, with which strace injects no signals.
			o := b.run(t, store, "strace", "-f", "-q", "-o", "/dev/null", "-e", "trace="+name,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", name, list[round]))
			b.judge(t, y, store, fmt.Sprintf("killed at call %d of %s", list[round], name), o)
			tried++
		}
		if round > 50 {
			break
		}
	}
	if y.killed < y.tries/2 {
		t.Errorf("of %d runs %d were killed", y.tries, y.killed)
	}
}

func (b *bench) signals(t *testing.T, y *tally) {
	n := of(6, 30)
	for i := range n {
		store := b.store(t)
		sig := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}[i%3]
		at := b.one * time.Duration(2*i+1) / time.Duration(2*n)
		var sent time.Time
		o := b.runWith(t, store, func(cmd *exec.Cmd) {
			time.Sleep(at)
			sent = time.Now()
			_ = cmd.Process.Signal(sig)
		})
		took := time.Since(sent)
		what := fmt.Sprintf("%v after %v", sig, at.Round(time.Millisecond))
		if o.code != 0 && o.code != 128+int(sig) && at > 20*time.Millisecond {
			t.Errorf("%s: exit code %d: %s", what, o.code, o.stderr)
		}
		if took > 2*time.Second {
			t.Errorf("%s: it took %v to end", what, took)
		}
		if left, _ := filepath.Glob(store + "/tmp/*"); len(left) > 0 {
			t.Errorf("%s: left %v", what, left)
		}
		b.judge(t, y, store, what, o)
	}
}

// The calls that are made to fail.
var (
	writing = []string{"write", "pwrite64", "openat", "mkdirat", "renameat", "symlinkat", "linkat", "mknodat", "ftruncate", "lsetxattr", "fchmodat", "utimensat", "syncfs"}
	all     = append([]string{"read", "pread64", "newfstatat", "fstat", "statfs", "fstatfs", "getdents64", "readlinkat", "unlinkat", "flock", "lseek", "llistxattr", "lgetxattr", "fcntl",
		"mount", "fsmount", "fsconfig", "move_mount", "open_tree", "unshare", "clone3", "clone", "execve", "socketpair", "pipe2", "mmap"}, writing...)
)

func (b *bench) failing(t *testing.T, y *tally, errno string, names []string) {
	counts := b.calls(t, names)
	for i, name := range names {
		if !long && i%3 != 0 {
			continue
		}
		for _, when := range nth(of(1, 10), counts[name]) {
			b.inject(t, y, name, fmt.Sprintf("error=%s:when=%d", errno, when))
		}
		if long && counts[name] > 1 { // and all of them from there on
			b.inject(t, y, name, fmt.Sprintf("error=%s:when=%d+", errno, 1+counts[name]/2))
		}
	}
}

func (b *bench) inject(t *testing.T, y *tally, name, how string) {
	t.Helper()
	store := b.store(t)
	o := b.run(t, store, "strace", "-f", "--seccomp-bpf", "-q", "-o", "/dev/null", "-e", "trace="+name, "-e", "inject="+name+":"+how)
	b.judge(t, y, store, name+":"+how, o)
}

func (b *bench) exhausted(t *testing.T, y *tally) {
	for errno, names := range map[string][]string{"ENOMEM": {"mmap", "clone3", "clone", "openat", "mkdirat"}, "EMFILE": {"openat", "fcntl", "pipe2", "socketpair"}} {
		b.failing(t, y, errno, names)
	}
}

func (b *bench) withoutLocks(t *testing.T, y *tally) {
	for _, errno := range []string{"ENOLCK", "ENOSYS", "EOPNOTSUPP"} {
		b.inject(t, y, "flock", "error="+errno)
	}
	// Several at once, none of which can know of the others.
	store := b.store(t)
	var wg sync.WaitGroup
	outcomes := make([]outcome, of(3, 8))
	for i := range outcomes {
		wg.Go(func() {
			outcomes[i] = b.run(t, store, "strace", "-f", "--seccomp-bpf", "-q", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK")
		})
	}
	wg.Wait()
	for _, o := range outcomes {
		if y.tries++; o.code == 0 && o.stdout == b.want {
			y.right++
		} else {
			y.wrong++
			t.Errorf("at once, without locks: code %d: %s", o.code, o.stderr)
		}
	}
	b.judgeNext(t, y, store, "at once, without locks")
}

func (b *bench) limits(t *testing.T, y *tally) {
	list := []string{"--as=200000000", "--as=1000000000", "--as=2000000000", "--data=20000000", "--data=100000000", "--fsize=100", "--fsize=20000", "--nofile=16", "--nofile=24"}
	if long {
		for n := 10; n < 64; n += 6 {
			list = append(list, fmt.Sprintf("--nofile=%d", n))
		}
		for n := 100; n < 3000; n += 200 {
			list = append(list, fmt.Sprintf("--as=%d000000", n))
		}
		for n := 5; n < 200; n += 15 {
			list = append(list, fmt.Sprintf("--data=%d000000", n))
		}
	}
	for _, limit := range list {
		store := b.store(t)
		b.judge(t, y, store, limit, b.run(t, store, "prlimit", limit))
	}
}

// damaged does to the store of an image what a full disk, a crash or a hasty hand might, with a run at work or without.
func (b *bench) damaged(t *testing.T, y *tally) {
	for name, script := range map[string]string{
		"marker gone":               `rm roots/*.json`,
		"marker empty":              `for f in roots/*.json; do : >$f; done`,
		"marker cut off":            `for f in roots/*.json; do head -c 50 $f >t; cp t $f; rm t; done`,
		"marker of zeros":           `for f in roots/*.json; do head -c 300 /dev/zero >t; cp t $f; rm t; done`,
		"marker a directory":        `for f in roots/*.json; do rm $f; mkdir $f; done`,
		"meta gone":                 `rm roots/*.json layers/*/meta.json`,
		"meta cut off":              `rm roots/*.json; for f in layers/*/meta.json; do head -c 20 $f >t; cp t $f; rm t; done`,
		"a layer gone":              `set -- layers/*; chmod -R u+w $1; rm -rf $1`,
		"all layers gone":           `chmod -R u+w layers; rm -rf layers/*`,
		"a layer a file":            `set -- layers/*; chmod -R u+w $1; rm -rf $1; : >$1`,
		"fs gone":                   `set -- layers/*; chmod -R u+w $1; rm -rf $1/fs`,
		"fs empty":                  `set -- layers/*; chmod -R u+w $1; rm -rf $1/fs/*`,
		"a directory of it gone":    `set -- layers/*/fs/layer1; chmod -R u+w $1; rm -rf $1`,
		"implied directories gone":  `for d in roots/*/; do chmod -R u+w $d; rm -rf $d; done`,
		"all but the layers gone":   `chmod -R u+w roots tmp locks merged; rm -rf roots tmp locks merged`,
		"everything gone":           `chmod -R u+w .; rm -rf *`,
		"tmp a file":                `rm -r tmp; : >tmp`,
		"locks gone":                `rm -r locks`,
		"the seccomp filter broken": `for f in seccomp/*; do : >$f; done`,
	} {
		for _, running := range []bool{false, true} {
			if running && !long && name != "fs empty" && name != "a layer gone" {
				continue
			}
			store := b.store(t)
			if o := b.run(t, store); o.code != 0 {
				t.Fatalf("the first run: %s", o.stderr)
			}
			cmd := b.user.Command(t.Context(), "sh", "-ec", script)
			cmd.Dir = store
			var during func(*exec.Cmd)
			spoil := func() {
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", name, err, out)
				}
			}
			if running {
				name += ", under a run"
				during = func(*exec.Cmd) { time.Sleep(5 * time.Millisecond); spoil() }
			} else {
				spoil()
			}
			o := b.runWith(t, store, during)
			if running && o.code == 0 {
				o.stdout = b.want // it may have read what was then removed; how it ends is what counts
			}
			b.judge(t, y, store, name, o)
		}
	}
}

// clocks stamps image and store with times of clocks that were wrong, which is all that dlrun sees of them.
func (b *bench) clocks(t *testing.T, y *tally) {
	for _, stamp := range []string{"1971-01-01", "2099-01-01"} {
		store := b.store(t)
		touch := func(dir string) {
			if out, err := exec.Command("find", dir, "-exec", "touch", "-h", "-d", stamp, "{}", "+").CombinedOutput(); err != nil {
				t.Fatalf("touch: %v: %s", err, out)
			}
		}
		touch(b.image)
		b.judge(t, y, store, "an image of "+stamp, b.run(t, store))
		store = b.store(t)
		if o := b.run(t, store); o.code != 0 {
			t.Fatal(o.stderr)
		}
		touch(store) // the layers count as damaged then
		b.judge(t, y, store, "a store of "+stamp, b.run(t, store))
		store = b.store(t)
		if o := b.run(t, store); o.code != 0 {
			t.Fatal(o.stderr)
		}
		touch(filepath.Join(store, "roots"))
		for _, age := range []string{"1d", "40000d"} {
			gc := b.user.Command(t.Context(), b.dlrun, "cache", "gc", "--cache", store, "--older-than", age)
			if out, err := gc.CombinedOutput(); err != nil {
				t.Errorf("gc: %v: %s", err, out)
			}
		}
		b.judge(t, y, store, "markers of "+stamp, b.run(t, store))
	}
}

// readOnly is a site's cache: with the image it serves, without it says so.
func (b *bench) readOnly(t *testing.T, y *tally) {
	store := b.store(t)
	if o := b.run(t, store); o.code != 0 {
		t.Fatal(o.stderr)
	}
	if err := b.user.Command(t.Context(), "sh", "-c", `cd "$1" && chmod a-w . layers layers/* roots merged tmp locks seccomp`, "sh", store).Run(); err != nil {
		t.Fatal(err)
	}
	o := b.run(t, store)
	if o.code != 0 {
		t.Errorf("with the image: %s", o.stderr)
	}
	b.judge(t, y, store, "with the image", o)

	store = b.store(t)
	if err := errors.Join(os.Mkdir(store, 0o555), os.Chown(store, b.user.UID, b.user.GID)); err != nil {
		t.Fatal(err)
	}
	o = b.run(t, store)
	if o.code != 125 || !strings.Contains(o.stderr, "cannot take it") || !strings.Contains(o.stderr, "--cache DIR") {
		t.Errorf("without the image: code %d, %s", o.code, o.stderr)
	}
	if err := os.Chmod(store, 0o700); err != nil {
		t.Fatal(err)
	}
	b.judge(t, y, store, "without the image", o)
}

// storm is many first runs at once: they take twice as long as one, and half more room on disk, at most.
func (b *bench) storm(t *testing.T, y *tally) {
	const runs = 64
	store := b.store(t)
	begun := time.Now()
	if o := b.run(t, store); o.code != 0 {
		t.Fatal(o.stderr)
	}
	one, size := time.Since(begun), usage(store)
	begun = time.Now()
	var wg sync.WaitGroup
	for range runs {
		wg.Go(func() { b.run(t, store) })
	}
	wg.Wait()
	warm := time.Since(begun) // what so many take that unpack nothing
	b.clear(t, store)
	outcomes := make([]outcome, runs)
	begun = time.Now()
	for i := range outcomes {
		wg.Go(func() { outcomes[i] = b.run(t, store) })
	}
	done := make(chan bool)
	peak := make(chan int64)
	go func() {
		var most int64
		for {
			select {
			case <-done:
				peak <- most
				return
			case <-time.After(20 * time.Millisecond):
				most = max(most, usage(store))
			}
		}
	}()
	wg.Wait()
	took := time.Since(begun)
	close(done)
	most := <-peak
	for _, o := range outcomes {
		if y.tries++; o.code == 0 && o.stdout == b.want {
			y.right++
		} else {
			y.wrong++
			t.Errorf("code %d: %s", o.code, o.stderr)
		}
	}
	t.Logf("one first run %v, %d warm ones at once %v, %d first ones at once %v; on disk %d kB, at most %d kB", one, runs, warm, runs, took, size>>10, most>>10)
	if took > 2*(one+warm) {
		t.Errorf("%d first runs at once took %v, one %v and that many warm ones %v", runs, took, one, warm)
	}
	if most > size*3/2 {
		t.Errorf("%d bytes on disk at once, of one run %d", most, size)
	}
	b.judgeNext(t, y, store, "after all")
}

// stormKilled ends some of several first runs, whoever unpacks among them: the others are right.
func (b *bench) stormKilled(t *testing.T, y *tally) {
	const runs, dead = 8, 3
	n := of(3, 20)
	for i := range n {
		store := b.store(t)
		at := 2 * b.one * time.Duration(i+1) / time.Duration(n+1)
		outcomes := make([]outcome, runs)
		var wg sync.WaitGroup
		for j := range outcomes {
			wg.Go(func() {
				outcomes[j] = b.runWith(t, store, func(cmd *exec.Cmd) {
					if j < dead {
						time.Sleep(at)
						_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
					}
				})
			})
		}
		wg.Wait()
		for j, o := range outcomes {
			switch y.tries++; {
			case o.code == 0 && o.stdout == b.want:
				y.right++
			case o.code == -1 && j < dead:
				y.killed++
			default:
				y.wrong++
				t.Errorf("after %v, run %d: code %d: %s", at, j, o.code, o.stderr)
			}
		}
		b.judgeNext(t, y, store, fmt.Sprintf("three killed after %v", at))
	}
}

// usage is what a tree takes on disk, in bytes.
func usage(dir string) int64 {
	out, _ := exec.Command("du", "-s", "--block-size=1", dir).Output() // what vanishes meanwhile is no failure
	var n int64
	_, _ = fmt.Sscan(string(out), &n)
	return n
}
