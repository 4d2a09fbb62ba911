package test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// TestMemoryOfALongRun: while a command runs, both processes of dlrun hold 4 MB at most that nobody else has.
func TestMemoryOfALongRun(t *testing.T) {
	const limit = 4 << 20
	d := newDesk(t)
	cmd := d.command(t, "dlrun", d.image(), "--", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	p := partsOf(t, cmd.Process.Pid)
	var sum int
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		front, inside := private(t, p.front), private(t, p.inside)
		if sum = front + inside; sum <= limit {
			t.Logf("front %d kB, inside %d kB", front>>10, inside>>10)
			return
		}
	}
	t.Errorf("%d kB", sum>>10)
}

// private is the memory of a process that it shares with no other, in bytes.
func private(t *testing.T, pid int) int {
	t.Helper()
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, m := range regexp.MustCompile(`(?m)^Private_\w+: +([0-9]+) kB$`).FindAllSubmatch(rollup, -1) {
		kb, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		sum += kb << 10
	}
	if sum == 0 {
		t.Fatalf("no private memory in %s", rollup)
	}
	return sum
}
