package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Trim says what to remove from a store. The zero value removes garbage alone.
type Trim struct {
	IDs       []string      // these images
	OlderThan time.Duration // images that were not used for so long; 0: none for that reason
	MaxSize   int64         // images not used for longest, until the store takes no more bytes; 0: none for that reason
	All       bool          // every image
	DryRun    bool          // say what would be removed

	hurried bool // do not wait for another that trims
}

// Trimmed is what was removed, or would be.
type Trimmed struct {
	Images []Stored // removed
	Kept   []Stored // would have been removed, but are in use
	Bytes  int64    // that are free now, about
}

// An orphan is a layer of an unpack that was stopped, of use to the next try. Foreign garbage is that of other machines,
// whose locks may not be seen here.
const (
	orphanAge  = 24 * time.Hour
	foreignAge = 7 * 24 * time.Hour
)

// Trim removes images from the store, those not used for longest first, and what no image needs. What a run uses stays.
// Where locks do not work, all images count as used.
func (s *Store) Trim(ctx context.Context, t Trim) (*Trimmed, error) {
	done := &Trimmed{}
	if _, err := os.Lstat(s.dir); errors.Is(err, os.ErrNotExist) {
		return done, nil
	}
	if s.foreign {
		return nil, fmt.Errorf("trim the store %s: it belongs to someone else", s.dir)
	}
	if err := s.prepareDirs(); err != nil {
		return nil, fmt.Errorf("trim the store %s: %w", s.dir, err)
	}
	if !t.DryRun {
		if err := unix.Access(filepath.Join(s.dir, "locks"), unix.W_OK); err != nil {
			return nil, fmt.Errorf("trim the store %s: %w", s.dir, err)
		}
		own, err := s.lock(ctx, "trim", func() bool { return t.hurried })
		if err != nil || own == nil {
			return done, err
		}
		defer own.Close()
	}
	v, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	before := v.total()
	left := before - v.garbage
	removed := map[string]bool{} // markers
	var locks []*os.File
	defer func() {
		for _, f := range locks {
			f.Close()
		}
	}()
	drop := func(p *part) { left -= p.bytes }
	var orphans []*part
	for _, p := range v.parts {
		if p.needed == 0 && (p.name != p.id || time.Since(p.used).Abs() > orphanAge || t.All || t.MaxSize > 0) {
			orphans = append(orphans, p)
		}
	}
	slices.SortFunc(orphans, func(a, b *part) int { return a.used.Compare(b.used) })
	loose := map[*part]bool{}
	for _, p := range orphans {
		if p.name != p.id || time.Since(p.used).Abs() > orphanAge || t.All || t.MaxSize > 0 && left > t.MaxSize {
			loose[p] = true
			drop(p)
		}
	}
	for _, img := range v.images {
		if ctx.Err() != nil {
			return done, context.Cause(ctx)
		}
		if !t.wants(img, left) {
			continue
		}
		d := s.describe(img)
		lock := s.unmark(img.Chain, t.DryRun)
		if lock == nil {
			d.InUse = true
			done.Kept = append(done.Kept, d)
			continue
		}
		locks = append(locks, lock)
		removed[img.Chain] = true
		done.Images = append(done.Images, d)
		for _, p := range img.parts {
			if p.needed--; p.needed == 0 {
				loose[p] = true
				drop(p)
			}
		}
	}
	done.Bytes = before - left
	if t.DryRun {
		return done, nil
	}
	s.removeParts(ctx, loose)
	s.sweepAll()
	s.sweepLocks()
	return done, nil
}

func (t Trim) wants(img *stored, left int64) bool {
	return t.All || slices.Contains(t.IDs, img.Chain) ||
		t.OlderThan > 0 && time.Since(img.used) > t.OlderThan ||
		t.MaxSize > 0 && left > t.MaxSize
}

// unmark removes the marker of an image that no run holds, and returns it locked; nil when one does. A dry run only
// looks.
func (s *Store) unmark(chain string, dryRun bool) *os.File {
	f, err := openForLock(s.markerFile(chain))
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !isNamed(f) || !dryRun && os.Remove(s.markerFile(chain)) != nil {
		f.Close()
		return nil
	}
	return f
}

// removeParts removes directories of the store that no image needs any more. An unpack that counts on one of them holds
// its lock from before it looks whether the layer is there until its marker is written, so that either this lock
// cannot be had or the marker is seen.
func (s *Store) removeParts(ctx context.Context, parts map[*part]bool) {
	var mine []*part
	locks := map[*part]*os.File{}
	for p := range parts {
		if f := s.seize(p.lock()); f != nil {
			locks[p] = f
			mine = append(mine, p)
			defer f.Close()
		}
	}
	markers, err := s.markers()
	if err != nil {
		return
	}
	for _, p := range mine {
		needed := false
		for _, m := range markers {
			needed = needed || m.needs(p.id) && (p.name == p.id || s.inUse(m.Chain))
		}
		if needed || ctx.Err() != nil {
			continue
		}
		w, err := s.newWork()
		if err != nil {
			return
		}
		if os.Rename(filepath.Join(s.dir, p.kind, p.name), filepath.Join(w.path, "trimmed")) == nil {
			os.Remove(filepath.Join(s.dir, "locks", p.lock()))
		}
		locks[p].Close()
		w.discard()
	}
}

// sweepAll removes all that killed processes left, of other machines what is old.
func (s *Store) sweepAll() {
	tmp := filepath.Join(s.dir, "tmp")
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(tmp, e.Name())
		if !strings.HasPrefix(e.Name(), hostname()+".") {
			if fi, err := e.Info(); err != nil || time.Since(fi.ModTime()).Abs() < foreignAge {
				continue
			}
		}
		sweepOne(path)
	}
}

// sweepLocks removes the locks on what is not there.
func (s *Store) sweepLocks() {
	entries, err := os.ReadDir(filepath.Join(s.dir, "locks"))
	if err != nil {
		return
	}
	for _, e := range entries {
		id, isImage := strings.CutPrefix(e.Name(), imageLock(""))
		names := []string{"layers/" + id}
		if isImage {
			names = []string{"merged/" + id, "roots/" + id, "roots/" + id + ".json"}
		}
		if !hexID.MatchString(id) {
			continue
		}
		there := false
		for _, name := range names {
			_, err := os.Lstat(filepath.Join(s.dir, name))
			there = there || err == nil
		}
		if there {
			continue
		}
		if f := s.seize(e.Name()); f != nil {
			os.Remove(f.Name())
			f.Close()
		}
	}
}

// maxSize is what the store is trimmed to, negative: it is not.
func (s *Store) maxSize() int64 {
	if s.opt.MaxSize == 0 {
		return DefaultMaxSize(s.dir)
	}
	return s.opt.MaxSize
}

func (s *Store) isLocal() bool { return IsLocal(s.dir) }

// IsLocal reports whether dir, or the nearest directory above it that exists, is on a file system that only this machine
// uses.
func IsLocal(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err == nil {
			return localFilesystems[int64(st.Type)]
		} else if dir == filepath.Dir(dir) {
			return false
		}
	}
}

// trimAfter trims the store after an unpack, where no other machine uses it. It is no failure when that fails.
func (s *Store) trimAfter(ctx context.Context) {
	if max := s.maxSize(); max > 0 && !s.foreign && s.isLocal() {
		_, _ = s.Trim(ctx, Trim{MaxSize: max, hurried: true})
	}
}
