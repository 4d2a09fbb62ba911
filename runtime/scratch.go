package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Scratch is the directory of one run: writable layer, private /tmp and HOME, libcontainer's state.
//
//	BASE/dlrun-UID/          0700, the caller's
//	    run-RANDOM/          0700, a shared flock on it is held while the run lives
//	        upper/ work/     the writable layer
//	        tmp/ home/       bound into the container
//	        state/           a tmpfs, seen by the run alone: where the root is mounted, missing mount points,
//	                         passwd and group with the caller's lines, libcontainer's state
type Scratch struct {
	Dir     string
	lock    int
	mounted []string // by this process, in its own mount namespace
}

// networkFilesystems cannot hold an overlay's upper directory, or only in name, or slowly.
var networkFilesystems = map[int64]string{
	0x6969: "NFS", 0x0BD00BD0: "Lustre", 0x47504653: "GPFS", 0xFF534D42: "CIFS", 0xFE534D42: "SMB",
	0x01021997: "9p", 0x65735546: "FUSE", 0x5346414F: "AFS", 0x00C36400: "Ceph", 0x19830326: "BeeGFS",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
}

// NewScratch makes the directory of a run in the first of bases that is node-local and passes a trial for
// user.* extended attributes (tmpfs has them since Linux 6.6), and sweeps what dead runs left there. An error
// tells what was wrong with each base.
func NewScratch(bases []string) (*Scratch, error) {
	var why []string
	for _, base := range bases {
		s, err := newScratchIn(base)
		if err == nil {
			return s, nil
		}
		why = append(why, fmt.Sprintf("%s: %v", base, err))
	}
	return nil, &ScratchError{why}
}

// ScratchError tells why no base directory could hold the files of a run.
type ScratchError struct{ Reasons []string }

func (e *ScratchError) Error() string {
	return "no place for the files of this run: " + strings.Join(e.Reasons, "; ")
}

// Hint is the next step.
func (e *ScratchError) Hint() string { return "name a directory on a local disk: --scratch DIR" }

func newScratchIn(base string) (*Scratch, error) {
	base, err := filepath.EvalSymlinks(base)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if base, err = filepath.Abs(base); err != nil {
		return nil, err
	}
	parent := filepath.Join(base, fmt.Sprintf("dlrun-%d", os.Getuid()))
	if err := os.Mkdir(parent, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, errors.Unwrap(err)
	}
	if err := checkParent(parent); err != nil {
		return nil, err
	}
	sweep(parent)
	for {
		dir, err := os.MkdirTemp(parent, "run-")
		if err != nil {
			return nil, errors.Unwrap(err)
		}
		s, err := holdScratch(dir)
		if errors.Is(err, unix.ENOENT) {
			continue // swept between mkdir and flock
		}
		if err != nil {
			return nil, err
		}
		if err := unix.Fsetxattr(s.lock, "user.overlay.opaque", []byte("y"), 0); err != nil {
			s.remove()
			return nil, fmt.Errorf("no user.* extended attributes: %w", err)
		}
		_ = unix.Fremovexattr(s.lock, "user.overlay.opaque")
		for _, d := range []string{"tmp", "home", "state"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
				s.remove()
				return nil, errors.Unwrap(err)
			}
		}
		return s, nil
	}
}

// checkParent refuses a directory that somebody else has laid out for us.
func checkParent(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory", dir)
	case int(st.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to uid %d", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s is open to others (mode %04o)", dir, st.Mode&0o7777)
	}
	if name := networkFilesystems[int64(fs.Type)]; name != "" {
		return fmt.Errorf("%s is no local file system", name)
	}
	return nil
}

// holdScratch takes the lock that keeps sweepers away.
func holdScratch(dir string) (*Scratch, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != nil && !noLocks(err) {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("hold %s: %w", dir, unix.ENOENT)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Nlink == 0 {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("hold %s: %w", dir, unix.ENOENT)
	}
	return &Scratch{Dir: dir, lock: fd}, nil
}

func noLocks(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)
}

// sweep removes the directories of runs that are dead: nobody holds their lock.
func sweep(parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "run-") {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			removeTree(dir)
		}
		_ = unix.Close(fd)
	}
}

// Remove ends a scratch directory whose run has not been handed over.
func (s *Scratch) Remove() { s.remove() }

func (s *Scratch) remove() {
	// Binds of the host hang below the root. Where it cannot be detached, the next run sweeps: in its
	// mount namespace nothing is mounted here.
	for _, m := range s.mounted {
		if unix.Unmount(m, unix.MNT_DETACH) != nil {
			return
		}
	}
	removeTree(s.Dir)
}

// mountState mounts a tmpfs for the small files of a start: on ext4 each new file may cost a millisecond while
// many others have just been removed (find_inode_bit, recently_deleted).
func (s *Scratch) mountState() error {
	if err := unix.Mount("tmpfs", s.state(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	s.mounted = append(s.mounted, s.state())
	return nil
}

// stateFile writes a file of the start and returns it open for reading.
func (s *Scratch) stateFile(name string, data []byte) (*os.File, error) {
	file := filepath.Join(s.state(), name)
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return os.Open(file)
}

func (s *Scratch) state() string { return filepath.Join(s.Dir, "state") }

// points is the layer of mount points that the image lacks.
func (s *Scratch) points() string { return filepath.Join(s.state(), "points") }

// isOurs reports whether m's content belongs to this run alone.
func (s *Scratch) isOurs(m specs.Mount) bool {
	return m.Type == "tmpfs" || m.Type == "bind" && strings.HasPrefix(m.Source, s.Dir+"/")
}
