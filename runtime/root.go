package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rootfs is the mounted root and which of its mounts belong to this run alone.
type rootfs struct {
	api    *mountAPI
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

// mountRoot mounts the overlay at s.Root.Path, or what stands in for it where the kernel refuses overlays.
func mountRoot(api *mountAPI, s *specs.Spec, sources []int, scratch *Scratch, note func(string)) (*rootfs, error) {
	if len(s.Mounts) == 0 {
		return nil, errors.New("the spec has no root mount")
	}
	o, err := parseOverlay(s.Mounts[0])
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{s.Root.Path, scratch.points()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the writable layer: %w", err)
		}
	}
	o.vanishes = strings.HasPrefix(o.upper, scratch.Dir+"/")
	image := o.lower
	o.lower = append([]string{scratch.points()}, image...)
	view, err := api.overlay(overlay{lower: o.lower, flags: o.flags})
	if refused(err) {
		return o.underlay(api, s, sources, scratch, note, &OverlayError{Layers: len(image), Err: err})
	}
	if err != nil {
		return nil, fmt.Errorf("mount the image's layers: %w", err)
	}
	defer unix.Close(view)
	if err := makePoints(procFD(view), s, sources, scratch); err != nil {
		return nil, err
	}
	if err := o.makeUpper(image[0]); err != nil {
		return nil, err
	}
	if !o.vanishes {
		if err := scratch.claim(filepath.Dir(o.upper)); err != nil {
			return nil, err
		}
	}
	fd, err := api.overlay(o)
	if err != nil {
		return nil, &UpperError{Dir: filepath.Dir(o.upper), Err: err} // without it, the layers have just been mounted
	}
	defer unix.Close(fd)
	at, err := unix.Open(s.Root.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = api.move(fd, at)
		_ = unix.Close(at)
	}
	if err != nil {
		return nil, fmt.Errorf("mount the image's layers at %s: %w", s.Root.Path, err)
	}
	return newRoot(api, s)
}

// newRoot opens the root when it is mounted.
func newRoot(api *mountAPI, s *specs.Spec) (*rootfs, error) {
	r, err := openRoot(s.Root.Path, "")
	if err == nil {
		r.api = api
	}
	return r, err
}

func openRoot(path, points string) (*rootfs, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root: %w", err)
	}
	id, err := mountID(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	r := &rootfs{fd: fd, id: id, ours: map[uint64]bool{id: true}, points: points}
	if points != "" {
		if err := r.own(points); err != nil {
			r.close()
			return nil, err
		}
	}
	return r, nil
}

// own lets missing mount points be made on the mount that holds path.
func (r *rootfs) own(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	id, err := mountID(fd)
	r.ours[id] = true
	return err
}

// OverlayError says that the kernel mounts no overlay of the image's layers. It wraps the errno.
type OverlayError struct {
	Layers int
	Err    error
}

func (e *OverlayError) Error() string {
	return fmt.Sprintf("this kernel refuses to stack the image's %d layers: %v", e.Layers, e.Err)
}
func (e *OverlayError) Unwrap() error { return e.Err }

// Hint is the next step: where overlays are refused, an image is unpacked into one directory.
func (e *OverlayError) Hint() string {
	return "unpack the image anew, on this machine: --cache DIR, an empty one"
}

// refused reports whether err is the answer of a kernel that mounts no overlay for an ordinary user (EPERM before 5.11),
// has none (ENODEV), or none of that kind or on these file systems (EINVAL).
func refused(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

// UpperError says that the writable layer cannot lie in Dir. It wraps the kernel's answer.
type UpperError struct {
	Dir string
	Err error
}

func (e *UpperError) Error() string {
	return fmt.Sprintf("the writable layer cannot lie in %s: %v", e.Dir, e.Err)
}
func (e *UpperError) Unwrap() error { return e.Err }

// Hint is the next step.
func (e *UpperError) Hint() string {
	return "keep it on a local disk: --scratch DIR, or --persist DIR for the one that stays"
}

// coveredBy reports whether path lies in one of mounts, apart from the root.
func coveredBy(path string, mounts []specs.Mount) bool {
	return slices.ContainsFunc(mounts, func(m specs.Mount) bool {
		return m.Destination != "/" && strings.HasPrefix(path+"/", m.Destination+"/")
	})
}

// makePoints makes the mount points that the image lacks in a layer of their own above it. They do not lie in the
// upper directory: with --persist that keeps what the command wrote and no more; on a disk each new
// directory can cost a millisecond; and in layers of a foreign owner or group (a site's cache; an own one, unpacked
// while another group was the primary one) overlay makes nothing, since it cannot copy their directories up (EOVERFLOW).
// The image is seen at path.
func makePoints(path string, s *specs.Spec, sources []int, scratch *Scratch) error {
	view, err := openRoot(path, scratch.points())
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
		if sources[i] > 0 && !coveredBy(m.Destination, s.Mounts[:i]) {
			dir, e := isDir(sources[i])
			err = errors.Join(err, e)
			want(m.Destination, dir)
		}
	}
	if !coveredBy(s.Process.Cwd, s.Mounts) {
		want(s.Process.Cwd, true)
	}
	for _, file := range []string{"/etc/passwd", "/etc/group"} {
		want(file, false)
	}
	return err
}

// makeUpper makes the writable layer. Its directory stands for "/" inside: it gets mode and time of top's, the image's
// topmost layer.
func (o overlay) makeUpper(top string) error {
	for _, dir := range []string{o.upper, o.work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the writable layer: %w", err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(top, &st); err != nil {
		return fmt.Errorf("layer %s: %w", top, err)
	}
	if err := unix.Chmod(o.upper, st.Mode&0o7777|0o700); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, o.upper, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// comma ends the name of an overlay's topmost layer. A kernel that does not know lowerdir+ should say so at once: before 6.5
// any option is taken but one with a comma, and the mount that fails later leaves a line in the kernel's log.
const comma = ","

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
	for _, l := range []string{"a" + comma, "b"} {
		layer := filepath.Join(trial, l)
		if err := os.Mkdir(layer, 0o755); err != nil {
			return err
		}
		o.lower = append(o.lower, layer)
	}
	api := &mountAPI{stage: filepath.Join(trial, "stage")}
	defer api.close()
	fd, err := api.overlay(o)
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
	if err := r.api.move(source, target); err != nil {
		if targetDir, e := isDir(target); e == nil && targetDir != dir {
			return fmt.Errorf("cannot mount over %s: one is a directory, the other is a file", path)
		}
		return fmt.Errorf("mount at %s: %w", path, err)
	}
	if !ours {
		return nil
	}
	id, err := mountID(source)
	r.ours[id] = true
	return err
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
	if id, err := mountID(dev); err != nil || !r.ours[id] {
		return err // a directory of the host is bound there
	}
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
