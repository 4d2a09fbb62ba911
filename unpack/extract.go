package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/opencontainers/umoci/oci/layer"
	"golang.org/x/sys/unix"
)

// hardlink is a link to a file that the layer itself does not hold.
type hardlink struct {
	name, target string
	parent       *node // the directory of name
}

// extraction is what became of one layer below root: everything but the
// whiteouts, and with all directories still writable.
type extraction struct {
	root    string
	tree    *node
	links   []hardlink // in the order of the layer
	entries int64
	bytes   int64 // of regular files, holes included
	onDisk  int64 // of regular files, in whole blocks
	dirs    int64
}

// disk is about what the layer takes on disk, in bytes.
func (x *extraction) disk() int64 { return x.onDisk + x.dirs*block }

// extractor writes the entries of one layer.
type extractor struct {
	extraction
	ctx    context.Context
	umoci  *layer.TarExtractor
	data   content
	budget *budget
	max    int64             // bytes of regular files, holes included
	linked map[string]string // the links by name, with what they lead to
	strip  os.FileMode
}

// refresh is the number of entries after which umoci's extractor is replaced:
// it remembers each path for whiteouts, of which it is shown none.
const refresh = 20_000

// extract writes the layer that r holds as a tar archive below root, which is an
// empty directory, and reads r to its end. Modes lose the bits of strip.
func extract(ctx context.Context, r io.Reader, root string, b *budget, size int64, strip os.FileMode) (*extraction, error) {
	x := &extractor{
		extraction: extraction{root: root, tree: newNode()},
		ctx:        ctx,
		budget:     b,
		max:        b.limits.grown(b.limits.Bytes, size),
		strip:      strip,
		linked:     map[string]string{},
	}
	x.data = content{ctx: ctx, budget: b, buf: make([]byte, 256<<10)}
	most, limit := b.limits.entries(size)
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return nil, &formatError{fmt.Errorf("read tar: %w", err)}
		}
		if x.entries++; x.entries > most {
			return nil, &LimitError{limit, "entries", most}
		}
		if err := b.create(x.entries); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if x.entries%refresh == 1 {
			// The overlay form for its escaping of user.overlay.*.
			x.umoci = layer.NewTarExtractor(&layer.UnpackOptions{OnDiskFormat: layer.OverlayfsRootfs{
				MapOptions: layer.MapOptions{Rootless: true},
				UserXattr:  true,
			}})
		}
		name := hdr.Name
		if err := x.entry(hdr, tr); err != nil {
			return nil, fmt.Errorf("entry %s: %w", quote(name), err)
		}
	}
	// What follows the end of the archive counts for the diff_id.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, &formatError{fmt.Errorf("read to the end: %w", err)}
	}
	done := x.extraction // without the buffers
	done.onDisk = x.data.written
	return &done, done.pruneLinks()
}

func (x *extractor) entry(hdr *tar.Header, r io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil // git archive writes one
	}
	dir, base, kind, err := x.budget.limits.parse(hdr.Name)
	if err != nil || kind == skipped {
		return err
	}
	parent, at, err := x.descend(dir)
	if err != nil {
		return err
	}
	switch kind {
	case whiteout:
		parent.whiteouts = append(parent.whiteouts, strings.Clone(base))
		return x.budget.remember(len(base) + 16)
	case opaque:
		parent.opaque = true
		return nil
	}
	if err := x.normalise(hdr); err != nil {
		return err
	}
	hdr.Name = path.Join(at, base)
	mode := hdr.FileInfo().Mode() &^ os.ModeType
	switch {
	case kind == root && hdr.Typeflag != tar.TypeDir:
		return errors.New("the root cannot be anything but a directory")
	case hdr.Typeflag == tar.TypeDir:
		n := x.tree
		if kind != root {
			if n, err = x.directory(parent, at, base); err != nil {
				return err
			}
		}
		n.mode, n.mtime, n.implied = mode, hdr.ModTime, false
		hdr.Mode |= 0o700
	default:
		delete(parent.kids, base) // umoci removes the directory
	}
	switch hdr.Typeflag {
	case tar.TypeLink:
		if done, err := x.link(hdr, parent); done || err != nil {
			return err
		}
	case tar.TypeReg:
		if x.bytes += hdr.Size; hdr.Size > x.max || x.bytes > x.max {
			return &LimitError{"bytes", "bytes", x.max}
		}
		if hdr.Size == 0 {
			r = &io.LimitedReader{} // spares umoci a buffer
			break
		}
		x.data.r, x.data.size = r, hdr.Size
		r = &x.data
	}
	if hdr.Typeflag == tar.TypeLink || kind == root {
		return x.umoci.UnpackEntry(x.root, hdr, r)
	}
	//lint:ignore SA1019 umoci reads this field
	readOnly := hdr.Typeflag == tar.TypeReg && len(hdr.Xattrs) > 0 && hdr.Mode&0o200 == 0
	if readOnly { // user.* attributes are for those who may write; umoci leaves out what is refused
		hdr.Mode |= 0o200
	}
	// The parent is known to be a directory without symlinks on the way: given
	// it as the root, umoci need not lstat each component again.
	hdr.Name = base
	if err := x.umoci.UnpackEntry(filepath.Join(x.root, at), hdr, r); err != nil || !readOnly {
		return err
	}
	return os.Chmod(filepath.Join(x.root, at, base), mode)
}

// normalise leaves in hdr what can be had without privileges, alike for root
// and everyone else, and what umoci knows.
func (x *extractor) normalise(hdr *tar.Header) error {
	//lint:ignore SA1019 umoci reads this field
	xattrs := hdr.Xattrs
	for name := range xattrs {
		// An ACL names uids of another world; security.* and trusted.* need
		// privileges; rootlesscontainers is umoci's own.
		if !strings.HasPrefix(name, "user.") || name == "user.rootlesscontainers" {
			delete(xattrs, name)
		}
	}
	hdr.Uid, hdr.Gid = 0, 0
	hdr.Mode &^= int64(x.strip)
	// Outside of this range file systems and time.UnixNano overflow.
	if s := hdr.ModTime.Unix(); s < -1<<31 {
		hdr.ModTime = time.Unix(-1<<31, 0)
	} else if s > 1<<33 {
		hdr.ModTime = time.Unix(1<<33, 0)
	}
	hdr.AccessTime = hdr.ModTime
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeFifo:
	case tar.TypeGNUSparse, tar.TypeCont:
		hdr.Typeflag = tar.TypeReg
	case tar.TypeChar, tar.TypeBlock:
		// umoci (0.6.0) would give the empty file that stands for a device
		// the mode of the device, 0666 for most.
		hdr.Typeflag, hdr.Mode, hdr.Size = tar.TypeReg, 0, 0
		clear(xattrs)
	case tar.TypeLink, tar.TypeSymlink:
		if n := len(hdr.Linkname); n == 0 || int64(n) > x.budget.limits.Path || strings.IndexByte(hdr.Linkname, 0) >= 0 {
			return fmt.Errorf("invalid link target of %d bytes", n)
		}
	default:
		return fmt.Errorf("unknown type %q", hdr.Typeflag)
	}
	return nil
}

// descend returns the directory dir of the layer and its name without symlinks,
// having made what is missing.
func (x *extractor) descend(dir string) (*node, string, error) {
	n, at := x.tree, "."
	if dir == "." {
		return n, at, nil
	}
	depth := int64(0)
	for c := range strings.SplitSeq(dir, "/") {
		if depth++; depth > x.budget.limits.Depth {
			return nil, "", &LimitError{"depth", "directories below each other", x.budget.limits.Depth}
		}
		kid := n.kids[c]
		if kid == nil {
			full := filepath.Join(x.root, at, c)
			if fi, err := os.Lstat(full); err == nil && fi.Mode()&os.ModeSymlink != 0 {
				resolved, err := securejoin.SecureJoin(x.root, dir)
				if err != nil {
					return nil, "", fmt.Errorf("resolve %q: %w", dir, err)
				}
				rel, err := filepath.Rel(x.root, resolved)
				if err != nil {
					return nil, "", err
				}
				return x.descend(rel)
			}
			var err error
			if kid, err = x.directory(n, at, c); err != nil {
				return nil, "", err
			}
			if err := os.Mkdir(full, 0o700); err != nil {
				return nil, "", fmt.Errorf("make implied directory: %w", err)
			}
		}
		n, at = kid, path.Join(at, c)
	}
	return n, at, nil
}

// nodeMemory is about what a directory takes besides its name, in bytes.
const nodeMemory = 400

// directory returns the node of the directory name in parent. A file that is in
// the way is removed, and the directory then is none that a lower layer knows.
func (x *extractor) directory(parent *node, at, name string) (*node, error) {
	if kid := parent.kids[name]; kid != nil {
		return kid, nil
	}
	if err := x.budget.remember(len(name) + nodeMemory); err != nil {
		return nil, err
	}
	x.dirs++
	kid := parent.add(name)
	switch err := unix.Unlink(filepath.Join(x.root, at, name)); err {
	case nil:
		kid.fresh = true
	case unix.ENOENT:
		_, kid.fresh = x.linked[path.Join(at, name)]
	default:
		return nil, fmt.Errorf("remove what was there before: %w", err)
	}
	return kid, nil
}

// link reports whether nothing is left to do for a hard link: because it names
// itself, or because its target must lie in a lower layer.
func (x *extractor) link(hdr *tar.Header, parent *node) (done bool, err error) {
	target, err := x.budget.limits.clean(hdr.Linkname)
	if err != nil {
		return false, fmt.Errorf("link target: %w", err)
	}
	dir, err := securejoin.SecureJoin(x.root, path.Dir(target))
	if err != nil {
		return false, fmt.Errorf("resolve link target: %w", err)
	}
	full := filepath.Join(dir, path.Base(target))
	fi, err := os.Lstat(full)
	switch {
	case err == nil && fi.IsDir() && !x.isImplied(full):
		return false, fmt.Errorf("hard link to the directory %s", quote(target))
	case err == nil && fi.IsDir(): // a lower layer may have a symlink there
	case err == nil:
		return full == filepath.Join(x.root, hdr.Name), nil
	case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
		return false, err
	}
	if err := removeAll(filepath.Join(x.root, hdr.Name)); err != nil {
		return false, err
	}
	// A link to another such link leads where that one does, whatever may come in its place.
	if rel, err := filepath.Rel(x.root, full); err == nil && x.linked[rel] != "" {
		target = x.linked[rel]
	}
	l := hardlink{strings.Clone(hdr.Name), target, parent}
	x.links = append(x.links, l)
	x.linked[l.name] = target
	parent.linked = true
	return true, x.budget.remember(len(hdr.Name) + len(target) + 64)
}

// isImplied reports whether the layer has no entry for a directory below the root.
func (x *extractor) isImplied(dir string) bool {
	rel, err := filepath.Rel(x.root, dir)
	if err != nil || rel == "." {
		return false
	}
	n := x.tree.below(rel)
	return n != nil && n.implied
}

// pruneLinks drops the links whose name a later entry took, or whose directory: what is in its place may be a symlink to
// anywhere.
func (x *extraction) pruneLinks() error {
	var kept []hardlink
	for _, l := range x.links {
		if x.tree.below(path.Dir(l.name)) != l.parent {
			continue
		}
		switch _, err := os.Lstat(filepath.Join(x.root, l.name)); {
		case errors.Is(err, os.ErrNotExist):
			kept = append(kept, l)
		case err != nil && !errors.Is(err, unix.ENOTDIR):
			return err
		}
	}
	x.links = kept
	return nil
}
