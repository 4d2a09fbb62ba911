// Package processes looks at processes from outside.
package processes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// Anonymous is the anonymous resident memory of a process and all its descendants, in bytes.
func Anonymous(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // ended
	}
	sum := 0
	for l := range bytes.Lines(status) {
		if f := bytes.Fields(l); len(f) == 3 && string(f[0]) == "RssAnon:" {
			kb, _ := strconv.Atoi(string(f[1]))
			sum += kb << 10
		}
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		children, _ := os.ReadFile(t)
		for c := range bytes.FieldsSeq(children) {
			child, _ := strconv.Atoi(string(c))
			sum += Anonymous(child)
		}
	}
	return sum
}
