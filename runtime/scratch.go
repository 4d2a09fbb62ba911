package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
//
// At the end of a run everything in it is removed. A few of the empty directories stay for the next runs: ext4 does
// not give an inode away again for half a minute and looks past all of these for each new one, so that starts in a row,
// as of an array of short jobs, would take milliseconds longer with each.
type Scratch struct {
	Dir     string
	lock    int
	mounted bool // state, in this process's own mount namespace
}

// frames is how many empty directories stay.
const frames = 8

// parts are the directories of a frame that a run finds empty, as if they were new.
var parts = []string{"upper", "work", "tmp", "home", "state"}

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
	s, err := takeFrame(parent)
	if err != nil {
		return nil, err
	}
	if err := s.lay(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// takeFrame returns a directory that no run holds, one that a run has left or a new one. What it still holds is not
// looked at. More of them than stay are the remains of runs that were killed, and removed.
func takeFrame(parent string) (*Scratch, error) {
	entries, err := readFrames(parent)
	if err != nil {
		return nil, err
	}
	var taken *Scratch
	for i, e := range entries {
		if taken != nil && i < frames {
			continue
		}
		s, err := holdScratch(filepath.Join(parent, e.Name()), unix.LOCK_EX)
		switch {
		case err != nil: // in use
			continue
		case taken != nil || strings.HasPrefix(e.Name(), unborn):
			removeTree(s.Dir)
		case unix.Flock(s.lock, unix.LOCK_SH|unix.LOCK_NB) == nil:
			taken = s
			continue
		}
		_ = unix.Close(s.lock) // removed, or somebody was faster while the lock changed
	}
	for taken == nil {
		if taken, err = newFrame(parent); err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, err
		}
	}
	return taken, nil
}

// born begins the name of a frame; unborn that of a directory that is not locked yet and must not be taken for one
// that was left.
const (
	born   = "run-"
	unborn = "new-"
)

// readFrames lists the directories of runs; beside them are the steps (package rendezvous), perhaps a store.
func readFrames(parent string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(parent)
	return slices.DeleteFunc(entries, func(e os.DirEntry) bool {
		return !strings.HasPrefix(e.Name(), born) && !strings.HasPrefix(e.Name(), unborn)
	}), err
}

// newFrame makes a directory that this run holds before others can see it as a frame. ENOENT: another run has
// removed it before it was held.
func newFrame(parent string) (*Scratch, error) {
	dir, err := os.MkdirTemp(parent, unborn)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	s, err := holdScratch(dir, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	s.Dir = filepath.Join(parent, born+strings.TrimPrefix(filepath.Base(dir), unborn))
	if err := os.Rename(dir, s.Dir); err != nil {
		_ = unix.Close(s.lock)
		return nil, err
	}
	return s, nil
}

// lay makes the parts of the frame, empty and without attributes of their own.
func (s *Scratch) lay() error {
	if err := unix.Fsetxattr(s.lock, "user.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("no user.* extended attributes: %w", err)
	}
	_ = unix.Fremovexattr(s.lock, "user.overlay.opaque")
	for _, name := range parts {
		if err := blank(filepath.Join(s.Dir, name)); err != nil {
			return err
		}
	}
	tmp := filepath.Join(s.Dir, "tmp")
	if err := unix.Chmod(tmp, 0o1777); err != nil { // as programs expect it; the directories above keep others out
		return err
	}
	return unix.Utimes(tmp, nil)
}

// blank makes dir an empty directory without attributes of its own, whatever is there.
func blank(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return nil
	}
	if err := emptyTree(dir); err == nil && clearXattrs(dir) == nil && unix.Chmod(dir, 0o700) == nil {
		return nil
	}
	removeTree(dir)
	return os.Mkdir(dir, 0o700)
}

// clearXattrs removes every extended attribute, access control lists included.
func clearXattrs(dir string) error {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(dir, list)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		if err := unix.Lremovexattr(dir, name); err != nil {
			return err
		}
	}
	return nil
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

// holdScratch takes the lock that keeps other runs away. It fails with ENOENT where one has it.
func holdScratch(dir string, how int) (*Scratch, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", dir, err)
	}
	// Where there are no locks every run has a directory of its own: there a frame is never taken again.
	if err := unix.Flock(fd, how|unix.LOCK_NB); err != nil && (how == unix.LOCK_EX || !noLocks(err)) {
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

// Remove ends a scratch directory whose run has not been handed over.
func (s *Scratch) Remove() { s.remove() }

func (s *Scratch) remove() {
	// Binds of the host hang below the root, in state. Where that cannot be detached, the next run sweeps: in its
	// mount namespace nothing is mounted here.
	if s.mounted && unix.Unmount(s.state(), unix.MNT_DETACH) != nil {
		return
	}
	for _, name := range parts {
		_ = blank(filepath.Join(s.Dir, name)) // else the next run's affair
	}
	if entries, err := readFrames(filepath.Dir(s.Dir)); err != nil || len(entries) > frames {
		removeTree(s.Dir)
	}
	_ = unix.Close(s.lock)
}

// claim takes a directory that keeps the writes of runs for this one, until it ends: overlayfs promises nothing where two
// share an upper directory.
func (s *Scratch) claim(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("keep writes in %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil && !noLocks(err) {
		_ = unix.Close(fd)
		return fmt.Errorf("keep writes in %s: another run does that now", dir)
	}
	return nil // the lock goes with this process
}

// mountState mounts a tmpfs for the small files of a start: on ext4 each new file may cost a millisecond while
// many others have just been removed (find_inode_bit, recently_deleted).
func (s *Scratch) mountState() error {
	if err := unix.Mount("tmpfs", s.state(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	s.mounted = true
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
func (s *Scratch) points() string { return filepath.Join(s.state(), "points"+comma) }

// isOurs reports whether m's content belongs to this run alone.
func (s *Scratch) isOurs(m specs.Mount) bool {
	return m.Type == "tmpfs" || m.Type == "bind" && strings.HasPrefix(m.Source, s.Dir+"/")
}
