package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// openRegular opens a file for reading and returns its size. Symlinks are
// followed. Anything that is not a regular file is refused by name and type,
// and O_NONBLOCK sees to it that a fifo without a writer cannot hold the open.
func openRegular(name string) (*os.File, int64, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) {
		// A socket, or a device without a driver: open refuses, stat tells which.
		if fi, statErr := os.Stat(name); statErr == nil && !fi.Mode().IsRegular() {
			return nil, 0, notRegular(name, fi.Mode())
		}
	}
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular(name, fi.Mode())
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

func notRegular(name string, mode fs.FileMode) error {
	kind := "not a file"
	switch {
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a fifo"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	}
	return fmt.Errorf("%s is %s, not a regular file", name, kind)
}
