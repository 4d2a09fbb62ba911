package image

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
)

// Tarball is the layer that a tar file holds.
func Tarball(file string) Layer {
	return func(w io.Writer) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return err
	}
}

// Diff is the layer that turns the tree of one tarball into that of another:
// what is new or changed, whiteouts for what is gone, and the directories above
// either, as builders write it. Of a hard-linked file that changes, every name is
// in the layer.
func Diff(lower, upper string) Layer {
	return func(w io.Writer) error {
		low, err := index(lower)
		if err != nil {
			return err
		}
		up, err := index(upper)
		if err != nil {
			return err
		}
		emit := map[string]bool{}
		for name, m := range up {
			if low[name] != m {
				emit[name], emit[m.first()] = true, true
			}
		}
		for name, m := range up {
			if emit[m.first()] {
				emit[name] = true
			}
		}
		var gone []string
		for _, name := range slices.Sorted(maps.Keys(low)) {
			if _, kept := up[name]; !kept && up[path.Dir(name)].kind == tar.TypeDir {
				gone = append(gone, name)
			}
		}
		for _, name := range append(gone, slices.Collect(maps.Keys(emit))...) {
			for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
				emit[dir] = true
			}
		}
		tw := tar.NewWriter(w)
		for _, name := range gone {
			gone := Whiteout(name)
			if err := tw.WriteHeader(&gone.Header); err != nil {
				return err
			}
		}
		err = members(upper, func(name string, h *tar.Header, r io.Reader) error {
			if !emit[name] {
				return nil
			}
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
			_, err := io.Copy(tw, r)
			return err
		})
		if err != nil {
			return err
		}
		return tw.Close()
	}
}

// member is what makes two entries of the same name equal.
type member struct {
	name, link      string
	kind            byte
	mode, size, dev int64
	uid, gid        int
	mtime           int64
	sum             [sha256.Size]byte
}

// first is the name that carries the content: of a hard link, the entry it
// refers to.
func (m member) first() string {
	if m.kind == tar.TypeLink {
		return m.link
	}
	return m.name
}

func index(file string) (map[string]member, error) {
	all := map[string]member{}
	err := members(file, func(name string, h *tar.Header, r io.Reader) error {
		m := member{name: name, link: h.Linkname, kind: h.Typeflag, mode: h.Mode, size: h.Size, uid: h.Uid, gid: h.Gid,
			dev: h.Devmajor<<32 | h.Devminor, mtime: h.ModTime.Unix()}
		if m.kind == tar.TypeLink {
			m.link = path.Clean(h.Linkname)
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, r); err != nil {
			return err
		}
		sum.Sum(m.sum[:0])
		all[name] = m
		return nil
	})
	return all, err
}

func members(file string, visit func(name string, h *tar.Header, r io.Reader) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = visit(path.Clean(h.Name), h, tr)
		}
		if err != nil {
			return fmt.Errorf("tar %s: %w", file, err)
		}
	}
}
