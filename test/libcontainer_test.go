package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLibcontainer looks into the module that go.mod names, so that a newer one is taken with open eyes. A run has neither a
// pid namespace nor a cgroup of its own: MPI needs the host's, and there is no right to the other. Upstream only warns of
// that, and means to refuse it one day; dlrun ends its processes by itself (runtime/prelude).
func TestLibcontainer(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", "github.com/opencontainers/runc").Output()
	if err != nil {
		t.Fatal(err)
	}
	version, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	// CVE-2026-41579, an image whose /dev is a link, is mended in 1.3.6, 1.4.3 and 1.5.0.
	if !regexp.MustCompile(`^v1\.([5-9]|[1-9][0-9]+)\.[0-9]+$`).MatchString(version) {
		t.Errorf("runc %s: not a release from 1.5.0 on: is it affected by CVE-2026-41579?", version)
	}
	source, err := os.ReadFile(filepath.Join(dir, "libcontainer/process_linux.go"))
	if err != nil {
		t.Fatal(err)
	}
	warns := regexp.MustCompile(`logrus\.Warn\("Creating a rootless container with no cgroup and no private pid namespace`)
	if !warns.Match(source) {
		t.Errorf("runc %s no longer warns of a rootless container with the host's pid namespace: see what it does instead, and that runs still start", version)
	}
}
