package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/users"
)

// stepDesk is a desk at which a job step runs.
type stepDesk struct {
	*desk
	job, step int
}

func newStep(t *testing.T) *stepDesk {
	t.Helper()
	return &stepDesk{desk: newDesk(t), job: os.Getpid()}
}

// rank is a run of one of many tasks of the step.
func (s *stepDesk) rank(t *testing.T, n int, args ...string) *exec.Cmd {
	cmd := s.command(t, "dlrun", args...)
	cmd.Env = append(slices.Clone(s.env), fmt.Sprintf("SLURM_JOB_ID=%d", s.job), fmt.Sprintf("SLURM_STEP_ID=%d", s.step),
		"SLURM_NODEID=0", "SLURM_STEP_TASKS_PER_NODE=64", fmt.Sprintf("SLURM_PROCID=%d", n))
	return cmd
}

// held is a rank whose command has said a line and waits for the end of its stdin.
type held struct {
	*testing.T
	cmd  *exec.Cmd
	in   io.Closer
	line string
}

// hold starts a rank: flags, then what it runs in sh before it says "up"; what that prints is the line.
func (s *stepDesk) hold(t *testing.T, n int, script string, flags ...string) *held {
	t.Helper()
	return s.holdCommand(t, s.rank(t, n, append(flags, s.image(), "--", "sh", "-c", script+"; read end || :")...))
}

func (s *stepDesk) holdCommand(t *testing.T, cmd *exec.Cmd) *held {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return &held{t, cmd, in, strings.TrimSpace(line)}
}

// leave ends the command and returns its exit code.
func (h *held) leave() int {
	h.in.Close()
	return exitCode(h.cmd.Wait())
}

// leaveAll ends the commands, which all succeed.
func leaveAll(t *testing.T, ranks ...*held) {
	t.Helper()
	for _, rank := range ranks {
		if code := rank.leave(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

// namespaces is a script that prints the container's.
const namespaces = `echo $(readlink /proc/self/ns/user) $(readlink /proc/self/ns/mnt)`

// steps lists what is in the directory of meetings of the desk's user.
func (s *stepDesk) steps() []string {
	names, _ := filepath.Glob(fmt.Sprintf("/tmp/dlrun-%d/steps/*", s.UID))
	return names
}

// clean fails when processes, sockets or files of the step are left.
func (s *stepDesk) clean(t *testing.T, before []string) {
	t.Helper()
	s.settle(t)
	for _, name := range s.steps() {
		if !slices.Contains(before, name) {
			t.Errorf("left: %s", name)
		}
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, "dlrun-*", "run-*", "*", "*"))
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// state prints what a process finds: who and where it is, what it may, and what it has.
const state = `
	grep -E '^(Umask|Uid|Gid|Groups|Sig...|Shd...|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Speculation.*|Cpus_allowed_list|Mems_allowed_list|CoreDumping|THP_enabled):' /proc/self/status
	for ns in /proc/self/ns/*; do readlink $ns; done
	for file in mountinfo limits cgroup uid_map gid_map setgroups oom_score_adj loginuid personality timerslack_ns coredump_filter; do cat /proc/self/$file; done
	awk '{ print "nice", $19, "leads its session and group:", $1 == $5, $1 == $6, "terminal", $7 }' /proc/$$/stat
	pwd; id; hostname; wc -l </proc/net/dev
	env | grep -v -E '^(SLURM_PROCID|_)=' | sort
	ls -l /proc/self/fd | awk '{ print $9, $11 }' | sed 's/:.*//; s,/proc/[0-9]*/,,; s/state.*//'
	stat -c "%n %F %a %u %g" /tmp /dev/shm $PWD / /etc/passwd`

// TestJoinedState compares what a rank that has joined finds with what the first one does.
func TestJoinedState(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	for _, c := range []struct {
		name, scene string
		flags       []string
	}{
		{"as it is", ":", nil},
		{"uid 0", ":", []string{"--root"}},
		{"umask, limits, signals", "umask 027; ulimit -S -n 100; ulimit -c 0; trap '' USR2", nil},
		{"processors and niceness", "renice -n 5 $$ >/dev/null; taskset -cp $(sed -n 's/^Cpus_allowed_list:.\\([0-9]*\\).*/\\1/p' /proc/$$/status) $$ >/dev/null", nil},
		{"the file of PMI", "exec 5</dev/null 7</dev/zero; export PMI_FD=7", nil},
		{"kept files", "exec 3</dev/null 4</dev/zero 9</dev/null", []string{"--preserve-fds", "2"}},
		{"no network, another name", ":", []string{"--join", "--network", "none", "--hostname", "other"}},
		{"read-only, without a filter", ":", []string{"--read-only", "--seccomp", "unconfined"}},
		{"variables and a directory", "export OMP_NUM_THREADS=3 SECRET=1", []string{"-e", "A=b", "-w", "/lower"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.step++
			var ranks []*held
			var found []string
			for n := range 3 {
				file := filepath.Join(s.dir, fmt.Sprintf("state.%d.%d", s.step, n))
				script := fmt.Sprintf("{ %s\n} >%s/state.%d.$SLURM_PROCID 2>&1; echo up; read end || :", state, s.dir, s.step)
				flags := slices.Clone(c.flags)
				if n == 2 { // it is not alike, and joins all the same
					flags = append(flags, "--mpi=auto")
				}
				cmd := s.rank(t, n, append(flags, s.image(), "--", "sh", "-c", script)...)
				cmd.Args = append([]string{"sh", "-c", c.scene + `; exec "$@"`, "sh"}, cmd.Args...)
				cmd.Path = "/bin/sh"
				ranks = append(ranks, s.holdCommand(t, cmd))
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, string(text))
			}
			for n := 1; n < len(found); n++ {
				if diff := cmp.Diff(strings.Split(found[0], "\n"), strings.Split(found[n], "\n")); diff != "" {
					t.Errorf("the first rank, rank %d:\n%s", n, diff)
				}
			}
			leaveAll(t, ranks...)
		})
	}
	s.clean(t, before)
}

// TestJoinChurn: commands that end at once, more of them than processors. None fails, and nothing is left.
func TestJoinChurn(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	for range rounds(t, 20) {
		s.step++
		s.all(t, 20, 0, "true")
	}
	s.clean(t, before)
}

// all starts n ranks from the number first on, at once, and waits for them.
func (s *stepDesk) all(t *testing.T, n, first int, command ...string) {
	t.Helper()
	var ranks []*exec.Cmd
	outs := make([]bytes.Buffer, n)
	for i := range n {
		cmd := s.rank(t, first+i, append([]string{s.image(), "--"}, command...)...)
		cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ranks = append(ranks, cmd)
	}
	for i, cmd := range ranks {
		if err := cmd.Wait(); err != nil {
			t.Errorf("step %d, rank %d: %v: %s", s.step, i, err, &outs[i])
		}
	}
}

// TestJoinFirstDies kills the first rank, at any moment: the others start all the same.
func TestJoinFirstDies(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	n := rounds(t, 20)
	for i := range n {
		s.step++
		first := s.rank(t, 0, s.image(), "--", "sleep", "1000")
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 40 * time.Millisecond / time.Duration(n)) // over the whole of a start
		done := make(chan bool)
		go func() {
			s.all(t, 4, 1, "true")
			close(done)
		}()
		time.Sleep(time.Duration(i%5) * 2 * time.Millisecond)
		_ = first.Process.Kill()
		_ = first.Wait()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatalf("round %d: the others wait for the first", i)
		}
	}
	// What is left of the killed ones goes with the next run.
	s.step++
	run(t, s.rank(t, 0, s.image(), "--", "true"))
	for _, name := range s.steps() {
		fi, err := os.Stat(name)
		if err == nil && !slices.Contains(before, name) && time.Since(fi.ModTime()) > time.Minute {
			t.Errorf("left: %s", name)
		}
	}
}

// TestJoinLeaving: the first may leave, by itself or killed, and the container stays as long as somebody is in it, open for
// those who come late. The last one takes away what it has kept.
func TestJoinLeaving(t *testing.T) {
	for _, how := range []string{"leaves", "is killed", "is killed behind the front"} {
		t.Run("the first "+how, func(t *testing.T) {
			s := newStep(t)
			before := s.steps()
			first := s.hold(t, 0, ": >/tmp/by-first; : >/by-first; "+namespaces)
			second := s.hold(t, 1, namespaces)
			switch how {
			case "leaves":
				if code := first.leave(); code != 0 {
					t.Errorf("exit code %d", code)
				}
			case "is killed":
				_ = first.cmd.Process.Kill()
				_ = first.cmd.Wait()
			default:
				_ = syscall.Kill(partsOf(t, first.cmd.Process.Pid).inside, syscall.SIGKILL)
				if code := exitCode(first.cmd.Wait()); code != 137 {
					t.Errorf("exit code %d", code)
				}
			}
			third := s.hold(t, 2, "ls /tmp/by-first /by-first >/dev/null || exit; "+namespaces)
			if first.line != second.line || first.line != third.line {
				t.Errorf("three containers: %s, %s, %s", first.line, second.line, third.line)
			}
			leaveAll(t, second, third)
			s.clean(t, before)
		})
	}
}

// TestJoinHolds: the image stays in the store as long as somebody is in the container, whoever made it.
func TestJoinHolds(t *testing.T) {
	s := newStep(t)
	removable := func() bool {
		out, err := s.command(t, "dlrun", "cache", "rm", "--dry-run", s.image()).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "is in use") {
			t.Errorf("%v: %s", err, out)
		}
		return err == nil
	}
	first := s.hold(t, 0, namespaces)
	second := s.hold(t, 1, namespaces)
	for _, rank := range []*held{first, second} {
		if removable() {
			t.Error("the image of a container is not in use")
		}
		if code := rank.leave(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	if !removable() {
		t.Error("the image is in use after the last rank has left")
	}
}

// TestJoinedEnd kills parts of a rank that has joined: what it has started ends with it, and nothing else.
func TestJoinedEnd(t *testing.T) {
	s := newStep(t)
	for _, part := range []string{"front", "inside", "command"} {
		t.Run("the "+part, func(t *testing.T) {
			s.step++
			before := s.steps()
			first := s.hold(t, 0, namespaces)
			m := newMarker()
			family := m.family()
			joined := s.holdCommand(t, s.rank(t, 1, append([]string{s.image(), "--"}, family...)...))
			m.complete(t)
			p := partsOf(t, joined.cmd.Process.Pid)
			_ = syscall.Kill(p.named(part), syscall.SIGKILL)
			code := exitCode(joined.cmd.Wait())
			if want := map[string]int{"front": -1, "inside": 137, "command": 137}[part]; code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			m.gone(t)
			if code := first.leave(); code != 0 {
				t.Errorf("the first: exit code %d", code)
			}
			s.clean(t, before)
		})
	}
}

// TestJoinApart: runs of other steps, directories, images and binds never meet; nor do two of one rank at a time,
// unless they are told to.
func TestJoinApart(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	other := filepath.Join(s.dir, "other")
	if err := os.Mkdir(other, 0o777); err != nil {
		t.Fatal(err)
	}
	shelf, err := image.Get(t.Context(), "shelf")
	if err != nil {
		t.Fatal(err)
	}
	in := func(cmd *exec.Cmd, change func(*exec.Cmd)) *exec.Cmd {
		change(cmd)
		return cmd
	}
	image := []string{s.image(), "--", "sh", "-c", namespaces + "; read end || :"}
	with := func(flags ...string) []string { return append(flags, image...) }
	first := s.hold(t, 0, namespaces)
	for name, cmd := range map[string]*exec.Cmd{
		"another step":      in(s.rank(t, 1, image...), func(c *exec.Cmd) { c.Env = append(c.Env, "SLURM_STEP_ID=99") }),
		"another job":       in(s.rank(t, 1, image...), func(c *exec.Cmd) { c.Env = append(c.Env, "SLURM_JOB_ID=99") }),
		"another node":      in(s.rank(t, 1, image...), func(c *exec.Cmd) { c.Env = append(c.Env, "SLURM_NODEID=1") }),
		"another directory": in(s.rank(t, 1, image...), func(c *exec.Cmd) { c.Dir = other }),
		"another image":     s.rank(t, 1, "--tag", "one", shelf, "--", "sh", "-c", `set -- $(ls -l /proc/self/ns/user); shift 10; echo $1; read end || :`),
		"another bind":      s.rank(t, 1, with("-v", other+":/mnt/other")...),
		"another uid":       s.rank(t, 1, with("--root")...),
		"another /tmp":      s.rank(t, 1, with("--tmp", other)...),
		"not writable":      s.rank(t, 1, with("--read-only")...),
		"not at all":        s.rank(t, 1, with("--mpi", "off")...),
		"private processes": s.rank(t, 1, with("--pid", "private")...),
		"the same rank":     s.rank(t, 0, image...),
		"one task":          in(s.rank(t, 1, image...), func(c *exec.Cmd) { c.Env = append(c.Env, "SLURM_STEP_TASKS_PER_NODE=1(x4)") }),
		"no step":           in(s.rank(t, 1, image...), func(c *exec.Cmd) { c.Env = s.env }),
	} {
		h := s.holdCommand(t, cmd)
		if h.line == first.line || !strings.HasPrefix(h.line, "user:") {
			t.Errorf("%s: %s, the first is in %s", name, h.line, first.line)
		}
		if code := h.leave(); code != 0 {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
	for name, cmd := range map[string]*exec.Cmd{
		"another rank":              s.rank(t, 1, image...),
		"the same rank, told to":    s.rank(t, 0, with("--join")...),
		"the same rank, by --mpi":   s.rank(t, 0, with("--mpi", "on")...),
		"the same rank, by DLRUN_":  in(s.rank(t, 0, image...), func(c *exec.Cmd) { c.Env = append(c.Env, "DLRUN_MPI=on") }),
		"another command, variable": in(s.rank(t, 2, with("-e", "A=b")...), func(c *exec.Cmd) {}),
	} {
		h := s.holdCommand(t, cmd)
		if h.line != first.line {
			t.Errorf("%s: %s, the first is in %s", name, h.line, first.line)
		}
		if code := h.leave(); code != 0 {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
	if code := first.leave(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.clean(t, before)
}

// TestJoinFewFiles: a rank that has no room for its own sockets says so, and nobody waits for it.
func TestJoinFewFiles(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	for files := 4; files < 40; files++ {
		s.step++
		cmd := s.rank(t, 0, s.image(), "--", "true")
		cmd.Args = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, files), "sh"}, cmd.Args...)
		cmd.Path = "/bin/sh"
		out, err := cmd.CombinedOutput()
		if code := exitCode(err); code != 125 && code != 0 || code == 125 && len(out) == 0 {
			t.Errorf("%d open files: code %d: %s", files, code, out)
		}
		s.all(t, 1, 1, "true")
	}
	s.clean(t, before)
}

// TestJoinUsers: the same step, command line, directory and image, run by two users: neither finds the other's container, nor
// can look for it.
func TestJoinUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	s := newStep(t)
	before := s.steps()
	first := s.hold(t, 0, "id -u; "+namespaces)
	other, err := users.Get(users.Sub)
	if err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(t.TempDir(), "store")
	for dir := filepath.Dir(store); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(store, 0o700), os.Chown(store, other.UID, other.GID)); err != nil {
		t.Fatal(err)
	}
	theirs := other.Command(t.Context(), filepath.Join(s.bin, "dlrun"), "--cache", store, s.image(), "--", "sh", "-c", "id -u; "+namespaces+"; read end || :")
	theirs.Dir = s.dir
	theirs.Env = append(theirs.Env, s.rank(t, 1).Env[len(s.env):]...)
	second := s.holdCommand(t, theirs)
	if second.line != fmt.Sprint(other.UID) || first.line != fmt.Sprint(s.UID) {
		t.Errorf("the users are %s and %s", first.line, second.line)
	}
	look := other.Command(t.Context(), "ls", filepath.Dir(s.steps()[0]))
	if out, err := look.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("the directory of meetings is open to others: %v: %s", err, out)
	}
	leaveAll(t, second, first)
	s.clean(t, before)
}

// TestJoinLaunchers: xargs, make and parallel share a container only when told to.
func TestJoinLaunchers(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	for name, text := range map[string]string{
		"Makefile": "all: a b c d\na b c d: ; @dlrun $(JOIN) $(TINY) -- sh meet.sh\n",
		// All four are there at a time: later namespaces may have the same number.
		"meet.sh": "readlink /proc/self/ns/user; : >met.$$; n=0; until test $(ls met.* | wc -l) = 4 || test $((n += 1)) = 600; do sleep 0.05; done\n",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range map[string]string{
		"xargs": `seq 4 | xargs -P4 -I@ dlrun $JOIN $TINY -- sh meet.sh`,
		// It groups the output of its jobs in files of its own.
		"parallel": `seq 4 | parallel --will-cite -j4 dlrun $JOIN $TINY -- sh meet.sh '#'`,
		"make":     `make --silent -j4 JOIN=$JOIN`,
		"shell":    `for i in 1 2 3 4; do dlrun $JOIN $TINY -- sh meet.sh & done; wait`,
	} {
		for join, want := range map[string]int{"--join": 1, "--mpi=auto": 4} {
			run(t, s.command(t, "sh", "-c", "rm -f met.*"))
			cmd := s.command(t, "sh", "-c", script)
			cmd.Env = append(slices.Clone(s.env), "JOIN="+join)
			cmd.SysProcAttr.Setsid = true
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v: %s", name, err, out)
			}
			lines := strings.Fields(string(out))
			slices.Sort(lines)
			if got := len(slices.Compact(lines)); got != want || strings.Count(string(out), "user:") != 4 {
				t.Errorf("%s %s: %d containers, want %d: %s", name, join, got, want, out)
			}
		}
	}
	s.clean(t, before)
}

// TestJoinMemory: ranks can read each other's memory, which is how MPI copies within a node.
func TestJoinMemory(t *testing.T) {
	s := newStep(t)
	peek := filepath.Join(s.bin, "peek")
	if err := compile("payload/peek.c", peek); err != nil {
		t.Fatal(err)
	}
	first := s.holdCommand(t, s.rank(t, 0, "-v", s.bin, s.image(), "--", peek))
	for n, flags := range [][]string{{"-v", s.bin}, {"-v", s.bin, "--mpi", "off"}} {
		out, err := s.rank(t, 1, append(flags, append([]string{s.image(), "--", peek}, strings.Fields(first.line)...)...)...).CombinedOutput()
		if joined := n == 0; (err == nil) != joined || strings.Contains(string(out), "seen from outside") != joined {
			t.Errorf("%v: %v: %s", flags, err, out)
		}
	}
}

// TestJoinHostile: what runs in a container of the same user cannot make a rank enter its namespaces, nor enter those of a
// step.
func TestJoinHostile(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	impostor := filepath.Join(s.bin, "impostor")
	if err := compile("payload/impostor.c", impostor); err != nil {
		t.Fatal(err)
	}
	first := s.hold(t, 0, namespaces)
	var socket string
	for _, name := range s.steps() {
		if !slices.Contains(before, name) && !strings.Contains(filepath.Base(name), ".") {
			socket = name
		}
	}
	key := filepath.Base(socket)
	state := filepath.Dir(filepath.Dir(socket))

	// The directory is in no container, however it is bound.
	for _, flags := range [][]string{{"--tmp", "host"}, {"-v", "/tmp:/mnt"}, {"-v", "/tmp:/mnt:ro"}, {"-v", state + ":/mnt"}, {"-v", filepath.Dir(socket) + ":/mnt"}} {
		out, err := s.command(t, "dlrun", append(flags, s.image(), "--", "sh", "-c",
			"find /mnt /tmp -maxdepth 3 -name "+key+" 2>/dev/null; echo looked")...).CombinedOutput()
		if err != nil || string(out) != "looked\n" {
			t.Errorf("%v: %v: %s", flags, err, out)
		}
	}
	// Where it is seen all the same, as in a container of another engine, nobody is let in.
	for _, c := range []struct {
		want string
		cmd  *exec.Cmd
	}{
		{"refused\n", s.command(t, "unshare", "--user", impostor, "ask", socket, key)},
		{"refused\n", s.command(t, impostor, "ask", socket, "another key")},
		{"let in\n", s.command(t, impostor, "ask", socket, key)}, // the caller's own process, which could trace dlrun as well
	} {
		if out, err := c.cmd.CombinedOutput(); err != nil || string(out) != c.want {
			t.Errorf("%v: %v: %s", c.cmd.Args, err, out)
		}
	}
	if second := s.hold(t, 1, namespaces); second.line != first.line || second.leave() != 0 {
		t.Errorf("the second is in %s, the first in %s", second.line, first.line)
	}
	if code := first.leave(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	for _, c := range []struct {
		name, says string
		cmd        *exec.Cmd
	}{
		{"from a user namespace", "is in another user namespace", s.command(t, "unshare", "--user", impostor, "listen", socket)},
		{"with namespaces that are no container's", "not to be trusted", s.command(t, impostor, "listen", socket)},
	} {
		t.Run(c.name, func(t *testing.T) {
			fake := s.holdCommand(t, c.cmd)
			defer os.Remove(socket)
			if fake.line != "listens" {
				t.Fatal(fake.line)
			}
			cmd := s.rank(t, 2, s.image(), "--", "readlink", "/proc/self/ns/mnt")
			var says bytes.Buffer
			cmd.Stderr = &says
			out, err := cmd.Output()
			theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", fake.cmd.Process.Pid))
			if err != nil || strings.TrimSpace(string(out)) == theirs || !strings.HasPrefix(string(out), "mnt:") || !strings.Contains(says.String(), c.says) {
				t.Errorf("%v: %s, %s", err, out, &says)
			}
			// Told to join, it does not run elsewhere.
			out, err = s.rank(t, 2, "--join", s.image(), "--", "true").CombinedOutput()
			if exitCode(err) != 125 || !strings.Contains(string(out), c.says) {
				t.Errorf("--join: %v: %s", err, out)
			}
			_ = fake.cmd.Process.Kill()
			_ = fake.cmd.Wait()
		})
	}
	s.clean(t, before)
}
