package unpack

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// removeAll removes path and what is below it, directories of mode 0555 and
// 0000 included, without ever following a symlink below its parent.
func removeAll(path string) error {
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer unix.Close(parent)
	if err := removeAt(parent, filepath.Base(path)); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

func removeAt(parent int, name string) error {
	err := unix.Unlinkat(parent, name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(parent, name, flags, 0)
	if err == unix.EACCES {
		// It was a directory a moment ago, in a tree that no one else writes.
		if err := unix.Fchmodat(parent, name, 0o700, 0); err != nil {
			return err
		}
		fd, err = unix.Openat(parent, name, flags, 0)
	}
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return err
	}
	if err := removeBelow(dir); err != nil {
		return err
	}
	if err := unix.Unlinkat(parent, name, unix.AT_REMOVEDIR); err != unix.ENOENT {
		return err
	}
	return nil
}

// removeBelow empties dir.
func removeBelow(dir *os.File) error {
	return drainDir(dir, func(name string) error { return removeAt(int(dir.Fd()), name) })
}

// drainDir calls take for each name in dir until none is left. Removing while
// reading may skip names on some file systems, so it reads anew.
func drainDir(dir *os.File, take func(name string) error) error {
	for {
		taken := 0
		for {
			names, err := dir.Readdirnames(1024)
			for _, name := range names {
				if err := take(name); err != nil {
					return err
				}
				taken++
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		if taken == 0 {
			return nil
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}
