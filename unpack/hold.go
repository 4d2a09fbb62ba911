package unpack

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxMarker is more than a marker of as many layers as can be stacked has, in bytes.
const maxMarker = 256 << 10

func (s *Store) markerFile(chain string) string {
	return filepath.Join(s.dir, "roots", chain+".json")
}

// holdMarker opens the marker of an image and takes a shared lock on it, which tells whoever trims the store that the
// image is in use. It returns nil when there is no marker that can be used. It never waits: whoever has the exclusive
// lock removes the marker, or looks whether it is held and lets go at once. Where locks do not work nobody trims.
func (s *Store) holdMarker(chain string) (*os.File, marker, error) {
	var m marker
	f, err := openPlain(s.markerFile(chain))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, m, nil
	}
	if err != nil {
		return nil, m, err
	}
	for range 5 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
			break
		}
		time.Sleep(time.Millisecond)
	}
	var st unix.Stat_t
	if err == unix.EWOULDBLOCK || unix.Fstat(int(f.Fd()), &st) != nil || st.Nlink == 0 {
		f.Close()
		return nil, m, nil
	}
	switch err := s.decode(f, maxMarker, &m); {
	case errors.Is(err, os.ErrNotExist):
		f.Close()
		return nil, m, nil
	case err != nil:
		f.Close()
		return nil, m, err
	}
	return f, m, nil
}

// keep holds a locked marker until the store is closed. The number of a file has no finalizer.
func (s *Store) keep(f *os.File) error {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	f.Close() // the lock belongs to both
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	s.holding.Lock()
	defer s.holding.Unlock()
	s.held = append(s.held, fd)
	return nil
}

// usedEvery is how often the last use of an image is written down: the order in which images are removed is as exact.
const usedEvery = time.Minute

// touch notes that an image is used. Where that cannot be written it is not. A time in the future is of a clock that
// was wrong.
func touch(f *os.File) {
	fi, err := f.Stat()
	if err != nil || time.Since(fi.ModTime()).Abs() < usedEvery {
		return
	}
	now := unix.NsecToTimespec(time.Now().UnixNano())
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, f.Name(), []unix.Timespec{now, now}, unix.AT_SYMLINK_NOFOLLOW)
}

// inUse reports whether the image of a marker is held. Where locks do not work it may be.
func (s *Store) inUse(chain string) bool {
	f, err := openForLock(s.markerFile(chain))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// openForLock opens a file for an exclusive lock, for which NFS wants it to be writable.
func openForLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return openPlain(path)
	}
	return f, err
}

// partInUse reports whether an image that is held needs a part of the store.
func (s *Store) partInUse(id string) bool {
	markers, err := s.markers()
	if err != nil {
		return true
	}
	for _, m := range markers {
		if m.needs(id) && s.inUse(m.Chain) {
			return true
		}
	}
	return false
}
