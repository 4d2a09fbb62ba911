package unpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Verification is what became of comparing an image with what the store holds of it.
type Verification struct {
	Unpacked bool     // the store holds the image; else there was nothing to compare
	Parts    int      // directories that were compared
	Damage   []Damage // where they differ, the first few of each part
	Repaired bool     // what differs was taken out of the store: the next run unpacks it anew
}

// Damage is one difference.
type Damage struct {
	Path string // in the store
	What string // as in "other content"
}

// differences told of one part.
const maxDamage = 10

// Verify compares every file of img in the store, its content byte by byte, with what the blobs of the image unpack to
// now, whose digests are checked as they are read. It unpacks one layer after the other (an image that is merged: all of it)
// beside the store and takes as long as a first run. What differs is taken out of the store, where that can be written.
//
// Damage is no error; an error says that the comparison could not be made. Nothing else is changed but, for the moment
// of reading, the modes of files that keep their owner out.
func (s *Store) Verify(ctx context.Context, img v1.Image) (*Verification, error) {
	id, err := identify(img)
	if err != nil {
		return nil, err
	}
	root, err := s.find(id)
	if root == nil || err != nil {
		return &Verification{}, err
	}
	base := os.TempDir()
	if w, err := s.verifyBeside(); err == nil {
		defer w.discard()
		base = w.path
	}
	dir, err := os.MkdirTemp(base, "verify-")
	if err != nil {
		return nil, s.refused(err)
	}
	defer removeAll(dir)
	o := s.opt
	o.MaxSize, o.Sync = -1, false
	if root.Dir != "" {
		o.Overlay = func(string) error { return errMerge }
	}
	fresh, err := Open(filepath.Join(dir, "store"), o)
	if err != nil {
		return nil, err
	}
	fresh.mode, fresh.strip = s.mode, s.strip
	if err := fresh.prepare(); err != nil {
		return nil, fresh.refused(err)
	}
	if root.Dir == "" && !fresh.overlay {
		return nil, fmt.Errorf("the image cannot be verified: %s lacks what the layers of %s are stored with (user.* extended attributes)", base, s.dir)
	}
	u, err := fresh.newUnpacking(img, id)
	if err != nil {
		return nil, err
	}
	defer u.release()
	c := &comparison{ctx: ctx, v: &Verification{Unpacked: true}}
	if root.Dir != "" {
		err = c.merged(u, s, id)
	} else {
		err = c.stacked(u, s, id)
	}
	if err != nil {
		return nil, err
	}
	if len(c.damaged) > 0 {
		s.Close() // or all that is repaired would count as used
		c.v.Repaired = s.repair(id, c.damaged)
	}
	return c.v, nil
}

// verifyBeside makes room in the store.
func (s *Store) verifyBeside() (*work, error) {
	if err := s.prepareDirs(); err != nil {
		return nil, err
	}
	return s.newWork()
}

// repair takes parts and the marker out of the store.
func (s *Store) repair(id identity, parts [][2]string) bool {
	if s.prepareDirs() != nil {
		return false
	}
	for _, p := range parts {
		if s.retire(p[0], p[1]) != nil {
			return false
		}
	}
	return true
}

// comparison of two trees that should be one.
type comparison struct {
	ctx     context.Context
	v       *Verification
	damaged [][2]string // kind and id of the parts that differ
	found   int         // in this part
}

func (c *comparison) merged(u *unpacking, s *Store, id identity) error {
	if err := u.merged(c.ctx); err != nil {
		return err
	}
	return c.part(u.Store, s, "merged", id.chain)
}

func (c *comparison) stacked(u *unpacking, s *Store, id identity) error {
	var m marker
	if err := s.readJSON(s.markerFile(id.chain), maxMarker, &m); err != nil {
		return fmt.Errorf("read the marker of the image: %w", err)
	}
	done := map[string]bool{}
	for _, b := range u.blobs {
		if done[b.diffID] || !slices.Contains(m.Layers, b.diffID) {
			continue
		}
		done[b.diffID] = true
		if err := u.layer(c.ctx, b); err != nil {
			return fmt.Errorf("unpack layer %s: %w", b, err)
		}
		if err := c.part(u.Store, s, "layers", b.diffID); err != nil {
			return err
		}
		if err := removeAll(filepath.Join(u.dir, "layers", b.diffID, "fs")); err != nil {
			return err
		}
	}
	if !m.Mended || len(c.damaged) > 0 {
		return nil
	}
	// The directories on top follow from the layers, which are as they should be.
	layers, _, err := s.stack(m.Layers)
	if err != nil {
		return err
	}
	mends, err := mendings(c.ctx, layers)
	if err != nil {
		return err
	}
	if _, err := u.mend(mends); err != nil {
		return err
	}
	return c.part(u.Store, s, "roots", id.chain)
}

// part compares one directory of the store with a fresh one.
func (c *comparison) part(fresh, s *Store, kind, id string) error {
	c.v.Parts++
	c.found = 0
	a, b := filepath.Join(fresh.dir, kind, id, "fs"), filepath.Join(s.dir, kind, id, "fs")
	if err := c.same(a, b); err != nil {
		return err
	}
	if c.found > 0 {
		c.damaged = append(c.damaged, [2]string{kind, id})
	}
	return nil
}

func (c *comparison) damage(path, what string) {
	if c.found++; c.found <= maxDamage {
		c.v.Damage = append(c.v.Damage, Damage{path, what})
	}
}

// same compares want, which nobody else uses, with have.
func (c *comparison) same(want, have string) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	var a, b unix.Stat_t
	if err := unix.Lstat(want, &a); err != nil {
		return fmt.Errorf("look at %s: %w", want, err)
	}
	if err := unix.Lstat(have, &b); err != nil {
		c.damage(have, "missing")
		return nil
	}
	switch {
	case a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT:
		c.damage(have, "another type")
		return nil
	case a.Mode != b.Mode:
		c.damage(have, fmt.Sprintf("mode %04o, not %04o", b.Mode&0o7777, a.Mode&0o7777))
	case a.Mtim != b.Mtim && !isDevice(a.Mode):
		c.damage(have, "another time")
	case a.Rdev != b.Rdev && isDevice(a.Mode):
		c.damage(have, "another device")
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		x, err := os.Readlink(want)
		if err != nil {
			return err
		}
		if y, err := os.Readlink(have); err != nil || x != y {
			c.damage(have, "another target")
		}
		return nil
	case unix.S_IFREG, unix.S_IFDIR:
	default:
		return nil
	}
	restore, err := readable(have, &b)
	if err != nil {
		return err
	}
	defer restore()
	if _, err := readable(want, &a); err != nil {
		return err
	}
	if err := c.sameXattrs(want, have); err != nil {
		return err
	}
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.sameDir(want, have)
	}
	if a.Size != b.Size {
		c.damage(have, fmt.Sprintf("%d bytes, not %d", b.Size, a.Size))
		return nil
	}
	if a.Nlink != b.Nlink {
		c.damage(have, fmt.Sprintf("%d hard links, not %d", b.Nlink, a.Nlink))
	}
	return c.sameContent(want, have)
}

func isDevice(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFCHR }

// readable lets the owner read a file or directory until restore is called.
func readable(path string, st *unix.Stat_t) (restore func(), err error) {
	need := uint32(0o400)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		need = 0o500
	}
	if st.Mode&need == need || os.Geteuid() == 0 {
		return func() {}, nil
	}
	mode := st.Mode & 0o7777
	if err := unix.Chmod(path, mode|need); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return func() { _ = unix.Chmod(path, mode) }, nil
}

func (c *comparison) sameXattrs(want, have string) error {
	a, err := allXattrs(want)
	if err != nil {
		return err
	}
	b, err := allXattrs(have)
	if err != nil {
		return err
	}
	if !maps.Equal(a, b) {
		c.damage(have, "other extended attributes")
	}
	return nil
}

func (c *comparison) sameDir(want, have string) error {
	a, err := os.ReadDir(want)
	if err != nil {
		return err
	}
	b, err := os.ReadDir(have)
	if err != nil {
		c.damage(have, err.Error())
		return nil
	}
	for _, e := range b {
		if !slices.ContainsFunc(a, func(w fs.DirEntry) bool { return w.Name() == e.Name() }) {
			c.damage(filepath.Join(have, e.Name()), "not of the image")
		}
	}
	for _, e := range a {
		if err := c.same(filepath.Join(want, e.Name()), filepath.Join(have, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) sameContent(want, have string) error {
	a, err := os.Open(want)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(have)
	if err != nil {
		c.damage(have, err.Error())
		return nil
	}
	defer b.Close()
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		n, err := io.ReadFull(a, x)
		if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		m, errB := io.ReadFull(b, y)
		if errB != nil && errB != io.EOF && !errors.Is(errB, io.ErrUnexpectedEOF) {
			c.damage(have, errB.Error())
			return nil
		}
		if !bytes.Equal(x[:n], y[:m]) {
			c.damage(have, "other content")
			return nil
		}
		if err != nil {
			return nil
		}
	}
}

// allXattrs are the user.* attributes of a path, those of overlayfs included.
func allXattrs(path string) (map[string]string, error) {
	buf := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(path, buf)
	if err == unix.ENOTSUP {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs of %s: %w", path, err)
	}
	var all map[string]string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("get xattr %q of %s: %w", name, path, err)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = string(value[:n])
	}
	return all, nil
}
