package runtime

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is the kernel's own limit for one path.
const maxLinks = 40

// target opens a mount point inside the root (O_PATH), through the image's symbolic links as a process inside
// would see them, and makes what is missing: directories, and a last empty file unless dir.
// It is an error where that would be made in a directory of the host.
func (r *rootfs) target(name string, dir bool) (int, error) {
	fd, err := unix.Openat2(r.fd, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == nil {
		return fd, nil
	}
	fd, err = r.walk(name, dir)
	if err != nil {
		return -1, fmt.Errorf("mount point %s: %w", name, err)
	}
	return fd, nil
}

// walk is target step by step: it needs no openat2 (5.6) and makes what is missing.
func (r *rootfs) walk(name string, dir bool) (_ int, err error) {
	todo := strings.Split(name, "/")
	stack := []int{r.fd} // open directories from the root down; the last is where we are
	var names []string   // what they are called, below the root
	defer func() {
		keep := 0
		if err == nil {
			keep = stack[len(stack)-1]
		}
		for _, fd := range stack[1:] {
			if fd != keep {
				_ = unix.Close(fd)
			}
		}
	}()
	for links := 0; len(todo) > 0; {
		here, step := stack[len(stack)-1], todo[0]
		todo = todo[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			if len(stack) > 1 {
				_ = unix.Close(here)
				stack, names = stack[:len(stack)-1], names[:len(names)-1]
			}
			continue
		}
		fd, err := unix.Openat(here, step, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			fd, err = r.create(here, names, step, dir || strings.Join(todo, "") != "")
		}
		if err != nil {
			return -1, err
		}
		link, isLink, err := readLink(fd)
		if err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
		if !isLink {
			stack, names = append(stack, fd), append(names, step)
			continue
		}
		_ = unix.Close(fd)
		if links++; links > maxLinks {
			return -1, unix.ELOOP
		}
		if path.IsAbs(link) {
			for _, fd := range stack[1:] {
				_ = unix.Close(fd)
			}
			stack, names = stack[:1], nil
		}
		todo = append(strings.Split(link, "/"), todo...)
	}
	if len(stack) == 1 {
		return unix.Openat(r.fd, ".", unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return stack[len(stack)-1], nil
}

// create makes an entry in a directory of this run, and opens it; names is where that directory is below the root.
// It keeps its times: what the image carries looks as the image has it.
func (r *rootfs) create(parent int, names []string, name string, dir bool) (int, error) {
	id, err := mountID(parent)
	if err != nil {
		return -1, err
	}
	if !r.ours[id] {
		return -1, &missingPoint{name}
	}
	if r.points != "" && id == r.id {
		if parent, err = r.mirror(names); err != nil {
			return -1, err
		}
		defer unix.Close(parent)
	}
	var before unix.Stat_t
	if err := unix.Fstat(parent, &before); err != nil {
		return -1, err
	}
	if dir {
		err = unix.Mkdirat(parent, name, 0o755)
	} else {
		err = unix.Mknodat(parent, name, unix.S_IFREG|0o644, 0)
	}
	if err != nil && (r.points == "" || !errors.Is(err, unix.EEXIST)) {
		return -1, err
	}
	_ = unix.UtimesNanoAt(parent, ".", []unix.Timespec{before.Atim, before.Mtim}, 0)
	return unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// missingPoint is a mount point that lies in a directory of the host.
type missingPoint struct{ name string }

func (e *missingPoint) Error() string {
	return e.name + " does not exist, and nothing is made in a directory of the host"
}

// Hint is the next step.
func (e *missingPoint) Hint() string { return "make it there yourself, or bind to another place" }

// mirror makes the directory names of the view in the layer of mount points, with mode and times as in the view.
func (r *rootfs) mirror(names []string) (int, error) {
	at, err := unix.Open(r.points, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	var above unix.Stat_t // of the view's directory that at is
	for i, name := range names {
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err = unix.Fstatat(r.fd, path.Join(names[:i+1]...), &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			err = unix.Mkdirat(at, name, st.Mode&0o7777|0o700)
		}
		made := err == nil
		if made || errors.Is(err, unix.EEXIST) {
			var next int
			next, err = unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err == nil && made {
				_ = unix.UtimesNanoAt(at, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
			}
			if made && i > 0 { // it has a new entry
				_ = unix.UtimesNanoAt(at, ".", []unix.Timespec{above.Atim, above.Mtim}, 0)
			}
			_ = unix.Close(at)
			at, above = next, st
		}
	}
	return at, err
}

func readLink(fd int) (string, bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", false, nil
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:max(n, 0)]), true, err
}
