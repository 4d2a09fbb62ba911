package unpack

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lock waits for the lock on id and returns what releases it. Where locks do
// not work it returns at once: two processes then do the same work, and the
// second finds its result in place. waiting is called once when there is a wait.
func (s *Store) lock(ctx context.Context, id string, waiting func()) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "locks", id), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return func() {}, nil
	}
	for wait := 5 * time.Millisecond; ; wait = min(wait*2, 100*time.Millisecond) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
		default: // locked, or ENOLCK, ENOSYS and their like
			return func() { f.Close() }, nil
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		}
	}
}
