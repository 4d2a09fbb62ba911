package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/runtime"
	"github.com/dlrun/dlrun/runtime/prelude"
	"github.com/dlrun/dlrun/runtime/spec"
)

// shareModes are what --mpi takes.
var shareModes = []string{"auto", "on", "off"}

// seat returns the place of the run that plan describes in a container which it shares with others of its step, or nil
// where it has one of its own. MPI's ways between the ranks of a node end at user namespaces.
func (f *runFlags) seat(img *layout.Image, plan *specs.Spec) (*runtime.Seat, error) {
	if f.mpi == "off" || f.dryRun {
		return nil, nil
	}
	found := spec.StepOf(os.Environ(), hydra)
	step := runtime.Step{ID: found.ID, Rank: found.Rank}
	if f.mpi == "auto" {
		own := slices.ContainsFunc(plan.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
		if found.Tasks < 2 || found.Rank == "" || own {
			return nil, nil
		}
	} else {
		step.Rank = ""
		if step.ID == "" {
			step.ID = session()
		}
	}
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	step.Image = digest.String()
	seat, err := runtime.Meet(plan, step)
	switch {
	case err != nil && f.mpi == "auto":
		note(f.speech.quiet, "%v: this rank has a container of its own", err)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("--mpi on: %w", err)
	case seat == nil:
		f.speech.step("another run of this rank shares the container of the step")
	case seat.First():
		f.speech.step("first run of %s", step.ID)
	default:
		f.speech.step("joining %s", step.ID)
	}
	return seat, nil
}

// alikeEnv returns the environment of s for ranks with the same command line: what each has from its own caller is a name
// without a value. It is found by trying other values, and nil where more than these variables changes by that.
func (f *runFlags) alikeEnv(s *specs.Spec, host spec.Host, describe func(spec.Host) (*specs.Spec, error)) []string {
	if !prelude.FirstAlike() || f.readsOwnFiles() {
		return nil
	}
	const other = "~"
	own := prelude.RankVariables()
	host.Env = slices.Clone(host.Env)
	for i, v := range host.Env {
		if name, _, ok := strings.Cut(v, "="); ok && slices.Contains(own, name) {
			host.Env[i] = v + other
		}
	}
	t, err := describe(host)
	if err != nil || len(t.Process.Env) != len(s.Process.Env) {
		return nil
	}
	env := slices.Clone(s.Process.Env)
	for i, v := range env {
		if v == t.Process.Env[i] {
			continue
		}
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(own, name) || t.Process.Env[i] != v+other {
			return nil
		}
		env[i] = name
	}
	t.Process.Env = s.Process.Env
	if !reflect.DeepEqual(s, t) {
		return nil
	}
	return env
}

// readsOwnFiles reports whether a file that the flags name may be another one for each process, as /dev/fd/3 is.
func (f *runFlags) readsOwnFiles() bool {
	files := slices.Clone(f.envFile)
	if f.ownProfile() {
		files = append(files, f.seccomp)
	}
	return slices.ContainsFunc(files, func(name string) bool {
		fi, err := os.Lstat(name)
		if err != nil || !fi.Mode().IsRegular() {
			return true
		}
		dir, err := filepath.Abs(filepath.Dir(name))
		if err == nil {
			dir, err = filepath.EvalSymlinks(dir)
		}
		return err != nil || slices.Contains([]string{"proc", "dev"}, strings.Split(dir, "/")[1])
	})
}

// offer returns what the launcher of this rank offers an MPI program. To say it once, only the first node's first rank has an
// answer: the one that makes the container, or where there is none to share rank 0.
func offer(env []string, first bool) string {
	e := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		e[name] = value
	}
	switch ranks, err := strconv.Atoi(e["SLURM_STEP_NUM_TASKS"]); {
	case err != nil || ranks < 2 || e["SLURM_STEP_ID"] == "" || e["SLURM_NODEID"] != "0" || !first && e["SLURM_PROCID"] != "0":
		return ""
	case e["PMI_FD"] != "":
		return runtime.OfferPMI2
	case e["PMIX_NAMESPACE"] != "":
		return runtime.OfferPMIx
	}
	return runtime.OfferNone
}

// session stands for the step of runs that no launcher has started, as under xargs, make or parallel.
func session() string {
	sid, err := unix.Getsid(0)
	if err != nil {
		sid = 0
	}
	_, _, begun, _ := process(sid)
	return fmt.Sprintf("session %s %d %s", os.Getenv("SLURM_JOB_ID"), sid, begun)
}

// hydra finds the process that Hydra, MPICH's launcher, has started the ranks of this node from: its number and the time
// of its start.
func hydra() string {
	for pid := os.Getppid(); pid > 1; {
		name, parent, begun, err := process(pid)
		if err != nil {
			return ""
		}
		if strings.HasPrefix(name, "hydra_") {
			return fmt.Sprintf("%d %s", pid, begun)
		}
		pid = parent
	}
	return ""
}

// process reads name, parent and time of start (in clock ticks since the boot) from /proc.
func process(pid int) (name string, parent int, begun string, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0, "", err
	}
	from, to := strings.IndexByte(string(data), '('), strings.LastIndexByte(string(data), ')')
	if from < 0 || to < from {
		return "", 0, "", fmt.Errorf("/proc/%d/stat: %w", pid, strconv.ErrSyntax)
	}
	fields := strings.Fields(string(data[to+1:])) // from the third on
	if len(fields) < 20 {
		return "", 0, "", fmt.Errorf("/proc/%d/stat: %w", pid, strconv.ErrSyntax)
	}
	parent, err = strconv.Atoi(fields[1])
	return string(data[from+1 : to]), parent, fields[19], err
}
