package unpack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
)

// The language of layers: tarOf(dir("a"), file("a/b", "text", mode(0o600))).

type entry struct {
	tar.Header
	body string
	raw  []byte // instead of a header
}

type option func(*entry)

func mode(m int64) option       { return func(e *entry) { e.Mode = m } }
func at(sec int64) option       { return func(e *entry) { e.ModTime = time.Unix(sec, 0) } }
func owner(uid, gid int) option { return func(e *entry) { e.Uid, e.Gid = uid, gid } }
func xattr(name, value string) option {
	return func(e *entry) {
		if e.PAXRecords == nil {
			e.PAXRecords = map[string]string{}
		}
		e.PAXRecords["SCHILY.xattr."+name] = value
	}
}

func newEntry(h tar.Header, body string, opts []option) entry {
	h.ModTime = time.Unix(1_000_000_000, 0)
	h.Size = int64(len(body))
	e := entry{Header: h, body: body}
	for _, o := range opts {
		o(&e)
	}
	return e
}

func dir(name string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, "", opts)
}
func file(name, body string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body, opts)
}
func symlink(name, target string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, "", opts)
}
func hardlink(name, target string) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, "", nil)
}
func fifo(name string, opts ...option) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o644}, "", opts)
}
func device(name string, major, minor int64) entry {
	return newEntry(tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}, "", nil)
}
func whiteout(name string) entry {
	i := strings.LastIndexByte(name, '/') + 1
	return file(name[:i]+".wh."+name[i:], "")
}
func opaque(name string) entry { return file(strings.TrimPrefix(name+"/.wh..wh..opq", "./"), "") }
func raw(b []byte) entry       { return entry{raw: b} }

func tarOf(entries ...entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if e.raw != nil {
			w.Flush()
			buf.Write(e.raw)
			continue
		}
		h := e.Header
		if err := w.WriteHeader(&h); err != nil {
			panic(fmt.Sprintf("%q: %v", e.Name, err))
		}
		io.WriteString(w, e.body)
	}
	w.Close()
	return buf.Bytes()
}

// rawHeader makes a header that tar.Writer would refuse to write.
func rawHeader(name string, flag byte, linkname string, size int) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000000\x00")
	b[156] = flag
	copy(b[157:], linkname)
	copy(b[257:], "ustar\x0000")
	return checksum(b)
}

func checksum(b []byte) []byte {
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(s string) []byte { return append([]byte(s), make([]byte, -len(s)&511)...) }

// paxSparse is a file of size bytes with text at its end, as GNU tar writes it
// in format pax 1.0.
func paxSparse(name string, size int, text string) []byte {
	var records string
	for _, r := range [][2]string{
		{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", name}, {"GNU.sparse.realsize", fmt.Sprint(size)},
	} {
		rest := " " + r[0] + "=" + r[1] + "\n"
		n := len(rest) + 2
		if n > 99 {
			n++
		}
		records += fmt.Sprint(n) + rest
	}
	b := append(rawHeader("pax", tar.TypeXHeader, "", len(records)), padded(records)...)
	b = append(b, rawHeader("sparse", tar.TypeReg, "", 512+len(text))...)
	b = append(b, padded(fmt.Sprintf("1\n%d\n%d\n", size-len(text), len(text)))...)
	return append(b, padded(text)...)
}

// gnuSparse is the same in the old format of GNU tar.
func gnuSparse(name string, size int, text string) []byte {
	b := rawHeader(name, tar.TypeGNUSparse, "", len(text))
	copy(b[257:], "ustar  \x00")
	clear(b[345:])
	copy(b[386:], fmt.Sprintf("%011o\x00%011o\x00", size-len(text), len(text)))
	copy(b[483:], fmt.Sprintf("%011o\x00", size))
	return append(checksum(b), padded(text)...)
}

func gz(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

func zst(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// blob is a layer whose reader verifies the digest, as every source of dlrun does.
type blob struct {
	v1.Layer
	diffID, digest string
	size           int64
	open           func() io.Reader
	opened         *atomic.Int32
}

func (b blob) Digest() (v1.Hash, error) { return v1.Hash{Algorithm: "sha256", Hex: b.digest}, nil }
func (b blob) Size() (int64, error)     { return b.size, nil }
func (b blob) Compressed() (io.ReadCloser, error) {
	if b.opened != nil {
		b.opened.Add(1)
	}
	return io.NopCloser(&verified{b.open(), sha256.New(), b.digest}), nil
}

type verified struct {
	r    io.Reader
	h    hash.Hash
	want string
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	if got := hex.EncodeToString(v.h.Sum(nil)); err == io.EOF && v.want != "" && got != v.want {
		return n, fmt.Errorf("blob is sha256:%s, not sha256:%s", got, v.want)
	}
	return n, err
}

// layer of a tar archive as it is.
func layer(tar []byte) blob { return compressed(tar, tar) }

// compressed is a layer that unpacks to tar.
func compressed(tar, b []byte) blob {
	return blob{diffID: sha(tar), digest: sha(b), size: int64(len(b)), open: func() io.Reader { return bytes.NewReader(b) }}
}

// image of layers; it has nothing else.
type image struct {
	v1.Image
	layers  []blob
	diffIDs []string     // instead of those of the layers
	asked   atomic.Int32 // how often for the layers
}

func imageOf(layers ...blob) *image { return &image{layers: layers} }

// stack is an image with one plain layer for each tar archive.
func stack(tars ...[]byte) *image {
	m := &image{}
	for _, b := range tars {
		m.layers = append(m.layers, layer(b))
	}
	return m
}

func (m *image) ConfigFile() (*v1.ConfigFile, error) {
	ids := m.diffIDs
	if ids == nil {
		for _, l := range m.layers {
			ids = append(ids, l.diffID)
		}
	}
	c := &v1.ConfigFile{}
	for _, id := range ids {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, v1.Hash{Algorithm: "sha256", Hex: id})
	}
	return c, nil
}

func (m *image) Manifest() (*v1.Manifest, error) {
	return &v1.Manifest{Layers: make([]v1.Descriptor, len(m.layers))}, nil
}

func (m *image) Layers() ([]v1.Layer, error) {
	m.asked.Add(1)
	var ls []v1.Layer
	for _, l := range m.layers {
		ls = append(ls, l)
	}
	return ls, nil
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
