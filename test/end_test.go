package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// marker is a number of seconds to sleep that no other process has in its arguments.
type marker struct{ seconds string }

var markers atomic.Int32

func newMarker() marker {
	return marker{fmt.Sprintf("1000.%d%06d", os.Getpid(), markers.Add(1))}
}

// living lists the command lines of processes that bear the mark, dlrun's own included.
func (m marker) living() []string {
	var list []string
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		line, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(line), m.seconds) {
			list = append(list, filepath.Base(filepath.Dir(f))+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}

// gone fails when something bears the mark a second from now.
func (m marker) gone(t *testing.T) {
	t.Helper()
	var left []string
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if left = m.living(); len(left) == 0 {
			return
		}
	}
	t.Errorf("one second later:\n%s", strings.Join(left, "\n"))
}

// family is a command with a background child, one in a session of its own, and a double fork.
func (m marker) family() []string {
	return []string{"sh", "-c", strings.ReplaceAll("sleep M & setsid sleep M & (setsid sh -c 'sleep M & wait' &) ; echo begun; wait", "M", m.seconds)}
}

// TestEnd kills parts of a run by SIGKILL: no process of it stays, and no file for long.
func TestEnd(t *testing.T) { atDesks(t, testEnd) }

func testEnd(t *testing.T, d *desk) {
	n := rounds(t, 25)
	kills := map[string]struct {
		order []string
		code  int // of the front, -1 where that was killed
	}{
		"the front":             {[]string{"front"}, -1},
		"the inside":            {[]string{"inside"}, 137},
		"the front, the inside": {[]string{"front", "inside"}, -1},
		"the inside, the front": {[]string{"inside", "front"}, -1},
		"the command":           {[]string{"command"}, 137},
	}
	for name, k := range kills {
		for _, flags := range [][]string{nil, {"--pid", "private"}} {
			t.Run(strings.Join(append([]string{name}, flags...), " "), func(t *testing.T) {
				for range n {
					m := newMarker()
					cmd, p := start(t, d, m, flags...)
					whole := len(m.living())
					for j, part := range k.order {
						if j > 0 { // in turn: what is promised ends where both are killed at once
							until(t, "the first deaths", func() bool { return len(m.living()) < whole-1 })
							time.Sleep(50 * time.Millisecond)
						}
						_ = syscall.Kill(p.named(part), syscall.SIGKILL)
					}
					code := exitCode(cmd.Wait())
					if code != k.code && len(k.order) == 1 {
						t.Errorf("exit code %d, want %d", code, k.code)
					}
					m.gone(t)
				}
			})
		}
	}
	run(t, d.command(t, "dlrun", d.image(), "--", "true"))
	left, err := filepath.Glob(filepath.Join(d.dir, "dlrun-*", "run-*", "upper", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files of dead runs: %v, %v", left, err)
	}
}

// complete waits until all of the family sleep.
func (m marker) complete(t *testing.T) {
	t.Helper()
	until(t, "the family", func() bool {
		sleeping := 0
		for _, line := range m.living() {
			if strings.Contains(line, " sleep "+m.seconds) && !strings.Contains(line, "-c") {
				sleeping++
			}
		}
		return sleeping == 3
	})
}

// start runs the family, and returns when it is there.
func start(t *testing.T, d *desk, m marker, flags ...string) (*exec.Cmd, parts) {
	t.Helper()
	cmd := d.command(t, "dlrun", append(append(flags, d.image(), "--"), m.family()...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 6)); n == 0 {
		t.Fatal(err)
	}
	m.complete(t)
	return cmd, partsOf(t, cmd.Process.Pid)
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -2
}

// TestEndWithDaemons: a command that ends leaves nothing behind, and its code is kept.
func TestEndWithDaemons(t *testing.T) {
	d := newDesk(t)
	for range rounds(t, 5) {
		m := newMarker()
		family := m.family()
		family[2] = strings.TrimSuffix(family[2], "wait") + "exit 9"
		// stdout is a file: a pipe would be held by nobody either, and hang this test if it were.
		out, err := d.command(t, "dlrun", append([]string{d.image(), "--"}, family...)...).CombinedOutput()
		if code := exitCode(err); code != 9 || string(out) != "begun\n" {
			t.Errorf("exit code %d: %s", code, out)
		}
		if left := m.living(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}
