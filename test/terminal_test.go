package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/users"
)

// desk is where a test user works: a directory, dlrun and the payloads in PATH, the image in $TINY.
type desk struct {
	*users.User
	dir, bin string
	env      []string
}

// newDesk makes a desk of the user without subordinate ids, and unpacks the image there.
func newDesk(t *testing.T) *desk { return newDeskOf(t, users.Nosub) }

// atDesks runs a test at a desk of the user without subordinate ids, and at one of the user with such; as an ordinary user
// at the caller's own.
func atDesks(t *testing.T, do func(t *testing.T, d *desk)) {
	t.Helper()
	for _, name := range []string{users.Nosub, users.Sub} {
		t.Run(name, func(t *testing.T) { do(t, newDeskOf(t, name)) })
		if os.Geteuid() != 0 {
			return
		}
	}
}

func newDeskOf(t *testing.T, user string) *desk {
	t.Helper()
	base := baseDir(t)
	bin := filepath.Join(base, "bin")
	install(t, bin, "../bin/dlrun", "dlrun")
	for _, payload := range []string{"signals", "slurmstepd"} {
		run(t, exec.Command("gcc", "-O2", "-static", "-o", filepath.Join(bin, payload), filepath.Join("payload", payload+".c")))
	}
	tiny, err := image.Get(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	u, err := users.Get(user)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{User: u, dir: filepath.Join(base, "work"), bin: bin}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(d.dir, u.UID, u.GID); err != nil {
			t.Fatal(err)
		}
	}
	d.env = append(u.Env(), "TINY="+tiny, "BIN="+bin, "DLRUN_CACHE="+filepath.Join(d.dir, ".store"), "TMPDIR="+d.dir,
		"TERM=xterm", "PS1=$ ", "PS2=", "HISTFILE=")
	for i, v := range d.env {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			d.env[i] = "PATH=" + bin + ":" + path
		}
	}
	t.Cleanup(func() { d.settle(t) })
	run(t, d.command(t, "dlrun", tiny, "--", "true"))
	return d
}

// settle waits for the runs whose front a test has killed: they remove their files themselves.
func (d *desk) settle(t *testing.T) {
	t.Helper()
	var list []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if list = d.running(); len(list) == 0 {
			return
		}
	}
	t.Errorf("a run has not ended:\n%s", strings.Join(list, "\n"))
}

// running lists the processes that hold the directory of a run.
func (d *desk) running() []string {
	var list []string
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		dir, err := os.Readlink(fd)
		if err == nil && strings.HasPrefix(dir, filepath.Join(d.dir, "dlrun-")) {
			pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
			list = append(list, fmt.Sprintf("%d %s: %s", pid, strings.Join(arguments(pid), " "), dir))
		}
	}
	return list
}

// command is CMD as the desk's user. What of it is left at the end of the test is killed.
func (d *desk) command(t *testing.T, name string, args ...string) *exec.Cmd {
	return d.commandContext(t.Context(), name, args...)
}

func (d *desk) commandContext(ctx context.Context, name string, args ...string) *exec.Cmd {
	if own := filepath.Join(d.bin, name); exists(own) {
		name = own
	}
	// Whoever runs the tests may ignore some (nohup).
	cmd := d.Command(ctx, "env", append([]string{"--default-signal", name}, args...)...)
	cmd.Dir, cmd.Env = d.dir, d.env
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// terminal is a shell at a pty, and what it has printed that no expect has passed yet.
type terminal struct {
	*testing.T
	master *os.File
	cmd    *exec.Cmd
	mutex  sync.Mutex
	seen   []byte
}

// atTerminal starts an interactive bash of the desk's user at a pty of 24 by 80.
func atTerminal(t *testing.T, d *desk) *terminal {
	t.Helper()
	return atShell(t, d, "--noediting")
}

// atShell is atTerminal with more flags of bash.
func atShell(t *testing.T, d *desk, flags ...string) *terminal {
	t.Helper()
	master, slave := openPTY(t)
	defer slave.Close()
	// It must live until its jobs have been found below it.
	cmd := d.commandContext(context.WithoutCancel(t.Context()), "bash", append(append([]string{"--norc", "--noprofile"}, flags...), "-i")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{T: t, master: master, cmd: cmd}
	go term.read()
	t.Cleanup(func() {
		for _, job := range children(cmd.Process.Pid) { // it may outlive SIGHUP
			_ = syscall.Kill(job, syscall.SIGKILL)
		}
		master.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	term.expect(`\$ $`)
	return term
}

func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	resize(t, master, 24, 80)
	return master, slave
}

func resize(t *testing.T, master *os.File, rows, columns uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

func (t *terminal) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := t.master.Read(buf)
		t.mutex.Lock()
		t.seen = append(t.seen, buf[:n]...)
		t.mutex.Unlock()
		if err != nil {
			return
		}
	}
}

// typed writes text as if from the keyboard.
func (t *terminal) typed(text string) {
	t.Helper()
	if _, err := t.master.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// expect waits for output that matches, and passes it.
func (t *terminal) expect(pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		t.mutex.Lock()
		text := bytes.ReplaceAll(t.seen, []byte("\r\n"), []byte("\n"))
		if at := re.FindSubmatchIndex(text); at != nil {
			var found []string
			for i := 0; i < len(at); i += 2 {
				found = append(found, string(text[at[i]:at[i+1]]))
			}
			t.seen = text[at[1]:]
			t.mutex.Unlock()
			return found
		}
		t.mutex.Unlock()
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.Fatalf("nothing matches %q in\n%s", pattern, t.seen[max(0, len(t.seen)-4000):])
	return nil
}

// run types a command line and waits for the prompt after it.
func (t *terminal) run(line, pattern string) {
	t.Helper()
	t.typed(line + "\n")
	t.expect(`(?s)` + pattern + `.*\n\$ $`)
}

// modes are those of the terminal, as stty tells them.
func (t *terminal) modes() string {
	t.Helper()
	t.typed("stty -g | sed s/^/modes=/\n")
	return t.expect(`\nmodes=(.*)\n\$ $`)[1]
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("in vain: %s", what)
}

// TestTerminal tells what a person at a terminal sees.
func TestTerminal(t *testing.T) { atDesks(t, testTerminal) }

func testTerminal(t *testing.T, d *desk) {
	inside := func(t *testing.T, command string) *terminal {
		term := atTerminal(t, d)
		term.typed("dlrun $TINY -- " + command + "\n")
		return term
	}
	for name, f := range map[string]func(t *testing.T){
		"the name of the terminal": func(t *testing.T) {
			term := inside(t, `sh -c 'tty; ls -l $(tty); test -t 2 && echo "all $TERM"; exit 7'; echo "code $?"`)
			term.expect(`(?s)\n/dev/pts/0\ncrw.*\nall xterm\ncode 7\n\$ $`)
		},
		"redirected stderr stays apart": func(t *testing.T) {
			term := atTerminal(t, d)
			term.run(`dlrun $TINY -- sh -c 'test -t 1 && echo out; test -t 2 || echo err >&2' 2>err`, `\nout`)
			term.run(`cat err`, `\nerr`)
		},
		"no terminal with stdout or stdin elsewhere": func(t *testing.T) {
			term := atTerminal(t, d)
			term.run(`dlrun $TINY -- sh -c 'test -t 1 || echo no-tty; echo "TERM=$TERM"' | cat`, `\nno-tty\nTERM=`)
			term.run(`echo data | dlrun $TINY -- sh -c 'test -t 1 && cat'`, `\ndata`)
			term.run(`seq 3 | xargs -P 3 -n 1 dlrun $TINY -- echo | sort`, `\n1\n2\n3`)
			term.typed("dlrun $TINY -- seq 100 | less\n")
			term.expect(`\n20\n`)
			term.typed("q")
			term.expect(`\$ $`)
			term.run(`stty -a | grep -o ' icanon'`, ` icanon`)
		},
		"window size": func(t *testing.T) {
			term := inside(t, `sh -c 'stty size; trap "stty size" WINCH; echo ready; while :; do sleep 0.1; done'`)
			term.expect(`\n24 80\nready`)
			resize(t, term.master, 50, 132)
			term.expect(`\n50 132`)
			term.typed("\x03")
			term.expect(`\$ $`)
		},
		"line editing and end of input": func(t *testing.T) {
			term := inside(t, `sh -c 'cat; echo "code $?"'`)
			term.typed("wrogn\x15right\n")
			term.expect(`\nright\n`)
			term.typed("\x04")
			term.expect(`\ncode 0\n\$ $`)
		},
		"nothing is cut at the end": func(t *testing.T) {
			term := atTerminal(t, d)
			for range 5 {
				term.run(`dlrun $TINY -- sh -c 'seq 150000; exit 3'; echo "code $?"`, `\n149999\n150000\ncode 3`)
			}
		},
		"output to a terminal that is stopped": func(t *testing.T) {
			term := inside(t, `sh -c 'echo one; read x; seq 20000; echo last'`)
			term.expect(`\none\n`)
			term.typed("\x13") // Ctrl-S
			term.typed("\n\x11")
			term.expect(`\n19999\n20000\nlast\n\$ $`)
		},
	} {
		t.Run(name, f)
	}
}

// TestJobControl tells what Ctrl-C, Ctrl-Z, fg, bg and & do.
func TestJobControl(t *testing.T) { atDesks(t, testJobControl) }

func testJobControl(t *testing.T, d *desk) {
	for name, f := range map[string]func(t *testing.T, term *terminal){
		"interrupt and quit": func(t *testing.T, term *terminal) {
			term.typed("dlrun $TINY -- sh -c 'echo begun; sleep 100'; echo \"code $?\"\n")
			term.expect(`\nbegun`)
			term.typed("\x03")
			term.expect(`code 130\n\$ $`)
			// A shell of busybox gives its last command an ignored SIGQUIT.
			term.typed("dlrun $TINY -- sleep 100; echo \"code $?\"\n")
			time.Sleep(500 * time.Millisecond)
			term.typed("\x1c")
			term.expect(`code 131\n(?s:.*)\$ $`)
		},
		"interrupt while it starts": func(t *testing.T, term *terminal) {
			n := rounds(t, 40)
			for i := range n {
				term.typed("dlrun $TINY -- sleep 100; echo \"code $?\"\n")
				until(t, "dlrun", func() bool { // before, the key is for the shell
					jobs := children(term.cmd.Process.Pid)
					return len(jobs) == 1 && arguments(jobs[0])[0] == "dlrun"
				})
				time.Sleep(time.Duration(i) * 40 * time.Millisecond / time.Duration(n))
				term.typed("\x03")
				term.expect(`(\^C|code 130)\n\$ $`) // at first it may die of the signal: then the shell stops there
			}
		},
		"a key that the command takes itself": func(t *testing.T, term *terminal) {
			term.typed("dlrun $TINY -- sh -c 'stty raw -echo; echo ready; dd bs=1 count=3 2>/dev/null | od -An -tx1; stty sane'\n")
			term.expect(`\nready`)
			term.typed("\x03\x1a\x04")
			term.expect(` 03 1a 04`)
		},
		"the shell inside": func(t *testing.T, term *terminal) {
			term.typed("dlrun -e PS1='in> ' $TINY -- sh\n")
			term.expect(`\nin> `)
			term.typed("sleep 100\n")
			time.Sleep(200 * time.Millisecond)
			term.typed("\x1a")
			term.expect(`Stopped`)
			term.expect(`\nin> `)
			term.typed("jobs\n")
			term.expect(`(?s)Stopped.*sleep 100.*\nin> `)
			term.typed("fg\n")
			time.Sleep(200 * time.Millisecond)
			term.typed("\x03")
			term.expect(`\nin> `)
			term.typed("exit 5\n")
			term.expect(`\$ $`)
			term.run("echo $?", `\n5`)
		},
		"the command itself, stopped and continued": func(t *testing.T, term *terminal) {
			before := term.modes()
			term.typed("dlrun $TINY -- cat; echo \"code $?\"\n")
			time.Sleep(300 * time.Millisecond)
			for range 3 {
				term.typed("here\n")
				term.expect(`here\nhere\n`)
				term.typed("\x1a")
				term.expect(`Stopped.*dlrun(?s:.*)\$ $`)
				if now := term.modes(); now != before {
					t.Errorf("modes %s while stopped, were %s", now, before)
				}
				term.typed("fg\n")
				time.Sleep(100 * time.Millisecond)
			}
			term.typed("there\n")
			term.expect(`there\nthere\n`)
			term.typed("\x04")
			term.expect(`\$ $`)
			if now := term.modes(); now != before {
				t.Errorf("modes %s after, were %s", now, before)
			}
		},
		"a script is stopped as a whole": func(t *testing.T, term *terminal) {
			term.typed("sh -c 'dlrun $TINY -- sleep 100; echo \"code $?\"'\n")
			time.Sleep(300 * time.Millisecond)
			term.typed("\x1a")
			term.expect(`Stopped(?s:.*)\$ $`)
			term.typed("fg\n")
			until(t, "raw modes", func() bool { return rawModes(t, term.master) }) // before, the key is for the script too
			term.typed("\x03")
			term.expect(`code 130\n`)
			term.expect(`\$ $`)
		},
		"without a pty": func(t *testing.T, term *terminal) {
			term.typed("dlrun $TINY -- sh -c 'sleep 1; echo done' | cat; echo \"code $?\"\n")
			time.Sleep(300 * time.Millisecond)
			term.typed("\x1a")
			term.expect(`Stopped(?s:.*)\$ $`)
			term.typed("fg\n")
			term.expect(`\ndone\n`)
			term.expect(`\$ $`)
		},
		"in the background": func(t *testing.T, term *terminal) {
			term.run("dlrun $TINY -- sh -c 'echo \"out\"put' & wait $!; echo \"code $?\"", `\noutput(?s:.*)code 0`)
			// The reader is the command itself. A child of it may be stopped again before SIGCONT has reached the command:
			// then the kernel drops the command's own stop, and no shell would see one.
			term.typed("dlrun $TINY -- head -n 1 &\n")
			term.run("until jobs | grep Stopped; do sleep 0.1; done", `\] *\+ *Stopped`)
			term.run("bg; until jobs | grep Stopped; do sleep 0.1; done", `\] *\+ *Stopped`)
			term.typed("fg\n")
			time.Sleep(200 * time.Millisecond)
			term.typed("my line\n")
			term.expect(`\nmy line\nmy line\n`)
			term.expect(`\$ $`)
		},
		"brought to the foreground while it runs": func(t *testing.T, term *terminal) {
			term.typed("dlrun $TINY -- sh -c 'sleep 1; read line; echo \"got $line\"' &\n")
			term.expect(`\$ $`)
			term.typed("fg\n")
			time.Sleep(1500 * time.Millisecond)
			term.typed("my line\n")
			term.expect(`\ngot my line\n`)
			term.expect(`\$ $`)
		},
	} {
		t.Run(name, func(t *testing.T) { f(t, atTerminal(t, d)) })
	}
}

// TestModesAfterDeath kills a part of a run: whoever survives gives the terminal back.
func TestModesAfterDeath(t *testing.T) {
	d := newDesk(t)
	for _, part := range []string{"front", "inside", "command"} {
		t.Run(part, func(t *testing.T) {
			term := atTerminal(t, d)
			before := term.modes()
			term.typed("dlrun $TINY -- sh -c 'echo begun; sleep 100'\n")
			term.expect(`\nbegun`)
			p := partsOf(t, childOf(t, term.cmd.Process.Pid))
			if modes := rawModes(t, term.master); !modes {
				t.Fatal("the terminal is not raw")
			}
			_ = syscall.Kill(p.named(part), syscall.SIGKILL)
			term.expect(`\$ $`)
			if now := term.modes(); now != before {
				t.Errorf("modes %s, were %s", now, before)
			}
			until(t, "the end of "+part, func() bool { return !alive(p.front) && !alive(p.inside) && !alive(p.command) })
		})
	}
}

func rawModes(t *testing.T, master *os.File) bool {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0
}

// parts are the processes of a run; command is its leader where it has one.
type parts struct{ front, inside, command int }

func (p parts) named(name string) int {
	return map[string]int{"front": p.front, "inside": p.inside, "command": p.command}[name]
}

// partsOf finds them below the front, once the outside has ended.
func partsOf(t *testing.T, front int) parts {
	t.Helper()
	until(t, "the outside's end", func() bool { return len(children(front)) == 1 })
	p := parts{front: front, inside: childOf(t, front)}
	// Daemons are the inside's children too, later.
	until(t, "the command", func() bool {
		last := arguments(front)[len(arguments(front))-1]
		for _, pid := range children(p.inside) {
			if a := arguments(pid); a[len(a)-1] == last || len(a) > 1 && a[1] == "__enter" {
				p.command = pid
			}
		}
		return p.command > 0
	})
	return p
}

func arguments(pid int) []string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	var list []int
	until(t, fmt.Sprintf("a child of %d", pid), func() bool { list = children(pid); return len(list) == 1 })
	return list[0]
}

func children(pid int) []int {
	var list []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		text, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(s); err == nil && alive(n) {
				list = append(list, n)
			}
		}
	}
	return list
}

// alive reports whether pid is there and no zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// TestJobOfEditor: a shell that edits its line has the terminal in modes of its own while a job begins in the background.
func TestJobOfEditor(t *testing.T) {
	d := newDesk(t)
	inputrc := filepath.Join(d.dir, "inputrc")
	if err := os.WriteFile(inputrc, []byte("set enable-bracketed-paste off\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.env = append(d.env, "INPUTRC="+inputrc)
	term := atShell(t, d)
	term.typed("dlrun $TINY -- cat &\n")
	term.typed("until jobs | grep Stopped; do sleep 0.1; done; echo sto''pped\n")
	term.expect(`\nstopped`)
	term.typed("fg\n")
	until(t, "raw modes", func() bool { return rawModes(t, term.master) })
	term.typed("hello\n")
	term.expect(`\nhello\nhello\n`) // echoed, and said by cat
	term.typed("\x04")
	term.expect(`\$ $`)
	term.typed("dlrun $TINY -- sh -c 'echo one; echo two' & wait\n")
	term.expect(`one\ntwo\n`)
}
