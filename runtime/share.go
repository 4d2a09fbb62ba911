package runtime

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/prelude"
	"github.com/dlrun/dlrun/runtime/rendezvous"
)

// Step is what brings runs together in one container.
type Step struct {
	ID    string // tells steps of the caller's on this node apart
	Rank  string // who of the step this is; of runs at the same time one takes part. "": all do
	Image string // the digest of the image's manifest
}

// Seat is a run's place in a container that runs of a step share.
type Seat struct {
	place *rendezvous.Place
	claim string // the name of the rank's own socket, "" for none
}

// Placeholder stands for the scratch directory in a spec that Meet gets.
const Placeholder = "/scratch"

// protocol is part of every key: runs of versions of dlrun that do it another way do not meet.
const protocol = "2"

// StateDir returns the directory in which runs of the caller's keep what no container is to see.
func StateDir() (string, error) {
	dir, err := rendezvous.Dir()
	return filepath.Dir(dir), err
}

// Meet returns the place of a run in the container of its step: of runs that see the same of the same image. It waits for
// the one that makes it. Without an error the seat is nil where another run of this rank takes part. s describes the run as it
// would be with Placeholder as its scratch directory.
func Meet(s *specs.Spec, step Step) (*Seat, error) {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			return nil, errors.New("ranks with private process ids cannot share a container")
		}
	}
	dir, err := rendezvous.Dir()
	if err != nil {
		return nil, err
	}
	seat := &Seat{}
	claim := -1
	if step.Rank != "" {
		name := shortHash(protocol, step.ID) + "." + rankName(step.Rank)
		if claim, err = rendezvous.Take(dir, name); err != nil || claim < 0 {
			return nil, err
		}
		seat.claim = filepath.Join(dir, name)
	}
	key, err := planKey(s, step)
	if err == nil {
		seat.place, err = rendezvous.Meet(dir, key)
	}
	if err != nil {
		if claim >= 0 {
			_ = unix.Unlink(seat.claim)
			_ = unix.Close(claim)
		}
		return nil, err
	}
	if claim >= 0 {
		seat.place.Files[prelude.Claim] = claim
	}
	// From here on the front sees to it that what was begun is ended.
	return seat, prelude.Share(seat.place.Files, seat.place.Socket, seat.claim, key)
}

// First reports whether this run makes the container. It then starts as Run does, else by Join.
func (t *Seat) First() bool { return t.place.First }

// planKey is the key of a meeting. What is each process's own is not part of it: arguments, environment, filter, terminal.
func planKey(s *specs.Spec, step Step) (string, error) {
	j := newJob(s, Options{})
	j.Args, j.Env, j.Terminal = nil, nil, false
	plan, err := json.Marshal(j)
	if err != nil {
		return "", fmt.Errorf("describe the run: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return shortHash(protocol, fmt.Sprint(os.Getuid()), string(boot), step.ID, step.Image, string(plan)), nil
}

// rankName is a number as it is: ranks that are alike make the name themselves (prelude/alike.c).
func rankName(rank string) string {
	if _, err := strconv.ParseUint(rank, 10, 32); err == nil {
		return rank
	}
	return shortHash(rank)
}

// shortHash is 128 bits in hex: names of sockets are short.
func shortHash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}

// Start hands the first run over, as Run does: its inside makes the container and lets others in.
func (t *Seat) Start(s *specs.Spec, scratch *Scratch, o Options) error {
	if err := checkFilter(s, o); err != nil {
		return err
	}
	files := prelude.Files{prelude.ScratchIn: scratch.lock}
	if fd := hold(o.Hold); fd >= 0 { // the inside's own ends with it, and others may be in the container still
		defer unix.Close(fd)
		files[prelude.Hold] = fd
	}
	if prelude.FirstAlike() && t.claim != "" && o.AlikeEnv != nil && !needsLeader(s) {
		p := *s.Process
		p.Env = o.AlikeEnv
		letter, err := letterFile(prelude.AlikeLetter(enterLetter(&p, o, false, joinsInner(s))))
		if err != nil {
			return err
		}
		defer letter.Close()
		files[prelude.Letter] = int(letter.Fd())
	}
	if err := prelude.Share(files, "", "", ""); err != nil {
		return err
	}
	o.Shared = true
	return call(request{Run: newJob(s, o)})
}

func joinsInner(s *specs.Spec) int {
	if s.Process.User.UID == 0 {
		return nestedNot
	}
	return nestedJoin
}

// Prepare starts the inside of the first run. It may be called ahead of Start, to let it come up meanwhile.
func (t *Seat) Prepare(s *specs.Spec) error { return renew(s.Process.User.UID != 0) }

// Join starts the command in the container. When it returns nil this process has nothing left to do but to exit with 0.
func (t *Seat) Join(s *specs.Spec, o Options) error {
	if err := checkFilter(s, o); err != nil {
		return err
	}
	nested := nestedNot
	if _, ok := t.place.Files[prelude.InnerUser]; ok {
		nested = nestedJoin
	}
	letter, err := letterFile(enterLetter(s.Process, o, needsLeader(s), nested))
	if err != nil {
		return err
	}
	defer letter.Close()
	return prelude.Join(letter)
}

// letterFile holds data in memory.
func letterFile(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("dlrun", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("dlrun", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "letter")
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// capabilityBits is the bounding set of a process that stays uid 0 in the container.
func capabilityBits(p *specs.Process) (bits uint64) {
	if p.User.UID != 0 || p.Capabilities == nil {
		return 0
	}
	for _, c := range capability.ListKnown() {
		for _, name := range p.Capabilities.Bounding {
			if strings.EqualFold(name, "CAP_"+c.String()) {
				bits |= 1 << c
			}
		}
	}
	return bits
}

// letOthersIn gives the front the namespaces of a container that is made, and whose command has not begun.
func letOthersIn(s *specs.Spec, init int, inner *os.File) error {
	of := map[prelude.ShareFile]string{
		prelude.User: "/proc/self/ns/user", prelude.Cgroup: "/proc/self/ns/cgroup", prelude.Mounts: fmt.Sprintf("/proc/%d/ns/mnt", init),
	}
	for _, ns := range s.Linux.Namespaces {
		switch ns.Type {
		case specs.NetworkNamespace:
			of[prelude.Net] = fmt.Sprintf("/proc/%d/ns/net", init)
		case specs.UTSNamespace:
			of[prelude.UTS] = fmt.Sprintf("/proc/%d/ns/uts", init)
		}
	}
	files := prelude.Files{}
	defer files.Close()
	for file, path := range of {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		files[file] = fd
	}
	if inner != nil {
		fd, err := unix.FcntlInt(inner.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		files[prelude.InnerUser] = fd
	}
	return prelude.Share(files, "", "", "")
}

// Tidy empties the scratch directory of a shared container that nobody is in any more: file descriptor 3, which holds
// its lock.
func Tidy() error {
	dir, err := os.Readlink("/proc/self/fd/3")
	if err != nil {
		return err
	}
	parent, name := filepath.Split(dir)
	if filepath.Base(parent) != fmt.Sprintf("dlrun-%d", os.Getuid()) || !strings.HasPrefix(name, born) {
		return fmt.Errorf("%s is no scratch directory", dir)
	}
	if err := checkParent(filepath.Clean(parent)); err != nil {
		return err
	}
	(&Scratch{Dir: dir, lock: 3}).remove()
	return nil
}
