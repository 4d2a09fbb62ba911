package slurm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startBound starts cmd from a thread that lives as long as this process: the signal of Pdeathsig comes when the thread
// ends, not the process.
func startBound(cmd *exec.Cmd) error {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {} // keeps the thread
	}()
	return <-started
}

// Stop ends all jobs and daemons, and fails when a process of the cluster outlives it.
func (c *Cluster) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if len(c.daemons) > 1 {
		_ = c.tool(ctx, "scancel", "--quiet", "--signal=KILL", "--full", "--state=RUNNING").Run()
		_ = c.tool(ctx, "scancel", "--quiet", "--state=PENDING").Run()
	}
	// The nodes first, munged last.
	for i := len(c.daemons) - 1; i >= 0; i-- {
		c.daemons[i].end()
	}
	c.daemons = nil
	var left []int
	for range 20 {
		if left = c.processes(); len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("slurm: still alive: %v", left)
}

// end asks a daemon to end, then makes it.
func (d *daemon) end() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(endLimit):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}

// processes are those of the cluster that are left: steps' daemons, which sit in the spool directory, and tasks, which
// have the cluster in their environment. With nodes of their own there are none.
func (c *Cluster) processes() []int {
	var pids []int
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if c.owns(filepath.Join("/proc", e.Name())) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (c *Cluster) owns(proc string) bool {
	env, err := os.ReadFile(filepath.Join(proc, "environ"))
	if errors.Is(err, os.ErrPermission) {
		return false
	}
	for v := range strings.SplitSeq(string(env), "\x00") {
		if v == "SLURM_CONF="+c.Conf() {
			return strings.Contains(string(env), "SLURM_JOB_ID=")
		}
	}
	cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
	return strings.HasPrefix(cwd, c.Dir+"/spool/")
}
