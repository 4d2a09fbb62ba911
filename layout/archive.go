package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// archive is a tar file as a place. Nothing of it is extracted: a list of its
// members is made once, by seeking from header to header, and a member is read
// where it lies. A compressed archive has to be read through for the list, at
// each start anew; small members are kept in memory on the way, so only a layer
// makes it be decompressed into a temporary file.
type archive struct {
	name    string
	packed  string // its compression
	members map[string]member
	tar     func() (io.ReaderAt, error) // the uncompressed archive
}

// member is one entry of an archive.
type member struct {
	kind   byte // of tar, sparseKind for what is not stored as one run of bytes
	offset int64
	size   int64
	link   string
	kept   []byte // the content, of a small file in a compressed archive
	again  bool   // there is another entry of this name
}

const sparseKind = tar.TypeGNUSparse

// openArchive lists the members of the archive in f, which it takes over. What
// is read of a compressed one, now or later, ends with ctx.
func openArchive(ctx context.Context, f *os.File, size int64, packed string) (*archive, error) {
	a := &archive{name: f.Name(), packed: packed}
	var err error
	if packed == plain {
		a.tar = func() (io.ReaderAt, error) { return f, nil }
		r := io.NewSectionReader(f, 0, size)
		a.members, err = listMembers(r, func() int64 { at, _ := r.Seek(0, io.SeekCurrent); return at }, 0)
	} else {
		uncompressed := func() (io.ReadCloser, error) {
			r, err := inflate(io.NopCloser(contextReader{ctx, io.NewSectionReader(f, 0, size)}))
			if err != nil {
				return nil, err
			}
			return readCloser{&bounded{r: r, left: maxArchive + maxRatio*size}, r}, nil
		}
		a.tar = sync.OnceValues(func() (io.ReaderAt, error) { return spool(uncompressed) })
		a.members, err = listPacked(uncompressed)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read archive %s: %w", a.name, err), f.Close())
	}
	return a, nil
}

func listPacked(open func() (io.ReadCloser, error)) (map[string]member, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := &counter{r: r}
	return listMembers(c, func() int64 { return c.n }, maxKeptInAll)
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// bounded fails when there is more to read than a limit.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("it unpacks to more than any archive does")
	}
	return n, err
}

// listMembers reads the headers of a tar; at is the offset of r. Up to keep
// bytes of small files are kept.
func listMembers(r io.Reader, at func() int64, keep int64) (map[string]member, error) {
	members := map[string]member{}
	count := 0
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if err == io.EOF {
			return members, nil
		}
		if err != nil {
			return nil, err
		}
		if count++; count > maxMembers {
			return nil, fmt.Errorf("it has more than %d members", maxMembers)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if len(h.Name) > maxMemberName || len(h.Linkname) > maxMemberName {
			return nil, fmt.Errorf("the name or link target of a member has more than %d bytes", maxMemberName)
		}
		name := path.Clean(h.Name)
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("member %q leads out of the archive", h.Name)
		}
		m := member{kind: h.Typeflag, offset: at(), size: h.Size, link: h.Linkname}
		if isSparse(h) {
			m.kind = sparseKind
		}
		if m.kind == tar.TypeReg && m.size <= min(maxKept, keep) {
			if m.kept, err = io.ReadAll(t); err != nil {
				return nil, err
			}
			keep -= m.size
		}
		_, m.again = members[name]
		members[name] = m
	}
}

// isSparse says whether a file is stored without its holes.
func isSparse(h *tar.Header) bool {
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// spool copies what open gives into a file that has no name.
func spool(open func() (io.ReadCloser, error)) (io.ReaderAt, error) {
	r, err := open()
	if err != nil {
		return nil, err
	}
	f, err := spoolFile(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	return f, nil
}

// spoolFile copies r into a file that has no name, in $TMPDIR.
func spoolFile(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "dlrun-archive-")
	if err != nil {
		return nil, fmt.Errorf("unpack into $TMPDIR: %w", err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unpack into %s ($TMPDIR): %w", filepath.Dir(f.Name()), err), f.Close())
	}
	return f, nil
}

func (a *archive) dir() string             { return a.name }
func (a *archive) path(name string) string { return a.name + ":" + name }

func (a *archive) kind() string {
	if a.packed == plain {
		return "archive"
	}
	return "archive (" + a.packed + ")"
}

func (a *archive) names(dir string) []string {
	var names []string
	for member := range a.members {
		if name, ok := strings.CutPrefix(member, dir+"/"); ok && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (a *archive) has(name string) bool {
	_, ok := a.members[name]
	return ok
}

func (a *archive) key(string) string { return "" }

func (a *archive) size(name string) int64 {
	m, err := a.find(name)
	if err != nil {
		return 0
	}
	return m.size
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, 0, err
	}
	if m.kept != nil {
		return io.NopCloser(bytes.NewReader(m.kept)), m.size, nil
	}
	tar, err := a.tar()
	if err != nil {
		return nil, 0, err
	}
	return io.NopCloser(io.NewSectionReader(tar, m.offset, m.size)), m.size, nil
}

// find follows links within the archive to a regular file.
func (a *archive) find(name string) (member, error) {
	at := name
	for range maxLinks {
		m, ok := a.members[at]
		switch {
		case !ok:
			return m, &MissingError{Dir: a.name, Blobs: []MissingBlob{{Path: a.path(at)}}}
		case m.again:
			// One reader takes the first, another the last: nobody can say what it is.
			return m, fmt.Errorf("%s is in the archive more than once", a.path(at))
		}
		switch m.kind {
		case tar.TypeReg:
			return m, nil
		case tar.TypeSymlink:
			if path.IsAbs(m.link) {
				return m, fmt.Errorf("%s is a link out of the archive, to %q", a.path(at), m.link)
			}
			at = path.Join(path.Dir(at), m.link)
		case tar.TypeLink:
			at = path.Clean(m.link)
		case sparseKind:
			return m, fmt.Errorf("%s is stored as a sparse file, which is not read", a.path(at))
		default:
			return m, notRegular(a.path(at), (&tar.Header{Typeflag: m.kind}).FileInfo().Mode())
		}
		if !filepath.IsLocal(at) {
			return m, fmt.Errorf("%s is a link out of the archive, to %q", a.path(name), m.link)
		}
	}
	return member{}, &fs.PathError{Op: "open", Path: a.path(name), Err: errTooManyLinks}
}

var errTooManyLinks = errors.New("too many levels of symbolic links")
