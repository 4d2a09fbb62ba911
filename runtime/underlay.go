package runtime

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// underlay mounts the root where overlays are refused: a tmpfs in which the entries of the image's one directory are bound
// read-only. A directory of the image that lacks a mount point is made anew, and its own entries are bound in it. Binds,
// HOME and /tmp work as on an overlay, nothing can be written to the image.
func (o overlay) underlay(api *mountAPI, s *specs.Spec, sources []int, scratch *Scratch, note func(string), cause *OverlayError) (*rootfs, error) {
	if cause.Layers > 1 {
		return nil, cause
	}
	if !o.vanishes {
		return nil, fmt.Errorf("writes cannot be kept in %s: this kernel mounts no overlay: %w", filepath.Dir(o.upper), cause.Err)
	}
	image, at := o.lower[1], s.Root.Path
	if err := makePoints(image, s, sources, scratch); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	r, err := newRoot(api, s)
	if err != nil {
		return nil, err
	}
	if err := fillRoot(at, image, scratch.points()); err != nil {
		r.close()
		return nil, fmt.Errorf("bind the image's entries: %w", err)
	}
	if err := r.closeImage(at); err != nil {
		r.close()
		return nil, err
	}
	s.Root.Readonly = true // the tmpfs too, once everything is mounted
	note(fmt.Sprintf("this kernel mounts no overlay (%v): what the image carries is read-only", cause.Err))
	return r, nil
}

// closeImage makes the bound entries read-only, and leaves the tmpfs writable for what is made on the way.
func (r *rootfs) closeImage(at string) error {
	err := unix.MountSetattr(r.fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if lacks(err) {
		err = restrict(at, unix.MOUNT_ATTR_RDONLY)
	}
	if err == nil {
		err = unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV, "")
	}
	if err != nil {
		return fmt.Errorf("make the image read-only: %w", err)
	}
	return nil
}

// fillRoot fills the root directory. proc, dev and sys are directories, whatever they are in the image: something else is
// mounted on each.
func fillRoot(at, image, points string) error {
	done := map[string]bool{}
	for _, name := range []string{"proc", "dev", "sys"} {
		done[name] = true
		if err := os.Mkdir(filepath.Join(at, name), 0o755); err != nil {
			return err
		}
	}
	return fill(at, image, points, done)
}

// fill makes the entries of a directory, but for those in done: first those that points holds, too, each directory with
// what it has in image and in points, then the rest of image, bound. An image of "" has nothing.
func fill(at, image, points string, done map[string]bool) error {
	made, err := os.ReadDir(points)
	if err != nil {
		return err
	}
	for _, e := range made {
		name := e.Name()
		if done[name] {
			continue
		}
		done[name] = true
		to := filepath.Join(at, name)
		if !e.IsDir() {
			if err := os.WriteFile(to, nil, 0o644); err != nil {
				return err
			}
			continue
		}
		below := ""
		if image != "" {
			below = filepath.Join(image, name)
			if _, err := os.Lstat(below); err != nil {
				below = ""
			}
		}
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		if err := fill(to, below, filepath.Join(points, name), map[string]bool{}); err != nil {
			return err
		}
	}
	if image == "" {
		return copyTimes(points, at)
	}
	entries, err := os.ReadDir(image)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if done[e.Name()] {
			continue
		}
		if err := bindEntry(filepath.Join(at, e.Name()), filepath.Join(image, e.Name()), e.Type()); err != nil {
			return err
		}
	}
	return copyTimes(image, at)
}

func bindEntry(at, image string, kind os.FileMode) error {
	var err error
	switch {
	case kind&os.ModeSymlink != 0:
		link, err := os.Readlink(image)
		if err == nil {
			err = os.Symlink(link, at)
		}
		return err
	case kind.IsDir():
		err = os.Mkdir(at, 0o755)
	default:
		err = os.WriteFile(at, nil, 0o644)
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Mount(image, at, "", unix.MS_BIND, ""))
	}
	return err
}

// copyTimes gives a directory mode and times of another one.
func copyTimes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return err
	}
	if err := unix.Chmod(to, st.Mode&0o7777|0o700); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Atim, st.Mtim}, 0)
}
