package runtime

import (
	"errors"

	"golang.org/x/sys/unix"
)

// removeTree removes dir and what is in it; see emptyTree.
func removeTree(dir string) {
	if emptyTree(dir) == nil {
		_ = unix.Rmdir(dir)
	}
}

// emptyTree removes what is in dir, as far as it is on dir's own mount: directories without permissions too (an
// overlay's work directory has none), never through a symbolic link, never into a mount.
func emptyTree(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	id, err := mountID(fd)
	_ = unix.Close(fd)
	if err != nil {
		return err
	}
	return removeIn(unix.AT_FDCWD, dir, id)
}

// removeIn empties the directory name of parent.
func removeIn(parent int, name string, mount uint64) error {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		if err := unix.Fchmodat(parent, name, 0o700, 0); err != nil {
			return err
		}
		fd, err = unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if id, err := mountID(fd); err != nil || id != mount {
		return unix.EXDEV
	}
	_ = unix.Fchmod(fd, 0o700)
	buf := make([]byte, 16<<10)
	var failed error
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return errors.Join(failed, err)
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, e := range names {
			err := unix.Unlinkat(fd, e, 0)
			if errors.Is(err, unix.EISDIR) {
				if err = removeIn(fd, e, mount); err == nil {
					err = unix.Unlinkat(fd, e, unix.AT_REMOVEDIR)
				}
			}
			failed = errors.Join(failed, err)
		}
	}
}
