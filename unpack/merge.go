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
	release, err := u.lock(ctx, u.id.chain, func() { u.report(func(p *Progress) { p.Waiting = true }) })
	if err != nil {
		return err
	}
	defer release()
	if root, err := u.find(u.id); root != nil || err != nil {
		return err
	}
	mark := marker{Version: version, Chain: u.id.chain, Merged: true}
	if dir, err := u.part("merged", u.id.chain); err != nil {
		return err
	} else if dir != "" { // whole, as it has its name; only the marker is missing
		return u.mark(mark)
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
	if err := w.publish("merged", u.id.chain); err != nil {
		return err
	}
	return u.mark(mark)
}

// merging is an image that becomes one directory.
type merging struct {
	root string
	tree *node
}

// add moves the layer x over what is there: first what it hides is removed, then
// what it holds is moved, last its links into lower layers are made.
func (m *merging) add(x *extraction) error {
	if err := m.take(m.tree, ".", x, x.tree, "."); err != nil {
		return err
	}
	for _, l := range x.links {
		if err := m.link(l); err != nil {
			return fmt.Errorf("hard link %q to %q: %w", l.name, l.target, err)
		}
	}
	return nil
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
		resolved, under, err := m.below(into, at, name, kid.implied)
		if err != nil {
			return err
		}
		if under == nil {
			return m.move(into, at, x, kid, rel, name)
		}
		if err := m.take(under, resolved, x, kid, path.Join(rel, name)); err != nil {
			return err
		}
		return os.Remove(filepath.Join(src, name))
	})
}

// below returns the directory name in at that a directory of a layer is to be
// merged with, nil when there is none. A symlink to a directory is followed where
// the layer only implies a directory, as tar would.
func (m *merging) below(into *node, at, name string, follow bool) (string, *node, error) {
	full := path.Join(at, name)
	if kid := into.kids[name]; kid != nil {
		return full, kid, nil
	}
	if fi, err := os.Lstat(filepath.Join(m.root, full)); err != nil || !follow || fi.Mode()&os.ModeSymlink == 0 {
		return "", nil, nil
	}
	dir, n, err := m.resolve(full)
	return dir, n, err
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
	n := m.tree
	for c := range strings.SplitSeq(rel, "/") {
		if c != "." && n != nil {
			n = n.kids[c]
		}
	}
	return rel, n, nil
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
	if parent == nil || targets == nil {
		return errors.New("no such directory in the image")
	}
	target := path.Join(from, path.Base(l.target))
	if _, err := os.Lstat(filepath.Join(m.root, target)); err != nil {
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
