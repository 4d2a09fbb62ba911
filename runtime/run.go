package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// run is the inside's line: root, container, affinity, exec, wait.
func run(j *job, scratch *Scratch) (int, error) {
	var affinity unix.CPUSet
	if err := unix.SchedGetaffinity(0, &affinity); err != nil {
		return 125, fmt.Errorf("read the CPU affinity: %w", err)
	}
	if err := scratch.mountState(); err != nil {
		return 125, err
	}
	if err := mountAll(j.Spec, scratch); err != nil {
		return 125, err
	}
	config, err := containerConfig(j.Spec)
	if err != nil {
		return 125, err
	}
	// libcontainer hands this one variable to its init, which starts faster with one processor to schedule on.
	if err := os.Setenv("GOMAXPROCS", "1"); err != nil {
		return 125, err
	}
	c, err := libcontainer.Create(scratch.state(), "run", config)
	if err != nil {
		return 125, fmt.Errorf("create the container: %w", err)
	}
	p, err := commandProcess(j, scratch)
	if err != nil {
		return 125, err
	}
	if err := c.Start(p); err != nil {
		return 125, fmt.Errorf("start the container: %w", err)
	}
	pid, err := p.Pid()
	if err != nil {
		return 125, err
	}
	// libcontainer v1.5 resets the mask to all CPUs; srun --cpu-bind, mpirun and taskset rely on it.
	if err := unix.SchedSetaffinity(pid, &affinity); err != nil {
		return 125, fmt.Errorf("keep the CPU affinity: %w", err)
	}
	if err := c.Exec(); err != nil {
		return 125, fmt.Errorf("start the command: %w", err)
	}
	prelude.SetCommand(pid)
	code, err := wait(pid)
	prelude.SetCommand(0)
	return code, err
}

// wait reaps until the command has ended: orphans of the run are children of this process too.
func wait(command int) (int, error) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 125, fmt.Errorf("wait for the command: %w", err)
		case pid == command && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case pid == command && ws.Exited():
			return ws.ExitStatus(), nil
		}
	}
}

// commandProcess describes libcontainer's process: this binary once more, which enters the inner user
// namespace and execs the command (prelude/enter.c).
func commandProcess(j *job, scratch *Scratch) (*libcontainer.Process, error) {
	p, user := j.Spec.Process, j.Spec.Process.User
	nested := 1
	if user.UID == 0 {
		nested = 0
	}
	var numbers []string
	var files []*os.File
	for _, fd := range j.Options.Files {
		numbers = append(numbers, strconv.Itoa(fd))
		files = append(files, os.NewFile(uintptr(fd), "inherited"))
	}
	// The filter is loaded as the very last, in the inner user namespace. libcontainer would compile it anew in every
	// run, and before: a profile without unshare would keep the command from its own uid.
	filtered := 0
	if len(j.Options.Filter) > 0 {
		filtered = 1
		f, err := scratch.stateFile("seccomp", j.Options.Filter)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	args := []string{"/proc/self/exe", "__enter",
		fmt.Sprintf("%d:%d:%d:%d:%x", user.UID, user.GID, nested, filtered, prelude.Ignored()),
		strings.Join(numbers, ","), p.Cwd, j.Options.Hint}
	return &libcontainer.Process{
		Init: true, Args: append(args, p.Args...), Env: p.Env, Cwd: "/",
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ExtraFiles: files,
		LogLevel: "1", // fatal; see Serve
	}, nil
}

// containerConfig is what is left to libcontainer: the mounts are made, the outer user namespace is entered.
func containerConfig(s *specs.Spec) (*configs.Config, error) {
	caps := s.Process.Capabilities
	if s.Process.User.UID != 0 {
		// For the inner user namespace alone: mapping the outer uid 0 needs it since Linux 5.12. The
		// command's sets are empty, since it is exec'ed as another uid than 0 (enter.c).
		setfcap := []string{"CAP_SETFCAP"}
		caps = &specs.LinuxCapabilities{Bounding: setfcap, Effective: setfcap, Permitted: setfcap}
	}
	c := &configs.Config{
		Rootfs:          s.Root.Path,
		Readonlyfs:      s.Root.Readonly,
		Namespaces:      configs.Namespaces{{Type: configs.NEWNS}},
		Hostname:        s.Hostname,
		MaskPaths:       s.Linux.MaskedPaths,
		ReadonlyPaths:   s.Linux.ReadonlyPaths,
		Umask:           s.Process.User.Umask,
		NoNewPrivileges: s.Process.NoNewPrivileges,
		NoNewKeyring:    true, // the session keyring holds Kerberos and AFS tokens
		RootlessCgroups: true,
		Cgroups:         &cgroups.Cgroup{Name: "dlrun", Rootless: true, Resources: &cgroups.Resources{}},
		Capabilities: &configs.Capabilities{
			Bounding: caps.Bounding, Effective: caps.Effective, Permitted: caps.Permitted,
		},
	}
	for _, ns := range s.Linux.Namespaces {
		switch ns.Type {
		case specs.NetworkNamespace:
			c.Namespaces.Add(configs.NEWNET, "")
			c.Networks = []*configs.Network{{Type: "loopback"}}
		case specs.PIDNamespace:
			c.Namespaces.Add(configs.NEWPID, "")
		case specs.UTSNamespace:
			c.Namespaces.Add(configs.NEWUTS, "")
		case specs.IPCNamespace:
			c.Namespaces.Add(configs.NEWIPC, "")
		}
	}
	// One bind of /dev onto itself makes libcontainer take /dev as it is.
	c.Mounts = []*configs.Mount{{Device: "bind", Source: filepath.Join(s.Root.Path, "dev"), Destination: "/dev", Flags: unix.MS_BIND | unix.MS_REC}}
	for _, m := range s.Mounts {
		if m.Type == "proc" { // can be mounted only by a process of its pid namespace
			c.Mounts = append(c.Mounts, &configs.Mount{Device: "proc", Source: "proc", Destination: m.Destination,
				Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC})
		}
	}
	return c, nil
}
