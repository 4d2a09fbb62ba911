package runtime

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mountAll makes the root and everything in it: sources first, then the root, then each mount in order. What the caller
// should know of the outcome is told to note.
func mountAll(s *specs.Spec, scratch *Scratch, note func(string)) error {
	// Modes of what is made on the way are meant as they are written.
	defer unix.Umask(unix.Umask(0))
	api := &mountAPI{stage: filepath.Join(scratch.state(), "stage")}
	defer api.close()
	sources := make([]int, len(s.Mounts))
	defer closeAll(sources)
	for i, m := range s.Mounts {
		fd, err := source(api, m)
		if err != nil {
			return err
		}
		sources[i] = fd
	}
	root, err := mountRoot(api, s, sources, scratch, note)
	if err != nil {
		return err
	}
	defer root.close()
	if err := root.realDirs(); err != nil {
		return err
	}
	if err := addUser(s.Annotations, root, scratch); err != nil {
		return err
	}
	for i, m := range s.Mounts {
		if sources[i] == 0 {
			continue
		}
		if err := root.attach(sources[i], m.Destination, scratch.isOurs(m)); err != nil {
			return err
		}
	}
	if err := root.linkDevices(); err != nil {
		return err
	}
	return root.makeDir(s.Process.Cwd)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd > 0 {
			_ = unix.Close(fd)
		}
	}
}

// source returns a mount that hangs nowhere yet: what m binds, or a new file system. 0 for what is mounted elsewhere:
// the root itself, and proc of a new pid namespace.
func source(api *mountAPI, m specs.Mount) (int, error) {
	if m.Destination == "/" || m.Type == "proc" {
		return 0, nil
	}
	attr, options := mountAttr(m.Options)
	var fd int
	var err error
	if m.Type == "bind" {
		fd, err = api.clone(m.Source, slices.Contains(m.Options, "rbind"), attr)
	} else {
		fd, err = api.filesystem(m.Type, options, attr)
	}
	if err != nil {
		return 0, &MountError{m, err}
	}
	return fd, nil
}

// MountError says which mount of the run failed. It wraps the cause.
type MountError struct {
	Mount specs.Mount
	Err   error
}

func (e *MountError) Error() string {
	if e.Mount.Type != "bind" {
		return fmt.Sprintf("mount %s at %s: %v", e.Mount.Type, e.Mount.Destination, e.Err)
	}
	if e.Mount.Source == e.Mount.Destination {
		return fmt.Sprintf("bind %s: %v", e.Mount.Source, e.Err)
	}
	return fmt.Sprintf("bind %s at %s: %v", e.Mount.Source, e.Mount.Destination, e.Err)
}

func (e *MountError) Unwrap() error { return e.Err }

// mountAttr splits mount options into attributes of the mount and options of the file system.
// Read-only is meant for all that is mounted below too: a user who says ro expects no exception.
func mountAttr(options []string) (attr uint64, rest []string) {
	for _, o := range options {
		switch o {
		case "ro", "rro":
			attr |= unix.MOUNT_ATTR_RDONLY
		case "nosuid":
			attr |= unix.MOUNT_ATTR_NOSUID
		case "nodev":
			attr |= unix.MOUNT_ATTR_NODEV
		case "noexec":
			attr |= unix.MOUNT_ATTR_NOEXEC
		case "nosymfollow":
			attr |= unix.MOUNT_ATTR_NOSYMFOLLOW
		case "rw", "bind", "rbind", "strictatime", "relatime":
		default:
			rest = append(rest, o)
		}
	}
	return attr, rest
}

func openTree(path string, recursive bool, attr uint64) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return 0, err
	}
	return setAttr(fd, attr)
}

// setAttr gives attr to a mount and those below it, and returns it, or closes it.
func setAttr(fd int, attr uint64) (int, error) {
	if attr == 0 {
		return fd, nil
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr}); err != nil {
		_ = unix.Close(fd)
		return 0, fmt.Errorf("mount_setattr: %w", err)
	}
	return fd, nil
}

func newFilesystem(kind string, options []string, attr uint64) (int, error) {
	ctx, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(ctx)
	for _, o := range options {
		if err := fsconfig(ctx, o); err != nil {
			return 0, err
		}
	}
	fd, err := fsmount(ctx)
	if err != nil {
		return 0, err
	}
	return setAttr(fd, attr)
}

func fsconfig(ctx int, option string) error {
	key, value, isString := strings.Cut(option, "=")
	var err error
	if isString {
		err = unix.FsconfigSetString(ctx, key, value)
	} else {
		err = unix.FsconfigSetFlag(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("option %s: %w", option, errors.Join(err, fsLog(ctx)))
	}
	return nil
}

func fsmount(ctx int) (int, error) {
	if err := unix.FsconfigCreate(ctx); err != nil {
		return 0, errors.Join(err, fsLog(ctx))
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("fsmount: %w", err)
	}
	return fd, nil
}

// fsLog returns what the file system had to say about a failure, or nil.
func fsLog(ctx int) error {
	buf := make([]byte, 1024)
	n, err := unix.Read(ctx, buf)
	if err != nil || n < 3 {
		return nil
	}
	return errors.New(strings.TrimSpace(string(buf[2:n]))) // "e overlay: …": a level, a blank, the text
}
