package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// unlisted are the attributes that the ways of unpacking leave behind, not the image.
var unlisted = []string{"user.rootlesscontainers", "user.overlay.", "trusted.overlay.", "security.selinux", "user.containers."}

// Options of a listing.
type Options struct {
	Skip  []string // paths below the root to leave out, with all below
	Nanos bool     // times to the nanosecond
}

// List writes the listing of the tree at root.
func List(w io.Writer, root string, o Options) error {
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return err
	}
	mounts, err := mountsBelow(root)
	if err != nil {
		return err
	}
	skip := append(append(slices.Clone(o.Skip), mounts...), "/dev")
	for _, s := range skip {
		if _, err := fmt.Fprintln(w, "skip", strconv.Quote(s)); err != nil {
			return err
		}
	}
	var lines []line
	var visit fs.WalkDirFunc
	visit = func(p string, d fs.DirEntry, err error) error {
		rel := "/" + strings.TrimPrefix(strings.TrimPrefix(p, root), "/")
		if slices.Contains(skip, rel) {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err != nil && d != nil && d.IsDir() && errors.Is(err, fs.ErrPermission) {
			// WalkDir has shown the directory itself already.
			return closed(p, visit)
		}
		if err != nil {
			return err
		}
		if rel == "/" {
			return nil
		}
		l, err := describe(p, rel, o.Nanos)
		lines = append(lines, l)
		return err
	}
	if err := filepath.WalkDir(root, visit); err != nil {
		return err
	}
	names := map[inode][]string{}
	for _, l := range lines {
		names[l.inode] = append(names[l.inode], l.path)
	}
	for _, l := range lines {
		// The first name of a group stands for it. Names that the tree does not
		// show are not counted, so a link count says nothing.
		if group := names[l.inode]; l.inode != (inode{}) && len(group) > 1 {
			l.text += " group=" + strconv.Quote(group[0])
		}
		if _, err := fmt.Fprintln(w, l.text); err != nil {
			return err
		}
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// line is one path of the listing; inode is set for regular files.
type line struct {
	path, text string
	inode      inode
}

// closed visits what is in a directory that its mode hides from its owner.
func closed(p string, visit fs.WalkDirFunc) error {
	restore, err := permit(p, 0o700)
	if err != nil {
		return err
	}
	defer restore()
	entries, err := os.ReadDir(p)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := filepath.WalkDir(filepath.Join(p, e.Name()), visit); err != nil {
			return err
		}
	}
	return fs.SkipDir
}

func describe(p, rel string, nanos bool) (line, error) {
	l := line{path: rel}
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return l, fmt.Errorf("lstat %s: %w", rel, err)
	}
	fields := []string{strconv.Quote(rel)}
	mode := fmt.Sprintf("%04o", st.Mode&0o7777)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		fields = append(fields, "dir", mode)
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			return l, err
		}
		fields = append(fields, "link", strconv.Quote(target))
	case unix.S_IFIFO:
		fields = append(fields, "fifo", mode)
	case unix.S_IFSOCK:
		fields = append(fields, "socket", mode)
	case unix.S_IFCHR, unix.S_IFBLK:
		l.text = fields[0] + " dev"
		return l, nil
	case unix.S_IFREG:
		if st.Size == 0 && st.Mode&0o7777 == 0 {
			l.text = fields[0] + " dev"
			return l, nil
		}
		sum, err := sha(p)
		if err != nil {
			return l, err
		}
		l.inode = inode{st.Dev, st.Ino}
		fields = append(fields, "file", mode, fmt.Sprintf("size=%d", st.Size), "sha256="+sum)
	}
	mtime := fmt.Sprintf("mtime=%d", st.Mtim.Sec)
	if nanos {
		mtime += fmt.Sprintf(".%09d", st.Mtim.Nsec)
	}
	fields = append(fields, mtime)
	attrs, err := xattrs(p)
	if err != nil {
		return l, fmt.Errorf("xattrs of %s: %w", rel, err)
	}
	l.text = strings.Join(append(fields, attrs...), " ")
	return l, nil
}

func sha(p string) (string, error) {
	f, err := os.Open(p)
	if errors.Is(err, fs.ErrPermission) {
		restore, permitErr := permit(p, 0o600)
		if permitErr != nil {
			return "", permitErr
		}
		defer restore()
		f, err = os.Open(p)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", p, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// permit gives the owner access to p until restore is called. Inside a container
// the change lands in the writable layer and is gone with it.
func permit(p string, mode os.FileMode) (restore func(), err error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return nil, err
	}
	if err := os.Chmod(p, mode); err != nil {
		return nil, err
	}
	return func() { syscall.Chmod(p, st.Mode&0o7777) }, nil
}

func xattrs(p string) ([]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	var list []string
	for _, name := range names {
		if slices.ContainsFunc(unlisted, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		n, err := unix.Lgetxattr(p, name, buf)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, fmt.Sprintf("%s=%x", name, buf[:n]))
	}
	return list, nil
}

// mountsBelow are the mount points below root, relative to it.
func mountsBelow(root string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []string
	prefix := strings.TrimSuffix(root, "/") + "/"
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for l := range strings.Lines(string(data)) {
		fields := strings.Fields(l)
		if len(fields) < 5 {
			return nil, fmt.Errorf("mountinfo: %q", l)
		}
		at := unescape.Replace(fields[4])
		if at != root && strings.HasPrefix(at, prefix) {
			list = append(list, "/"+strings.TrimPrefix(at, prefix))
		}
	}
	return list, nil
}
