package unpack

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// version of what lies in the store. Another one is unpacked anew.
const version = 2

// marker says in which form an image lies in the store. Its time is that of the last use, to the day.
type marker struct {
	Version int
	Chain   string   // its own name: tells a truncated or a copied marker
	Merged  bool     // merged/<chain>, not layers
	From    int      // layers below this one are hidden by it as a whole
	Mended  bool     // roots/<chain> holds implied directories
	Times   []int64  // of the fs/ of each part, in nanoseconds: another one tells that something was removed there
	Layers  []string // diff_ids, for trimming: a root goes by those of the image
	Name    string   // what the image was called when it was unpacked
}

// meta describes a layer.
type meta struct {
	Version int
	DiffID  string
	Entries int64
	Bytes   int64    // of regular files, holes included
	Disk    int64    // bytes on disk, about
	Time    int64    // of fs/, in nanoseconds
	Implied [][]byte // directories without an entry; names need not be UTF-8
	Hiding  [][]byte // directories that hold whiteouts
	Opaque  bool     // the root directory is opaque
}

// identity of an image, as far as its files go.
type identity struct {
	chain   string   // hex
	diffIDs []string // hex, lowest layer first
}

var hexID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// identify reads manifest and config of img, not its layers.
func identify(img v1.Image) (identity, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return identity{}, fmt.Errorf("read image config: %w", err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return identity{}, fmt.Errorf("read image manifest: %w", err)
	}
	if config == nil || manifest == nil {
		return identity{}, errors.New("the image has no config or no manifest")
	}
	diffIDs := config.RootFS.DiffIDs
	if len(diffIDs) != len(manifest.Layers) {
		return identity{}, fmt.Errorf("the image manifest has %d layers, its config %d diff_ids", len(manifest.Layers), len(diffIDs))
	}
	var id identity
	chain := ""
	for i, d := range diffIDs {
		if d.Algorithm != "sha256" || !hexID.MatchString(d.Hex) {
			return identity{}, fmt.Errorf("diff_id %d of the image config is %q, not a sha256", i, d)
		}
		id.diffIDs = append(id.diffIDs, d.Hex)
		if i == 0 {
			chain = d.String()
			id.chain = d.Hex
			continue
		}
		sum := sha256.Sum256([]byte(chain + " " + d.String()))
		id.chain = hex.EncodeToString(sum[:])
		chain = "sha256:" + id.chain
	}
	if len(diffIDs) == 0 {
		sum := sha256.Sum256(nil)
		id.chain = hex.EncodeToString(sum[:])
	}
	return id, nil
}

// stack returns the layers to be stacked from layer from on, each once:
// overlayfs refuses a directory given twice, and what a layer does is not
// changed by its having been there before, further down.
func (id identity) stack(from int) []string {
	var layers []string
	for i, d := range id.diffIDs[from:] {
		again := false
		for _, later := range id.diffIDs[from+i+1:] {
			again = again || later == d
		}
		if !again {
			layers = append(layers, d)
		}
	}
	return layers
}

// readJSON reads a small file that others cannot have written. What is no such
// file, or not v, is reported as not existing.
func (s *Store) readJSON(path string, max int64, v any) error {
	f, err := openPlain(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.decode(f, max, v)
}

// openPlain opens a file of the store without following a symlink or waiting for anything.
func openPlain(path string) (*os.File, error) {
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, os.ErrNotExist
	}
	return f, err
}

// decode is readJSON of an open file.
func (s *Store) decode(f *os.File, max int64, v any) error {
	path := f.Name()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() > max {
		return os.ErrNotExist
	}
	if err := s.trust.judge(path, fi, false); err != nil {
		return err
	}
	b := make([]byte, fi.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return os.ErrNotExist
	}
	if json.Unmarshal(b, v) != nil {
		return os.ErrNotExist
	}
	return nil
}

// marked returns the root whose marker and parts are in place, or nil. The marker is held before the parts are looked at.
func (s *Store) marked(id identity) (*Root, error) {
	f, m, err := s.holdMarker(id.chain)
	if f == nil {
		return nil, err
	}
	root, err := s.partsOf(id, m)
	if root == nil {
		f.Close()
		return nil, err
	}
	root.Marker = f.Name()
	touch(f)
	return root, s.keep(f)
}

// partsOf returns the root that m speaks of when its parts are in place, or nil.
func (s *Store) partsOf(id identity, m marker) (root *Root, err error) {
	if m.Version != version || m.Chain != id.chain || m.From < 0 || m.From > len(id.diffIDs) || !m.Merged && m.From == len(id.diffIDs) {
		return nil, nil
	}
	root = &Root{Foreign: s.foreign}
	part := func(kind, id string) (string, error) {
		if len(m.Times) == 0 {
			return "", nil
		}
		time := m.Times[0]
		m.Times = m.Times[1:]
		return s.partOf(kind, id, time)
	}
	if m.Merged {
		root.Dir, err = part("merged", id.chain)
		if root.Dir == "" {
			return nil, err
		}
		root.Foreign = root.Foreign || otherGroup(root.Dir)
		return root, nil
	}
	for _, d := range id.stack(m.From) {
		dir, err := part("layers", d)
		if dir == "" {
			return nil, err
		}
		root.Layers = append(root.Layers, dir)
	}
	if m.Mended {
		dir, err := part("roots", id.chain)
		if dir == "" {
			return nil, err
		}
		root.Layers = append(root.Layers, dir)
	}
	root.Foreign = root.Foreign || slices.ContainsFunc(root.Layers, otherGroup)
	return root, nil
}

// otherGroup reports whether dir was unpacked while the caller had another effective group. A run maps one group,
// and overlay changes nothing of any other.
func otherGroup(dir string) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && int(st.Gid) != os.Getegid()
}

// part returns the fs/ of a directory of the store, "" when it is not there.
func (s *Store) part(kind, id string) (string, error) { return s.partOf(kind, id, anyTime) }

// anyTime stands for no expectation.
const anyTime = -1 << 63

// partOf is part of what has kept its time.
func (s *Store) partOf(kind, id string, time int64) (string, error) {
	path := filepath.Join(s.dir, kind, id)
	fi, err := s.trust.check(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !fi.IsDir() || s.isLost(path) {
		return "", nil
	}
	path = filepath.Join(path, "fs")
	if fi, err := os.Lstat(path); err != nil || !fi.IsDir() || time != anyTime && fi.ModTime().UnixNano() != time {
		return "", nil
	}
	return path, nil
}

// timeOf returns the time of an fs/ as it lies on disk.
func timeOf(fs string) (int64, error) {
	fi, err := os.Lstat(fs)
	if err != nil {
		return 0, err
	}
	return fi.ModTime().UnixNano(), nil
}

// mark writes the marker, after which the image is in the store. One that says the same stays: runs may hold it.
func (s *Store) mark(m marker) error {
	m.Version, m.Name = version, s.opt.Name
	var old marker
	if s.readJSON(s.markerFile(m.Chain), maxMarker, &old) == nil {
		m.Name = old.Name
		if reflect.DeepEqual(old, m) {
			return nil
		}
	}
	w, err := s.newWork()
	if err != nil {
		return err
	}
	defer w.discard()
	pending := filepath.Join(w.path, "marker")
	durable := s.defers() == ""
	if err := writeJSON(pending, m, s.mode&0o644, durable); err != nil {
		return err
	}
	// Held before others can see it, it is not trimmed before the caller has the root.
	f, err := openPlain(pending)
	if err != nil {
		return err
	}
	_ = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if err := s.keep(f); err != nil {
		return err
	}
	roots := filepath.Join(s.dir, "roots")
	err = os.Rename(pending, s.markerFile(m.Chain))
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EISDIR) { // a directory is in the way
		if err := s.retire("roots", m.Chain+".json"); err != nil {
			return err
		}
		err = os.Rename(pending, s.markerFile(m.Chain))
	}
	if err != nil {
		return err
	}
	if !durable {
		return nil // what it names says so; torn or lost, it is no marker
	}
	return syncDir(roots)
}

// writeJSON makes a new file with mode and, durable, waits until it is on disk.
func writeJSON(path string, v any, mode os.FileMode, durable bool) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil || !durable {
		return err
	}
	return f.Sync()
}
