package unpack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	opaqueXattr = "user.overlay.opaque"
	impliedMode = 0o755
)

// impliedTime is the time of a directory that no entry describes.
var impliedTime = time.Unix(0, 0)

// node is one directory of a layer, or of an image that is being merged. The
// directories stay writable while entries come in; mode and time are put in
// place by settle, when nothing changes them any more.
type node struct {
	kids      map[string]*node
	whiteouts []string    // names hidden in lower layers
	mode      os.FileMode // permission, setuid, setgid and sticky bits
	mtime     time.Time
	implied   bool // no entry of its own
	opaque    bool // an opaque marker: nothing of lower layers shows
	fresh     bool // as opaque, and it is another directory than that of lower layers
	linked    bool // a hard link in it is still to be made
}

func newNode() *node { return &node{mode: impliedMode, mtime: impliedTime, implied: true} }

func (n *node) add(name string) *node {
	if n.kids == nil {
		n.kids = map[string]*node{}
	}
	kid := newNode()
	n.kids[strings.Clone(name)] = kid
	return kid
}

// below returns the node of the directory name, "." for n itself, or nil.
func (n *node) below(name string) *node {
	for c := range strings.SplitSeq(name, "/") {
		if c != "." && n != nil {
			n = n.kids[c]
		}
	}
	return n
}

// hides settles the whiteouts of n in dir: where the layer itself has what it
// hides, a directory becomes fresh and a file needs nothing. The names that
// remain exist nowhere in the layer.
func (n *node) hides(dir string) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	for _, name := range n.whiteouts {
		if seen[name] {
			continue
		}
		seen[name] = true
		if kid := n.kids[name]; kid != nil {
			hollow, err := kid.hollow(filepath.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("whiteout: %w", err)
			}
			if !hollow {
				kid.fresh = true
				continue
			}
			if err := removeAll(filepath.Join(dir, name)); err != nil {
				return nil, fmt.Errorf("whiteout: %w", err)
			}
			delete(n.kids, name)
		}
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case errors.Is(err, os.ErrNotExist):
			names = append(names, name)
		case err != nil:
			return nil, fmt.Errorf("whiteout: %w", err)
		}
	}
	return names, nil
}

// hollow reports whether the layer has nothing in the directory n but whiteouts, and no entry for it: a whiteout of it then stands.
func (n *node) hollow(dir string) (bool, error) {
	if !n.implied || n.linked {
		return false, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > len(n.kids) {
		return false, err
	}
	for name, kid := range n.kids {
		if hollow, err := kid.hollow(filepath.Join(dir, name)); !hollow {
			return false, err
		}
	}
	return true, nil
}

// overlay writes whiteouts and opaque directories below dir the way overlayfs
// reads them, and notes in m the directories with whiteouts and the implied ones that may show a lower one.
// Below an opaque directory whiteouts are left out: readdir would list them.
func (n *node) overlay(dir, rel string, covered bool, m *meta) error {
	names, err := n.hides(dir)
	if err != nil {
		return err
	}
	if n.implied && !n.fresh && !covered {
		m.Implied = append(m.Implied, []byte(rel))
	}
	if n.opaque || n.fresh {
		if err := unix.Lsetxattr(dir, opaqueXattr, []byte("y"), 0); err != nil {
			return fmt.Errorf("mark %s opaque: %w", rel, err)
		}
		covered = true
	}
	if !covered && len(names) > 0 {
		m.Hiding = append(m.Hiding, []byte(rel))
		for _, name := range names {
			if err := unix.Mknod(filepath.Join(dir, name), unix.S_IFCHR, 0); err != nil {
				return fmt.Errorf("make whiteout of %s: %w", filepath.Join(rel, name), err)
			}
		}
	}
	for name, kid := range n.kids {
		if err := kid.overlay(filepath.Join(dir, name), filepath.Join(rel, name), covered, m); err != nil {
			return err
		}
	}
	return nil
}

// settle gives the directories below and at dir their mode and time, children
// first: a directory of mode 0555 or 0000 cannot be worked in afterwards.
func (n *node) settle(dir string) error {
	for name, kid := range n.kids {
		if err := kid.settle(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return attributes{mode: n.mode, mtime: n.mtime}.apply(dir)
}
