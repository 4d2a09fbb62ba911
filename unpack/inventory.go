package unpack

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Stored is an image as the store lists it.
type Stored struct {
	ID     string    // chain_id in hex: what identifies an image as far as its files go
	Name   string    // what it was called when it was unpacked
	Layers int       // directories that it is made of
	Bytes  int64     // on disk, about; layers of several images count for each
	Own    int64     // what would be free without it
	Used   time.Time // the last use, to the day
	InUse  bool      // a run holds it now, or locks do not work
}

// Usage is what a store takes, in bytes.
type Usage struct {
	Total    int64 // everything below
	Images   int64 // layers and merged images that a marker names, each counted once
	Orphans  int64 // those that none names: of an unpack that was stopped
	Garbage  int64 // what killed processes left, and what was taken out while it was used
	Other    int64 // markers, locks, compiled filters
	MaxSize  int64 // what the store is trimmed to after an unpack, negative: it is not
	Shared   bool  // other machines may use the store: only a command trims it
	Free     int64 // of the file system, to the caller; -1 when unknown
	Capacity int64 // of the file system; -1 when unknown
}

// ID returns what [Stored] calls the image.
func ID(img v1.Image) (string, error) {
	id, err := identify(img)
	return id.chain, err
}

// DefaultMaxSize is a quarter of the file system that holds dir or the nearest directory above it that exists, in bytes;
// negative when it cannot be told.
func DefaultMaxSize(dir string) int64 {
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil && st.Blocks > 0 {
			return int64(st.Blocks) * st.Bsize / 4
		}
		if dir == filepath.Dir(dir) {
			return -1
		}
	}
}

// part is a directory of the store that one or several images are made of.
type part struct {
	kind, name string // layers/NAME, merged/NAME, roots/NAME
	id         string // name, without what was added when it was taken aside
	bytes      int64
	used       time.Time // when it came
	needed     int       // images that need it
}

func (p *part) lock() string {
	if p.kind == "layers" {
		return p.id
	}
	return imageLock(p.id)
}

// stored is a marker and what it takes.
type stored struct {
	marker
	used  time.Time
	parts []*part
}

func (m marker) needs(id string) bool { return m.Chain == id || slices.Contains(m.Layers, id) }

// inventory is all that lies in a store.
type inventory struct {
	images  []*stored // the one not used for longest first
	parts   []*part
	garbage int64
	other   int64
}

func (v *inventory) total() int64 {
	n := v.garbage + v.other
	for _, p := range v.parts {
		n += p.bytes
	}
	return n
}

// markers reads those that make sense.
func (s *Store) markers() (map[string]marker, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "roots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := map[string]marker{}
	for _, e := range entries {
		chain, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !hexID.MatchString(chain) {
			continue
		}
		var m marker
		if s.readJSON(s.markerFile(chain), maxMarker, &m) == nil && m.Version == version && m.Chain == chain {
			all[chain] = m
		}
	}
	return all, nil
}

// inventory looks through the store.
func (s *Store) inventory(ctx context.Context) (*inventory, error) {
	if err := s.judge(); err != nil {
		return nil, err
	}
	v := &inventory{}
	markers, err := s.markers()
	if err != nil {
		return nil, err
	}
	byID := map[string][]*part{}
	for _, kind := range []string{"layers", "merged", "roots"} {
		entries, err := os.ReadDir(filepath.Join(s.dir, kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			path := filepath.Join(s.dir, kind, e.Name())
			id, _, away := strings.Cut(e.Name(), aside)
			if !e.IsDir() || !hexID.MatchString(id) {
				v.other += diskUsage(path)
				continue
			}
			p := &part{kind: kind, name: e.Name(), id: id, bytes: s.sizeOf(path)}
			if fi, err := e.Info(); err == nil {
				p.used = fi.ModTime()
			}
			v.parts = append(v.parts, p)
			if !away {
				byID[kind+"/"+id] = append(byID[kind+"/"+id], p)
			}
		}
	}
	for chain, m := range markers {
		img := &stored{marker: m}
		if fi, err := os.Lstat(s.markerFile(chain)); err == nil {
			img.used = fi.ModTime()
		}
		need := func(key string) {
			for _, p := range byID[key] {
				p.needed++
				img.parts = append(img.parts, p)
			}
		}
		for _, id := range m.Layers {
			need("layers/" + id)
		}
		if m.Merged {
			need("merged/" + chain)
		}
		if m.Mended {
			need("roots/" + chain)
		}
		v.images = append(v.images, img)
	}
	slices.SortFunc(v.images, func(a, b *stored) int {
		if c := a.used.Compare(b.used); c != 0 {
			return c
		}
		return strings.Compare(a.Chain, b.Chain)
	})
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case "layers", "merged", "roots":
		case "tmp":
			dir := filepath.Join(s.dir, name)
			v.garbage += diskUsage(dir)
			if fi, err := e.Info(); err == nil { // the directory itself stays
				own := fi.Sys().(*syscall.Stat_t).Blocks * 512
				v.garbage, v.other = v.garbage-own, v.other+own
			}
		default:
			v.other += diskUsage(filepath.Join(s.dir, name))
		}
	}
	return v, nil
}

// sizeOf returns about what a directory of the store takes on disk. What was unpacked says so itself: its directories
// may keep their owner out.
func (s *Store) sizeOf(dir string) int64 {
	var m meta
	if s.readJSON(filepath.Join(dir, "meta.json"), maxMeta, &m) == nil && m.Version == version && m.Disk > 0 {
		return m.Disk
	}
	return diskUsage(dir)
}

// diskUsage adds up what can be seen below path.
func diskUsage(path string) int64 {
	var n int64
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if d == nil {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			n += fi.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return n
}

// List returns the images of the store, the one used last first.
func (s *Store) List(ctx context.Context) ([]Stored, error) {
	v, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	var list []Stored
	for _, img := range slices.Backward(v.images) {
		list = append(list, s.describe(img))
	}
	return list, nil
}

func (s *Store) describe(img *stored) Stored {
	d := Stored{ID: img.Chain, Name: img.Name, Layers: len(img.parts), Used: img.used, InUse: s.inUse(img.Chain)}
	for _, p := range img.parts {
		d.Bytes += p.bytes
		if p.needed == 1 {
			d.Own += p.bytes
		}
	}
	return d
}

// Usage says what the store takes and may take.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	v, err := s.inventory(ctx)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Total: v.total(), Garbage: v.garbage, Other: v.other, MaxSize: s.maxSize(), Shared: !s.isLocal(), Free: freeBytes(s.dir), Capacity: -1}
	if n := DefaultMaxSize(s.dir); n >= 0 {
		u.Capacity = n * 4
	}
	for _, p := range v.parts {
		switch {
		case p.id != p.name:
			u.Garbage += p.bytes
		case p.needed > 0:
			u.Images += p.bytes
		default:
			u.Orphans += p.bytes
		}
	}
	return u, nil
}
