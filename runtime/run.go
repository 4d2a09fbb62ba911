package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// run is the inside's line: root, container, affinity, exec, wait.
func run(j *job, scratch *Scratch, note func(string)) (int, error) {
	s := j.spec()
	var affinity unix.CPUSet
	if err := unix.SchedGetaffinity(0, &affinity); err != nil {
		return 125, fmt.Errorf("read the CPU affinity: %w", err)
	}
	if err := scratch.mountState(); err != nil {
		return 125, err
	}
	if err := mountAll(s, scratch, note); err != nil {
		return 125, err
	}
	// libcontainer hands this one variable to its init, which starts faster with one processor to schedule on.
	if err := os.Setenv("GOMAXPROCS", "1"); err != nil {
		return 125, err
	}
	c, err := libcontainer.Create(scratch.state(), "run", containerConfig(s))
	if err != nil {
		return 125, fmt.Errorf("create the container: %w", err)
	}
	led := needsLeader(s)
	var inner *os.File
	if j.Options.Shared && s.Process.User.UID != 0 {
		if inner, err = prelude.Inner(); err != nil {
			return 125, err
		}
	}
	p, err := commandProcess(s, j.Options, led, scratch, inner)
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
	if j.Options.Shared {
		if err := letOthersIn(s, pid, inner); err != nil {
			return 125, err
		}
	}
	for _, f := range p.ExtraFiles { // they are the command's alone: others wait for their end
		_ = f.Close()
	}
	prelude.SetCommand(pid, led)
	if err := c.Exec(); err != nil {
		return 125, fmt.Errorf("start the command: %w", err)
	}
	if err := letGo(); err != nil {
		return 125, err
	}
	defer time.AfterFunc(time.Second, shrink).Stop()
	code, err := wait(pid)
	prelude.SetCommand(-1, false)
	if err == nil && code != 0 && code != 126 && code != 127 && j.Options.Offer != "" {
		err = explainMPI(s, j.Options.Offer)
	}
	return code, err
}

// shrink gives back what the start has taken: a long run only waits. It does not return.
func shrink() {
	debug.FreeOSMemory()
	debug.SetGCPercent(-1) // else the collector comes every two minutes, for nothing
	prelude.DropProgram()
}

// needsLeader reports whether the command needs a parent in its own session (prelude/leader.c).
func needsLeader(s *specs.Spec) bool {
	return s.Process.Terminal || slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
}

// letGo closes stdin and stdout: whoever waits for the command to close its own need not wait for this process.
func letGo() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 2 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return nil
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

// commandProcess describes libcontainer's process: this binary once more, which enters the inner user namespace,
// loads the seccomp filter and execs the command. libcontainer would compile the filter anew in every run and load it
// too early: a profile without unshare would keep the command from its own uid.
// The inner user namespace is made there, unless it is given.
func commandProcess(s *specs.Spec, o Options, led bool, scratch *Scratch, inner *os.File) (*libcontainer.Process, error) {
	var files []*os.File
	for _, fd := range o.Files {
		files = append(files, os.NewFile(uintptr(fd), "inherited"))
	}
	nested := nestedNew
	switch {
	case s.Process.User.UID == 0:
		nested = nestedNot
	case inner != nil:
		nested = nestedJoin
	}
	letter, err := scratch.stateFile("enter", enterLetter(s.Process, o, led, nested))
	if err != nil {
		return nil, err
	}
	at := 3 + len(files)
	files = append(files, letter, prelude.Leader())
	if inner != nil {
		files = append(files, inner)
	}
	return &libcontainer.Process{
		Init: true,
		Args: []string{"/proc/self/exe", "__enter", strconv.Itoa(at)}, ExtraFiles: files,
		Env: []string{"HOME=/"}, Cwd: "/", // the command's own are in the letter
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		LogLevel: "1", // fatal; see Serve
	}, nil
}

// Where the command's inner user namespace comes from; the same numbers as in prelude.h.
const (
	nestedNot  = iota // it stays in the outer one
	nestedNew         // it makes it
	nestedJoin        // it is there
)

// enterLetter is what prelude/enter.c reads: the length of the filter (8 bytes, the machine's order), the filter, and
// strings that each end in NUL. led says whether the command gets a leader.
func enterLetter(p *specs.Process, o Options, led bool, nested int) []byte {
	leader, terminal := 0, 0
	if led {
		leader = 1
	}
	if p.Terminal {
		terminal = 1
	}
	numbers := make([]string, len(o.Files))
	for i, fd := range o.Files {
		numbers[i] = strconv.Itoa(fd)
	}
	words := []string{
		fmt.Sprintf("%d:%d:%d:%x:%x:%d:%d:%x", p.User.UID, p.User.GID, nested, prelude.Ignored(), prelude.Blocked(),
			leader, terminal, capabilityBits(p)),
		strings.Join(numbers, ","), p.Cwd, o.Hint, strconv.Itoa(len(p.Args)),
	}
	words = append(append(words, p.Args...), p.Env...)
	letter := binary.NativeEndian.AppendUint64(nil, uint64(len(o.Filter)))
	letter = append(letter, o.Filter...)
	for _, w := range words {
		letter = append(append(letter, w...), 0)
	}
	return letter
}

// containerConfig is what is left to libcontainer: the mounts are made, the outer user namespace is entered.
func containerConfig(s *specs.Spec) *configs.Config {
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
	return c
}
