package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/slurm"
	"github.com/dlrun/dlrun/test/internal/users"
)

// newCluster starts a cluster of four nodes that ends with the test.
func newCluster(t *testing.T, base string) *slurm.Cluster {
	t.Helper()
	dir := filepath.Join(base, "slurm")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := slurm.Start(t.Context(), dir, 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// slurmCommands are what sessions on a cluster can say.
func slurmCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	all := commands()
	all["recipes"] = recipes
	return all
}

// scriptBlock is a script in the documentation; its second line names it.
var scriptBlock = regexp.MustCompile("(?s)\n```sh\n(#!/bin/sh\n# ([a-z.]+)\n.*?)```\n")

// recipes writes the scripts of docs/hpc.md into the session's directory, for its image and its directories.
func recipes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: recipes")
	}
	var text []byte
	ts.Check(undropped(func() (err error) {
		text, err = os.ReadFile("../docs/hpc.md")
		return err
	}))
	places := strings.NewReplacer("/path/to/openmpi-image", ts.Getenv("OPENMPI"), "/path/to/image", ts.Getenv("TINY"),
		"/path/to/dataset", ts.MkAbs("dataset"), "/path/to/site-store", ts.MkAbs("site"))
	for _, block := range scriptBlock.FindAllStringSubmatch(string(text), -1) {
		ts.Check(os.WriteFile(ts.MkAbs(block[2]), []byte(places.Replace(block[1])), 0o755))
	}
}

// TestSlurm runs the sessions in testdata/slurm on a cluster of four nodes. TMPDIR is /tmp there, each node's own.
func TestSlurm(t *testing.T) {
	base := baseDir(t)
	bin := filepath.Join(base, "bin")
	installAll(t, bin)
	for _, payload := range []string{"signals"} {
		if err := compile(filepath.Join("payload", payload+".c"), filepath.Join(bin, payload)); err != nil {
			t.Fatal(err)
		}
	}
	tiny, err := image.Get(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	u, err := users.Get(users.Nosub)
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, base)
	work := filepath.Join(base, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	isRoot := os.Geteuid() == 0
	// Sessions run side by side; the group returns when all have ended, before the cluster does.
	t.Run("cluster", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:         "testdata/slurm",
			WorkdirRoot: work,
			Cmds:        slurmCommands(),
			Setup: func(e *testscript.Env) error {
				return enter(t.Context(), e, u, bin, tiny, "TMPDIR=/tmp", "BIN="+bin, "SLURM_CONF="+c.Conf())
			},
			Condition:     func(cond string) (bool, error) { return holds(cond, u, isRoot) },
			UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		})
	})
	t.Run("storm", func(t *testing.T) { largeStorm(t, u, c, filepath.Join(bin, "dlrun"), work) })
	if !isRoot {
		return // there the nodes are the machine, where others work too
	}
	// What was killed may leave its files until the next run; nobody leaves processes, sockets or shared memory.
	left := u.Command(t.Context(), "srun", "--quiet", "-N4", "-n4", "sh", "-c", "ps -eo comm= | grep -x dlrun; "+
		"find /dev/shm /tmp/dlrun-*/steps /tmp/dlrun-*/run-*/tmp /tmp/dlrun-*/run-*/upper -mindepth 1 ! -name '1000.*' 2>/dev/null; true")
	left.Env = append(left.Env, "SLURM_CONF="+c.Conf())
	if out, err := left.Output(); err != nil || len(out) > 0 {
		t.Errorf("left in the nodes: %v: %s", err, out)
	}
}

// largeStorm: the first run of an image of 1 GB by 64 tasks on four nodes, with one store, takes no longer than twice that of
// one task.
func largeStorm(t *testing.T, u *users.User, c *slurm.Cluster, dlrun, work string) {
	debian, err := image.Get(t.Context(), "debian")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(work, "storm")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(dir, u.UID, u.GID); err != nil {
		t.Fatal(err)
	}
	first := func(store string, tasks ...string) (int, time.Duration) {
		cmd := u.Command(t.Context(), "srun", append(append([]string{"--quiet"}, tasks...), dlrun, "--quiet", "--cache", filepath.Join(dir, store, "store"), debian, "--", "echo", "here")...)
		cmd.Env, cmd.Dir = append(cmd.Env, "SLURM_CONF="+c.Conf()), dir
		run(t, u.Command(t.Context(), "mkdir", filepath.Join(dir, store)))
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.Count(string(out), "here\n"), time.Since(begin)
	}
	_, one := first("one", "-n1")
	n, all := first("all", "-N4", "-n64", "--ntasks-per-node=16")
	t.Logf("one task: %v, 64 tasks: %v", one, all)
	if n != 64 || all > 2*one {
		t.Errorf("%d of 64 tasks, in %v; one takes %v", n, all, one)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "all", "store", "tmp")); err == nil && len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
