package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rootfs is the mounted root and which of its mounts belong to this run alone.
type rootfs struct {
	fd     int
	id     uint64          // of the root's own mount
	ours   map[uint64]bool // ids of the mounts in which a missing mount point may be made
	points string          // not empty: this root is a view; what is missing in it is made here
}

func (r *rootfs) close() { _ = unix.Close(r.fd) }

// overlay is the first mount of a spec, taken apart.
type overlay struct {
	lower       []string // topmost first
	upper, work string
	flags       []string
	vanishes    bool // the upper directory is removed after the run
}

func parseOverlay(m specs.Mount) (overlay, error) {
	var o overlay
	if m.Destination != "/" || m.Type != "overlay" {
		return o, fmt.Errorf("the first mount must be an overlay at /, not %s at %s", m.Type, m.Destination)
	}
	for _, opt := range m.Options {
		key, value, _ := strings.Cut(opt, "=")
		switch key {
		case "lowerdir+":
			o.lower = append(o.lower, value)
		case "upperdir":
			o.upper = value
		case "workdir":
			o.work = value
		default:
			o.flags = append(o.flags, opt)
		}
	}
	return o, nil
}

// mountRoot mounts the overlay at s.Root.Path.
func mountRoot(s *specs.Spec, sources []int, scratch *Scratch) (*rootfs, error) {
	if len(s.Mounts) == 0 {
		return nil, errors.New("the spec has no root mount")
	}
	o, err := parseOverlay(s.Mounts[0])
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{o.upper, o.work, s.Root.Path, scratch.points()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the writable layer: %w", err)
		}
	}
	if err := copyRootMode(o); err != nil {
		return nil, err
	}
	o.vanishes = strings.HasPrefix(o.upper, scratch.Dir+"/")
	o.lower = append([]string{scratch.points()}, o.lower...)
	if err := o.makePoints(s, sources, scratch); err != nil {
		return nil, err
	}
	fd, err := o.mount()
	if err != nil {
		return nil, fmt.Errorf("mount the image's layers: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, s.Root.Path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return nil, fmt.Errorf("mount the image's layers at %s: %w", s.Root.Path, err)
	}
	return openRoot(s.Root.Path, "")
}

func openRoot(path, points string) (*rootfs, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root: %w", err)
	}
	id, err := mountID(fd)
	if err != nil {
		return nil, err
	}
	return &rootfs{fd: fd, id: id, ours: map[uint64]bool{id: true}, points: points}, nil
}

// makePoints makes the mount points that the image lacks in a layer of their own above it. They do not lie in the
// upper directory: with --persist that keeps what the command wrote and no more; on a disk each new
// directory can cost a millisecond; and in layers of a foreign owner or group (a site's cache; an own one, unpacked
// while another group was the primary one) overlay makes nothing, since it cannot copy their directories up (EOVERFLOW).
func (o overlay) makePoints(s *specs.Spec, sources []int, scratch *Scratch) error {
	o.upper, o.work, o.vanishes = "", "", false
	fd, err := o.mount()
	if err != nil {
		return fmt.Errorf("mount the image's layers: %w", err)
	}
	defer unix.Close(fd)
	view, err := openRoot(fmt.Sprintf("/proc/self/fd/%d", fd), scratch.points())
	if err != nil {
		return err
	}
	defer view.close()
	want := func(path string, dir bool) {
		// What lies in a bind of the host is not for us to make, and found missing later.
		if at, e := view.target(path, dir); e == nil {
			_ = unix.Close(at)
		}
	}
	for i, m := range s.Mounts {
		if sources[i] > 0 {
			dir, e := isDir(sources[i])
			err = errors.Join(err, e)
			want(m.Destination, dir)
		}
	}
	for _, dir := range []string{"/proc", "/dev", "/sys", s.Process.Cwd} {
		want(dir, true)
	}
	for _, file := range []string{"/etc/passwd", "/etc/group"} {
		want(file, false)
	}
	return err
}

// copyRootMode gives the upper directory, which stands for "/" inside, mode and time of the image's.
func copyRootMode(o overlay) error {
	var st unix.Stat_t
	if err := unix.Stat(o.lower[0], &st); err != nil {
		return fmt.Errorf("layer %s: %w", o.lower[0], err)
	}
	if err := unix.Chmod(o.upper, st.Mode&0o7777|0o700); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, o.upper, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// mount returns the overlay, detached.
func (o overlay) mount() (int, error) {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(ctx)
	options := o.flags
	for _, l := range o.lower {
		options = append(options, "lowerdir+="+l)
	}
	if o.upper != "" {
		options = append(options, "upperdir="+o.upper, "workdir="+o.work)
	}
	if o.vanishes {
		options = append(options, "volatile") // 5.10: no sync must wait for what vanishes
	}
	for _, opt := range options {
		if err := fsconfig(ctx, opt); err != nil {
			return 0, err
		}
	}
	return fsmount(ctx)
}

// tryOverlay mounts two empty layers below dir as a run would, and takes them away again.
func tryOverlay(dir string) error {
	trial, err := os.MkdirTemp(dir, "overlay-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(trial)
	o := overlay{flags: []string{"userxattr"}}
	for _, l := range []string{"a", "b"} {
		layer := filepath.Join(trial, l)
		if err := os.Mkdir(layer, 0o755); err != nil {
			return err
		}
		o.lower = append(o.lower, layer)
	}
	fd, err := o.mount()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// attach puts a detached mount at path inside the root.
func (r *rootfs) attach(source int, path string, ours bool) error {
	dir, err := isDir(source)
	if err != nil {
		return err
	}
	target, err := r.target(path, dir)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := unix.MoveMount(source, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		if targetDir, e := isDir(target); e == nil && targetDir != dir {
			return fmt.Errorf("cannot mount over %s: one is a directory, the other is a file", path)
		}
		return fmt.Errorf("mount at %s: %w", path, err)
	}
	if !ours {
		return nil
	}
	id, err := mountID(source)
	if err != nil {
		return err
	}
	r.ours[id] = true
	return nil
}

// realDirs makes sure that /proc, /dev and /sys are directories. An image in which one is a link or a file
// (CVE-2026-41579 and its kin) gets a directory of this run instead.
func (r *rootfs) realDirs() error {
	for _, name := range []string{"proc", "dev", "sys"} {
		fd, err := unix.Openat(r.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
			continue
		}
		if errors.Is(err, unix.ENOTDIR) {
			err = unix.Unlinkat(r.fd, name, 0)
		}
		if err == nil || errors.Is(err, unix.ENOENT) {
			fd, err = r.create(r.fd, nil, name, true)
		}
		if err != nil {
			return fmt.Errorf("/%s of the image: %w", name, err)
		}
		_ = unix.Close(fd)
	}
	return nil
}

// linkDevices makes the links that programs expect in /dev. libcontainer would make them too, each by way of a new
// procfs handle; see containerConfig.
func (r *rootfs) linkDevices() error {
	dev, err := r.target("/dev", true)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx", "core": "/proc/kcore",
	} {
		if err := unix.Symlinkat(to, dev, name); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("link /dev/%s: %w", name, err)
		}
	}
	return nil
}

// makeDir makes path inside the root where it is missing.
func (r *rootfs) makeDir(path string) error {
	fd, err := r.target(path, true)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func isDir(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, os.NewSyscallError("fstat", err)
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// mountID tells mounts apart, also two of one file system.
func mountID(fd int) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err == nil && st.Mask&unix.STATX_MNT_ID != 0 {
		return st.Mnt_id, nil
	}
	// before Linux 5.8
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		var id uint64
		if _, err := fmt.Sscanf(line, "mnt_id: %d", &id); err == nil {
			return id, nil
		}
	}
	return 0, errors.New("the kernel does not tell mount ids")
}
