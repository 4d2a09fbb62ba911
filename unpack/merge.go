package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// merged unpacks the layers side by side and moves them over each other into
// one directory.
func (u *unpacking) merged(ctx context.Context) error {
	lock, err := u.lock(ctx, imageLock(u.id.chain), func() bool { u.report(func(p *Progress) { p.Waiting = true }); return false })
	if err != nil {
		return err
	}
	defer lock.Close()
	if root, err := u.find(u.id); root != nil || err != nil {
		return err
	}
	mark := marker{Chain: u.id.chain, Merged: true}
	var whole meta
	if dir, err := u.part("merged", u.id.chain); err != nil {
		return err
	} else if dir != "" && u.readJSON(filepath.Join(filepath.Dir(dir), "meta.json"), maxMeta, &whole) == nil && whole.Version == version {
		if time, err := timeOf(dir); err == nil && time == whole.Time { // only the marker is missing
			mark.Times = []int64{time}
			return u.mark(mark)
		}
	}
	if err := u.retire("merged", u.id.chain); err != nil {
		return err
	}
	var mu sync.Mutex
	layers := map[string]*extraction{}
	var works []*work
	defer func() {
		for _, w := range works {
			w.discard()
		}
	}()
	work := func() (*work, error) {
		w, err := u.newWork()
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			works = append(works, w)
		}
		return w, err
	}
	err = u.each(ctx, func(ctx context.Context, b blob) error {
		w, err := work()
		if err != nil {
			return err
		}
		x, err := u.extract(ctx, b, w.fs())
		mu.Lock()
		defer mu.Unlock()
		layers[b.diffID] = x
		return err
	})
	if err != nil {
		return err
	}
	w, err := work()
	if err != nil {
		return err
	}
	m := merging{root: w.fs(), tree: newNode()}
	for _, d := range u.id.stack(0) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.add(layers[d]); err != nil {
			return fmt.Errorf("merge layer sha256:%s: %w", d, err)
		}
	}
	if err := m.tree.settle(m.root); err != nil {
		return err
	}
	whole = meta{Version: version, DiffID: u.id.chain}
	for _, x := range layers {
		whole.Entries, whole.Bytes, whole.Disk = whole.Entries+x.entries, whole.Bytes+x.bytes, whole.Disk+x.disk()
	}
	if whole.Time, err = timeOf(m.root); err != nil {
		return err
	}
	mark.Times = []int64{whole.Time}
	if err := writeJSON(filepath.Join(w.path, "meta.json"), whole, u.mode&0o644, u.defers() == ""); err != nil {
		return err
	}
	if err := w.publish("merged", u.id.chain); err != nil {
		return err
	}
	return u.mark(mark)
}

// merging is an image that becomes one directory.
type merging struct {
	root  string
	tree  *node
	below []follow // of the layer that is being added
}

// follow is a directory that a layer only implies, where a lower one has a symlink: what is in it belongs where that
// leads. It comes last, so that the outcome does not hang on the order in which a directory is read.
type follow struct {
	into     *node
	at, name string
	kid      *node
	rel      string // in the layer
}

// add moves the layer x over what is there: its links into lower layers become part of it while these are as they
// were, what it hides is removed, what it holds is moved. Links that are left lead by way of what the layer itself holds.
func (m *merging) add(x *extraction) error {
	later, err := m.linkBelow(x)
	if err != nil {
		return err
	}
	m.below = nil
	if err := m.take(m.tree, ".", x, x.tree, "."); err != nil {
		return err
	}
	for i := 0; i < len(m.below); i++ { // more come while it lasts
		if err := m.follow(x, m.below[i]); err != nil {
			return err
		}
	}
	for _, l := range later {
		if err := m.link(l); err != nil {
			return fmt.Errorf("hard link %s to %s: %w", quote(l.name), quote(l.target), err)
		}
	}
	return nil
}

// linkBelow makes the links of x whose targets lower layers hold, and returns the others.
func (m *merging) linkBelow(x *extraction) (others []hardlink, err error) {
	made := map[string]bool{}
	for _, l := range x.links {
		target := filepath.Join(x.root, l.target)
		if !made[l.target] {
			from, targets, err := m.resolve(path.Dir(l.target))
			if err != nil {
				return nil, fmt.Errorf("hard link %s: %w", quote(l.name), err)
			}
			base := path.Base(l.target)
			target = filepath.Join(m.root, from, base)
			if _, err := os.Lstat(target); err != nil || targets == nil || targets.kids[base] != nil {
				others = append(others, l)
				continue
			}
		}
		name := filepath.Join(x.root, l.name)
		if name == target {
			continue
		}
		if made[l.name] { // the last of several entries counts
			if err := unix.Unlink(name); err != nil {
				return nil, fmt.Errorf("hard link %s: %w", quote(l.name), err)
			}
		}
		if err := unix.Linkat(unix.AT_FDCWD, target, unix.AT_FDCWD, name, 0); err != nil {
			return nil, fmt.Errorf("hard link %s: %w", quote(l.name), err)
		}
		made[l.name] = true
	}
	return others, nil
}

// take merges the directory rel of x, which is from, with the directory at, which
// is into. It leaves nothing in rel.
func (m *merging) take(into *node, at string, x *extraction, from *node, rel string) error {
	dst, src := filepath.Join(m.root, at), filepath.Join(x.root, rel)
	hidden, err := from.hides(src)
	if err != nil {
		return err
	}
	if from.opaque {
		into.kids = nil
		dir, err := os.Open(dst)
		if err != nil {
			return err
		}
		err = removeBelow(dir)
		dir.Close()
		if err != nil {
			return err
		}
	}
	for _, name := range hidden {
		delete(into.kids, name)
		if err := removeAll(filepath.Join(dst, name)); err != nil {
			return err
		}
	}
	if !from.implied {
		into.mode, into.mtime, into.implied = from.mode, from.mtime, false
		if err := copyXattrs(src, dst); err != nil {
			return err
		}
	}
	dir, err := os.Open(src)
	if err != nil {
		return err
	}
	defer dir.Close()
	return drainDir(dir, func(name string) error {
		kid := from.kids[name]
		if kid == nil || kid.fresh {
			return m.move(into, at, x, kid, rel, name)
		}
		if under := into.kids[name]; under != nil {
			if err := m.take(under, path.Join(at, name), x, kid, path.Join(rel, name)); err != nil {
				return err
			}
			return os.Remove(filepath.Join(src, name))
		}
		if fi, err := os.Lstat(filepath.Join(dst, name)); err != nil || !kid.implied || fi.Mode()&os.ModeSymlink == 0 {
			return m.move(into, at, x, kid, rel, name)
		}
		away := path.Join("..", fmt.Sprint("below-", len(m.below)))
		m.below = append(m.below, follow{into, at, name, kid, away})
		return os.Rename(filepath.Join(src, name), filepath.Join(x.root, away))
	})
}

// follow merges a directory with the one that the symlink in its place leads to. Where that dangles the directory is made
// that it leads to, as in one layer.
func (m *merging) follow(x *extraction, f follow) error {
	dir, n, err := m.resolve(path.Join(f.at, f.name))
	if err == nil && n == nil {
		n, err = m.makeDirs(dir)
	}
	if err != nil {
		return err
	}
	if err := m.take(n, dir, x, f.kid, f.rel); err != nil {
		return err
	}
	return os.Remove(filepath.Join(x.root, f.rel))
}

// makeDirs makes the directories that are missing on the way to name, in which no symlink is, and name.
func (m *merging) makeDirs(name string) (*node, error) {
	n, at := m.tree, "."
	for c := range strings.SplitSeq(name, "/") {
		kid := n.kids[c]
		at = path.Join(at, c)
		if kid == nil {
			if err := removeAll(filepath.Join(m.root, at)); err != nil {
				return nil, err
			}
			if err := os.Mkdir(filepath.Join(m.root, at), 0o700); err != nil {
				return nil, fmt.Errorf("make implied directory: %w", err)
			}
			kid = n.add(c)
		}
		n = kid
	}
	return n, nil
}

// resolve follows symlinks to the directory name, whose node is nil when there
// is no such directory.
func (m *merging) resolve(name string) (string, *node, error) {
	full, err := securejoin.SecureJoin(m.root, name)
	if err != nil {
		return "", nil, fmt.Errorf("resolve %q: %w", name, err)
	}
	rel, err := filepath.Rel(m.root, full)
	if err != nil {
		return "", nil, err
	}
	return rel, m.tree.below(rel), nil
}

// move puts name of the layer in the place of what is there.
func (m *merging) move(into *node, at string, x *extraction, kid *node, rel, name string) error {
	dst, src := filepath.Join(m.root, at, name), filepath.Join(x.root, rel, name)
	// A file gives way to a file; only directories must be removed before,
	// and whatever a directory is to replace.
	if into.kids[name] != nil || kid != nil {
		if err := removeAll(dst); err != nil {
			return err
		}
	}
	delete(into.kids, name)
	if err := os.Rename(src, dst); err != nil {
		return err
	}
	if len(x.links) > 0 { // rename leaves two names of one file as they are
		if err := unix.Unlink(src); err != nil && err != unix.ENOENT {
			return fmt.Errorf("move %s: %w", quote(name), err)
		}
	}
	if kid != nil {
		if into.kids == nil {
			into.kids = map[string]*node{}
		}
		into.kids[name] = kid
	}
	return nil
}

func (m *merging) link(l hardlink) error {
	at, parent, err := m.resolve(path.Dir(l.name))
	if err != nil {
		return err
	}
	from, targets, err := m.resolve(path.Dir(l.target))
	if err != nil {
		return err
	}
	target := path.Join(from, path.Base(l.target))
	if _, err := os.Lstat(filepath.Join(m.root, target)); err != nil || parent == nil || targets == nil {
		return errors.New("no layer holds the target")
	}
	if targets.kids[path.Base(target)] != nil {
		return errors.New("the target is a directory")
	}
	name := path.Join(at, path.Base(l.name))
	if name == target {
		return nil
	}
	delete(parent.kids, path.Base(name))
	if err := removeAll(filepath.Join(m.root, name)); err != nil {
		return err
	}
	return unix.Linkat(unix.AT_FDCWD, filepath.Join(m.root, target), unix.AT_FDCWD, filepath.Join(m.root, name), 0)
}
