package test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rounds is how often what depends on timing is done: DLRUN_TEST_ROUNDS, or few for a fast suite.
func rounds(t *testing.T, few int) int {
	t.Helper()
	s := os.Getenv("DLRUN_TEST_ROUNDS")
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("DLRUN_TEST_ROUNDS=%s", s)
	}
	return n
}

// passed are the signals that dlrun passes on.
var passed = []syscall.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP,
	unix.SIGXCPU, unix.SIGPWR, 40, // a batch system's, and a real-time signal
}

// listener is a run of the payload "signals", which says what it gets.
type listener struct {
	*testing.T
	parts
	mutex sync.Mutex
	had   map[syscall.Signal]int
}

// listen starts prefix and dlrun, in a process group of their own.
func listen(t *testing.T, d *desk, flags ...string) *listener {
	t.Helper()
	cmd := d.command(t, "dlrun", append(append(flags, "-v", d.bin, d.image(), "--"), filepath.Join(d.bin, "signals"))...)
	cmd.SysProcAttr.Setpgid = true
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &listener{T: t, had: map[syscall.Signal]int{}}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	go l.read(lines)
	l.parts = partsOf(t, cmd.Process.Pid)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return l
}

func (d *desk) image() string {
	for _, v := range d.env {
		if dir, ok := strings.CutPrefix(v, "TINY="); ok {
			return dir
		}
	}
	return ""
}

func (l *listener) read(r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		number, _, _ := strings.Cut(line, " ")
		n, _ := strconv.Atoi(number)
		l.mutex.Lock()
		l.had[syscall.Signal(n)]++
		l.mutex.Unlock()
	}
}

func (l *listener) count(sig syscall.Signal) int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.had[sig]
}

// each sends every signal n times, waits for each, and looks for one too many.
func (l *listener) each(n int, send func(sig syscall.Signal) error) {
	l.Helper()
	for _, sig := range passed {
		for i := range n {
			if err := send(sig); err != nil {
				l.Fatal(err)
			}
			until(l.T, fmt.Sprintf("%v for the %d. time", sig, i+1), func() bool { return l.count(sig) > i })
		}
	}
	time.Sleep(50 * time.Millisecond)
	for _, sig := range passed {
		if got := l.count(sig); got != n {
			l.Errorf("%v: %d times instead of %d", sig, got, n)
		}
	}
}

// TestSignalsOnce counts what arrives of a signal that dlrun is sent, by its sender.
func TestSignalsOnce(t *testing.T) { atDesks(t, testSignalsOnce) }

func testSignalsOnce(t *testing.T, d *desk) {
	n := rounds(t, 100)
	for _, flags := range [][]string{nil, {"--pid", "private"}} {
		name := strings.Join(append(flags, "to"), " ")
		t.Run(name+" the process", func(t *testing.T) {
			l := listen(t, d, flags...)
			l.each(n, func(sig syscall.Signal) error { return syscall.Kill(l.front, sig) })
		})
		t.Run(name+" its group", func(t *testing.T) {
			l := listen(t, d, flags...)
			l.each(n, func(sig syscall.Signal) error { return syscall.Kill(-l.front, sig) })
		})
		t.Run(name+" every process of a step", func(t *testing.T) {
			l := listen(t, d, flags...)
			step := slurmstepd(t, d, l.front)
			l.each(n, func(sig syscall.Signal) error {
				_, err := fmt.Fprintln(step, int(sig))
				return err
			})
		})
	}
	t.Run("from timeout", func(t *testing.T) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for i := range max(1, n/4) {
					out, err := d.command(t, "timeout", "0.5", "dlrun", "-v", d.bin, d.image(), "--", filepath.Join(d.bin, "signals"), "50").CombinedOutput()
					if code := exitCode(err); code != 124 {
						t.Errorf("code %d: %s", code, out)
					}
					if got := strings.Count(string(out), fmt.Sprintf("%d ", unix.SIGTERM)); got != 1 {
						t.Errorf("round %d: TERM arrived %d times: %s", i, got, out)
					}
				}
			})
		}
		all.Wait()
	})
	keys := map[string]syscall.Signal{"\x03": unix.SIGINT, "\x1c": unix.SIGQUIT, "\x1a": unix.SIGTSTP}
	t.Run("by the keyboard through the pty", func(t *testing.T) {
		term := atTerminal(t, d)
		term.typed("stty -echo\n")
		term.expect(`\$ $`)
		term.typed("dlrun -v $BIN $TINY -- $BIN/signals\n")
		term.expect(`ready\n`)
		for range n {
			for key, sig := range keys {
				term.typed(key)
				if got := term.expect(`(?s)^(.*)\n$`)[1]; got != fmt.Sprintf("%d 0", sig) {
					t.Fatalf("%q, want one %v", got, sig)
				}
			}
		}
	})
	t.Run("by the keyboard without a pty", func(t *testing.T) {
		term := atTerminal(t, d)
		term.typed("dlrun -v $BIN $TINY -- $BIN/signals >log\n")
		log := func() string {
			text, _ := os.ReadFile(filepath.Join(d.dir, "log"))
			return string(text)
		}
		until(t, "ready", func() bool { return log() == "ready\n" })
		for i := range n {
			for key, sig := range keys {
				term.typed(key)
				until(t, "a key", func() bool { return strings.Count(log(), fmt.Sprintf("\n%d ", sig)) == i+1 })
			}
		}
		time.Sleep(50 * time.Millisecond)
		if got := strings.Count(log(), "\n"); got != 1+len(keys)*n {
			t.Errorf("%d signals instead of %d", got-1, len(keys)*n)
		}
	})
}

// slurmstepd starts the payload of that name for the step that is pid; it sends the signals that are written to it.
func slurmstepd(t *testing.T, d *desk, pid int) io.Writer {
	t.Helper()
	cmd := d.command(t, "slurmstepd", strconv.Itoa(pid))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return in
}

// TestSignalsEarly sends TERM while dlrun starts: exit code 143 at any moment, and nothing is left.
func TestSignalsEarly(t *testing.T) {
	d := newDesk(t)
	n := rounds(t, 40)
	for i := range n {
		marker := newMarker()
		cmd := d.command(t, "dlrun", d.image(), "--", "sleep", marker.seconds)
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Over the whole of a start, and some more.
		time.Sleep(time.Duration(i) * 40 * time.Millisecond / time.Duration(n))
		_ = cmd.Process.Signal(unix.SIGTERM)
		err := cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).ExitStatus() != 143 && exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGTERM {
			t.Errorf("round %d: %v", i, err)
		}
		if left := marker.living(); len(left) > 0 {
			t.Errorf("round %d: left: %v", i, left)
		}
	}
}
