package unpack

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lock waits for the lock on id and returns the file that has it, to be closed, or nil. Where locks do
// not work it returns at once: two processes then do the same work, and the
// second finds its result in place. While there is a wait, waiting is called; when it
// returns true the wait is over without the lock.
func (s *Store) lock(ctx context.Context, id string, waiting func() bool) (*os.File, error) {
	f, err := s.openLock(id)
	if err != nil {
		return nil, nil
	}
	for wait := 5 * time.Millisecond; ; wait = min(wait*2, 100*time.Millisecond) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
		case nil:
			if isNamed(f) {
				return f, nil
			}
			f.Close() // its name was removed with what it stood for
			return s.lock(ctx, id, waiting)
		default: // ENOLCK, ENOSYS and their like
			return f, nil
		}
		if waiting() {
			f.Close()
			return nil, nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// imageLock names the lock on what belongs to one image, which may have the id of its only layer.
func imageLock(chain string) string { return "image-" + chain }

func (s *Store) openLock(id string) (*os.File, error) {
	return os.OpenFile(filepath.Join(s.dir, "locks", id), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
}

// share takes the lock on id as one of many, nil when someone has it alone. While it is held trim leaves alone what
// bears the name id.
func (s *Store) share(id string) *os.File {
	f, err := s.openLock(id)
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil || !isNamed(f) {
		f.Close()
		return nil
	}
	return f
}

// seize takes the lock on id alone, nil when that cannot be had.
func (s *Store) seize(id string) *os.File {
	f, err := s.openLock(id)
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !isNamed(f) {
		f.Close()
		return nil
	}
	return f
}

// isNamed reports whether the name of an open file has not been removed.
func isNamed(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0
}
