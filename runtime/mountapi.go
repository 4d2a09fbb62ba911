package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountAPI makes mounts that hang nowhere yet, each a file descriptor of its root, and puts them in place.
//
// The kernel has calls for that since Linux 5.2. Where they are missing (RHEL 8), or only mount_setattr (5.12) is, a mount
// is made by mount(2) in a directory that no bind can show, and moved from there: a clone made before the root is
// mounted stays without it, either way. No version is compared: what a call answers decides, and is remembered for one run.
type mountAPI struct {
	stage      string // where mount(2) makes mounts; a tmpfs, mounted when it is needed
	staged     int    // mounts made there
	old        bool   // the new calls are missing
	oldOverlay bool   // an overlay cannot be configured by them
}

// lacks reports whether a system call is missing. A container engine's filter may answer EPERM to calls that it does not know.
func lacks(err error) bool { return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) }

// close takes away what was mounted and not moved.
func (a *mountAPI) close() {
	if a.staged > 0 {
		_ = unix.Unmount(a.stage, unix.MNT_DETACH)
	}
}

// clone returns a copy of the mounts at path.
func (a *mountAPI) clone(path string, recursive bool, attr uint64) (int, error) {
	// The working directory is reached as it was inherited: a parent of it may be unreadable.
	if cwd, err := unix.Getwd(); err == nil && cwd == path {
		path = "."
	}
	if !a.old {
		fd, err := openTree(path, recursive, attr)
		if !lacks(err) {
			return fd, err
		}
		a.old = true
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	flags := uintptr(unix.MS_BIND)
	if recursive {
		flags |= unix.MS_REC
	}
	fd, at, err := a.mount(path, st.Mode&unix.S_IFMT == unix.S_IFDIR, "", flags, "")
	if err != nil || attr == 0 {
		return fd, err
	}
	if err := restrict(at, attr); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// filesystem returns a new file system.
func (a *mountAPI) filesystem(kind string, options []string, attr uint64) (int, error) {
	if !a.old {
		fd, err := newFilesystem(kind, options, attr)
		if !lacks(err) {
			return fd, err
		}
		a.old = true
	}
	fd, _, err := a.mount(kind, true, kind, mountFlags(attr), strings.Join(options, ","))
	return fd, err
}

// overlay returns o, mounted.
func (a *mountAPI) overlay(o overlay) (int, error) {
	var first error
	if !a.old && !a.oldOverlay {
		fd, err := o.mount()
		// Before Linux 6.8 there is no lowerdir+; see comma.
		if !lacks(err) && !errors.Is(err, unix.EINVAL) {
			return fd, err
		}
		first, a.oldOverlay = err, true
	}
	fd, err := a.mountOverlay(o)
	if errors.Is(err, unix.EINVAL) && first != nil && !lacks(first) {
		return 0, first // it tells more
	}
	return fd, err
}

// mountOverlay is overlay by mount(2). Its options must fit into a page, and names be free of commas and colons: the
// layers are named by file descriptor.
func (a *mountAPI) mountOverlay(o overlay) (int, error) {
	var fds []int
	defer func() { closeAll(fds) }()
	name := func(dir string) (string, error) {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", fmt.Errorf("layer %s: %w", dir, err)
		}
		fds = append(fds, fd)
		return procFD(fd), nil
	}
	options := o.flags
	for i, l := range o.lower {
		n, err := name(l)
		if err != nil {
			return 0, err
		}
		if i == 0 {
			options = append(options, "lowerdir="+n)
		} else {
			options[len(options)-1] += ":" + n
		}
	}
	if o.upper != "" {
		upper, err := name(o.upper)
		if err != nil {
			return 0, err
		}
		work, err := name(o.work)
		if err != nil {
			return 0, err
		}
		options = append(options, "upperdir="+upper, "workdir="+work)
	}
	data := strings.Join(options, ",")
	if len(data)+len(",volatile") >= os.Getpagesize() {
		return 0, fmt.Errorf("%d layers are too many for this kernel", len(o.lower)-1)
	}
	if o.vanishes {
		fd, _, err := a.mount("overlay", true, "overlay", 0, data+",volatile")
		if !errors.Is(err, unix.EINVAL) {
			return fd, err
		}
	}
	fd, _, err := a.mount("overlay", true, "overlay", 0, data)
	return fd, err
}

// mount is mount(2) at a place of its own, which it returns too.
func (a *mountAPI) mount(source string, dir bool, kind string, flags uintptr, data string) (int, string, error) {
	if a.staged == 0 {
		if err := a.mountStage(); err != nil {
			return 0, "", fmt.Errorf("mount a tmpfs: %w", err)
		}
	}
	a.staged++
	at := filepath.Join(a.stage, strconv.Itoa(a.staged))
	var err error
	if dir {
		err = os.Mkdir(at, 0o700)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil {
		return 0, "", err
	}
	if err := unix.Mount(source, at, kind, flags, data); err != nil {
		return 0, "", err
	}
	fd, err := unix.Open(at, unix.O_PATH|unix.O_CLOEXEC, 0)
	return fd, at, err
}

func (a *mountAPI) mountStage() error {
	if err := os.MkdirAll(a.stage, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", a.stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700"); err != nil {
		return err
	}
	// A recursive bind leaves out an unbindable mount and all below it.
	return unix.Mount("", a.stage, "", unix.MS_UNBINDABLE, "")
}

// move puts a mount over an open file or directory.
func (a *mountAPI) move(mount, target int) error {
	err := unix.MoveMount(mount, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if lacks(err) {
		err = unix.Mount(procFD(mount), procFD(target), "", unix.MS_MOVE, "")
	}
	return err
}

// procFD is a path that leads to an open file, whatever its name.
func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// restrict is mount_setattr with AT_RECURSIVE, one mount after the other. What a mount already has is said again: on a mount of
// the host these flags are locked, and a remount without them is refused.
func restrict(at string, attr uint64) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line) // id, parent, device, root, mount point, flags, …
		if len(fields) < 6 {
			continue
		}
		point := mountinfoEscapes.Replace(fields[4])
		if point != at && !strings.HasPrefix(point, at+"/") {
			continue
		}
		has, _ := mountAttr(strings.Split(fields[5], ","))
		err := unix.Mount("", point, "", unix.MS_REMOUNT|unix.MS_BIND|mountFlags(attr|has), "")
		if point != at && unreachable(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("remount %s: %w", point, err)
		}
	}
	return nil
}

var mountinfoEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// unreachable reports whether err says that a mount is hidden by another one, or lies in a directory that is closed to the
// caller (debugfs): out of the command's reach too.
func unreachable(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EINVAL)
}

// mountFlags are the flags of mount(2) for attr. Without one for access times they stay as they are.
func mountFlags(attr uint64) (flags uintptr) {
	for a, f := range map[uint64]uintptr{
		unix.MOUNT_ATTR_RDONLY: unix.MS_RDONLY, unix.MOUNT_ATTR_NOSUID: unix.MS_NOSUID, unix.MOUNT_ATTR_NODEV: unix.MS_NODEV,
		unix.MOUNT_ATTR_NOEXEC: unix.MS_NOEXEC, unix.MOUNT_ATTR_NOSYMFOLLOW: unix.MS_NOSYMFOLLOW,
	} {
		if attr&a != 0 {
			flags |= f
		}
	}
	return flags
}
