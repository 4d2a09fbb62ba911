package unpack

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attributes of a directory.
type attributes struct {
	mode   os.FileMode
	mtime  time.Time
	xattrs map[string]string // user.* of the image, escaped as on disk
}

func (a attributes) equal(b attributes) bool {
	return a.mode == b.mode && a.mtime.Equal(b.mtime) && maps.Equal(a.xattrs, b.xattrs)
}

func attributesOf(dir string, fi os.FileInfo) (attributes, error) {
	a := attributes{mode: fi.Mode() &^ os.ModeType, mtime: fi.ModTime()}
	if fi.Mode().Perm()&0o400 == 0 {
		return a, nil // the owner cannot read them, nor can a container
	}
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(dir, buf)
	if err == unix.ENOTSUP {
		return a, nil
	}
	if err != nil {
		return a, fmt.Errorf("list xattrs of %s: %w", dir, err)
	}
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") ||
			strings.HasPrefix(name, "user.overlay.") && !strings.HasPrefix(name, "user.overlay.overlay.") {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(dir, name, value)
		if err != nil {
			return a, fmt.Errorf("get xattr %q of %s: %w", name, dir, err)
		}
		if a.xattrs == nil {
			a.xattrs = map[string]string{}
		}
		a.xattrs[name] = string(value[:n])
	}
	return a, nil
}

// apply gives them to dir, which is a directory and no symlink.
func (a attributes) apply(dir string) error {
	if err := a.setXattrs(dir); err != nil {
		return err
	}
	// The time first: without search permission on dir the owner can still
	// set both, but a mode is the last thing that may go wrong.
	ts, err := unix.TimeToTimespec(a.mtime)
	if err != nil {
		return fmt.Errorf("time %v of %s: %w", a.mtime, dir, err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time of %s: %w", dir, err)
	}
	if err := os.Chmod(dir, a.mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

func (a attributes) setXattrs(dir string) error {
	for name, value := range a.xattrs {
		if err := unix.Lsetxattr(dir, name, []byte(value), 0); err != nil {
			return fmt.Errorf("set xattr %q of %s: %w", name, dir, err)
		}
	}
	return nil
}

// copyXattrs makes the xattrs of the directory dst those of src.
func copyXattrs(src, dst string) error {
	var both [2]attributes
	for i, dir := range []string{src, dst} {
		fi, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if both[i], err = attributesOf(dir, fi); err != nil {
			return err
		}
	}
	for name := range both[1].xattrs {
		if err := unix.Lremovexattr(dst, name); err != nil {
			return fmt.Errorf("remove xattr %q of %s: %w", name, dst, err)
		}
	}
	return both[0].setXattrs(dst)
}
