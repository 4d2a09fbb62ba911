package corpus

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// entry is one member of a layer. raw is written instead of it; the oracle still goes by the header.
type entry struct {
	tar.Header
	body string
	raw  []byte
}

type option func(*entry)

func mode(m int64) option { return func(e *entry) { e.Mode = m } }
func at(sec, nsec int64) option {
	return func(e *entry) {
		if e.ModTime = time.Unix(sec, nsec); nsec != 0 {
			e.Format = tar.FormatPAX // others have seconds
		}
	}
}
func owner(uid, gid int) option     { return func(e *entry) { e.Uid, e.Gid = uid, gid } }
func named(user, grp string) option { return func(e *entry) { e.Uname, e.Gname = user, grp } }
func format(f tar.Format) option    { return func(e *entry) { e.Format = f } }
func record(key, value string) option {
	return func(e *entry) {
		if e.PAXRecords == nil {
			e.PAXRecords = map[string]string{}
		}
		e.PAXRecords[key] = value
	}
}
func xattr(name, value string) option { return record("SCHILY.xattr."+name, value) }

func newEntry(h tar.Header, body string, opts []option) entry {
	h.ModTime, h.Size = time.Unix(1_600_000_000, 0), int64(len(body))
	e := entry{Header: h, body: body}
	for _, o := range opts {
		o(&e)
	}
	return e
}

func dir(name string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimSuffix(name, "/") + "/", Mode: 0o755}, "", opts)
}

func file(name, body string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body, opts)
}

func link(name, target string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "", opts)
}

func hard(name, target string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, "", opts)
}

func fifo(name string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o644}, "", opts)
}

func device(kind byte, name string, major, minor int64, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}, "", opts)
}

func whiteout(name string) entry {
	i := strings.LastIndexByte(name, '/') + 1
	return file(name[:i]+".wh."+name[i:], "")
}

func opaque(name string) entry { return file(strings.TrimPrefix(name+"/.wh..wh..opq", "./"), "") }

// global is a pax header for all entries that follow, as git archive writes it.
func global(records map[string]string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: records}}
}

// written is e in other bytes than archive/tar writes.
func (e entry) written(raw []byte) entry {
	e.raw = raw
	return e
}

// archive is a layer as the oracle and as an unpacker read it.
type archive struct {
	entries []entry
	tar     []byte
}

func tarOf(entries ...entry) archive {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if e.raw != nil {
			if err := w.Flush(); err != nil {
				panic(err)
			}
			buf.Write(e.raw)
			continue
		}
		h := e.Header
		if err := w.WriteHeader(&h); err != nil {
			panic(fmt.Sprintf("%q: %v", e.Name, err))
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return archive{entries, buf.Bytes()}
}

// with is a in other bytes.
func (a archive) with(change func(tar []byte) []byte) archive {
	a.tar = change(bytes.Clone(a.tar))
	return a
}

// series is n entries.
func series(n int, nth func(i int) entry) []entry {
	list := make([]entry, n)
	for i := range list {
		list[i] = nth(i)
	}
	return list
}

// tree is a few files and directories to stand upon.
func tree(more ...entry) archive {
	return tarOf(append([]entry{
		dir("d", mode(0o750), at(1_500_000_000, 0)), file("d/a", "a"), dir("d/s"), file("d/s/b", "b"), file("f", "f"), link("l", "d"),
	}, more...)...)
}
