package unpack

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// maxStack is the number of layers beyond which an image is merged: overlayfs
// takes 500, the upper one and one of implied directories not counted.
const maxStack = 490

// maxMeta is more than the names of all directories that fit into Limits.Memory take in JSON, in bytes.
const maxMeta = 1 << 30

// blob is a layer of the image on its way into the store.
type blob struct {
	v1.Layer
	diffID string
	size   int64
}

func (b blob) String() string {
	if d, err := b.Digest(); err == nil {
		return d.String()
	}
	return "sha256:" + b.diffID
}

// unpacking is one call of Root that has something to do.
type unpacking struct {
	*Store
	id     identity
	blobs  []blob // as in the image
	budget *budget

	sharing sync.Mutex
	shared  map[string]*os.File // locks on the layers that are in place, so that they stay until the marker is written

	mu       sync.Mutex
	progress Progress
}

func (s *Store) newUnpacking(img v1.Image, id identity) (*unpacking, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("find the layers of the image: %w", err)
	}
	if most := s.opt.Limits.Layers; int64(len(layers)) > most {
		return nil, &LimitError{"layers", "layers", most}
	}
	if len(layers) != len(id.diffIDs) {
		return nil, fmt.Errorf("the image has %d layers, its config %d diff_ids", len(layers), len(id.diffIDs))
	}
	u := &unpacking{Store: s, id: id, budget: &budget{dir: s.dir, limits: s.opt.Limits}, shared: map[string]*os.File{}}
	for i, l := range layers {
		size, err := l.Size()
		if err != nil {
			return nil, fmt.Errorf("size of layer %d: %w", i+1, err)
		}
		u.blobs = append(u.blobs, blob{l, id.diffIDs[i], size})
	}
	return u, nil
}

// need is the least that the image takes: its blobs hardly grow smaller.
func (u *unpacking) need() int64 {
	var n int64
	for _, b := range u.blobs {
		n += b.size
	}
	return max(n, u.budget.written.Load())
}

func (u *unpacking) report(change func(*Progress)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(&u.progress)
	if u.opt.Progress != nil {
		u.opt.Progress(u.progress)
	}
}

// run leaves the image in the store, marker included.
func (u *unpacking) run(ctx context.Context) error {
	if u.overlay && len(u.blobs) > 0 && len(u.id.stack(0)) <= maxStack {
		err := u.stacked(ctx)
		if !errors.Is(err, errMerge) {
			return err
		}
	}
	return u.merged(ctx)
}

// each calls do for every layer once, the largest first, some side by side.
func (u *unpacking) each(ctx context.Context, do func(context.Context, blob) error) error {
	blobs := slices.Clone(u.blobs)
	slices.SortStableFunc(blobs, func(a, b blob) int { return int(min(max(b.size-a.size, -1), 1)) })
	u.report(func(p *Progress) { *p = Progress{Layers: len(blobs)} })
	workers := u.opt.Workers
	if workers <= 0 {
		workers = min(runtime.GOMAXPROCS(0), 8)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	done := map[string]blob{}
	for _, b := range blobs {
		if twin, ok := done[b.diffID]; ok && twin.String() != b.String() {
			g.Go(func() error { return u.judge(ctx, b) })
		} else if !ok {
			done[b.diffID] = b
			g.Go(func() error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := do(ctx, b); err != nil {
					return fmt.Errorf("unpack layer %s: %w", b, err)
				}
				u.report(func(p *Progress) { p.Done++ })
				return nil
			})
		}
	}
	return g.Wait()
}

// judge compares a blob with its diff_id, where another blob is unpacked for that.
func (u *unpacking) judge(ctx context.Context, b blob) error {
	r, err := b.Uncompressed()
	if err != nil {
		return fmt.Errorf("read layer %s: %w", b, err)
	}
	defer r.Close()
	most := u.opt.Limits.grown(u.opt.Limits.Inflate, b.size)
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(&blobReader{ctx, r, func(int) {}}, most+1))
	switch got := hex.EncodeToString(h.Sum(nil)); {
	case err != nil:
		return fmt.Errorf("read layer %s: %w", b, err)
	case n > most:
		return fmt.Errorf("read layer %s: %w", b, &LimitError{"inflate", "bytes", most})
	case got != b.diffID:
		return fmt.Errorf("layer %s: its content is sha256:%s, the image config says sha256:%s", b, got, b.diffID)
	}
	return nil
}

// stacked puts each layer into the store by itself, then composes them.
func (u *unpacking) stacked(ctx context.Context) error {
	if err := u.each(ctx, u.layer); err != nil {
		return err
	}
	return u.compose(ctx)
}

// release lets go of the layers.
func (u *unpacking) release() {
	u.sharing.Lock()
	defer u.sharing.Unlock()
	for _, f := range u.shared {
		f.Close()
	}
	clear(u.shared)
}

// share keeps a layer from being trimmed until release. It reports whether nobody has the layer's lock alone.
func (u *unpacking) share(diffID string) bool {
	u.sharing.Lock()
	defer u.sharing.Unlock()
	if u.shared[diffID] == nil {
		f := u.Store.share(diffID)
		if f == nil {
			return false
		}
		u.shared[diffID] = f
	}
	return true
}

// turn makes the lock on a layer a shared one. Between the two the layer may be trimmed: compose finds out.
func (u *unpacking) turn(lock *os.File, diffID string) {
	u.sharing.Lock()
	defer u.sharing.Unlock()
	if lock == nil || u.shared[diffID] != nil || unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
		lock.Close()
		return
	}
	u.shared[diffID] = lock
}

// sharesLayer reports whether a layer is in place and will stay.
func (u *unpacking) sharesLayer(diffID string) bool {
	if !u.share(diffID) {
		return false
	}
	if _, err := u.meta(diffID); err == nil {
		return true
	}
	u.sharing.Lock()
	defer u.sharing.Unlock()
	u.shared[diffID].Close()
	delete(u.shared, diffID)
	return false
}

// layer puts one layer into the store unless it is there.
func (u *unpacking) layer(ctx context.Context, b blob) error {
	if u.sharesLayer(b.diffID) {
		return nil
	}
	ready := false
	lock, err := u.lock(ctx, b.diffID, func() bool {
		u.report(func(p *Progress) { p.Waiting = true })
		ready = u.sharesLayer(b.diffID)
		return ready
	})
	if err != nil || ready {
		return err
	}
	defer u.turn(lock, b.diffID)
	u.report(func(p *Progress) { p.Waiting = false })
	switch _, err := u.meta(b.diffID); {
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := u.retire("layers", b.diffID); err != nil {
		return err
	}
	w, err := u.newWork()
	if err != nil {
		return err
	}
	defer w.discard()
	x, err := u.extract(ctx, b, w.fs())
	if err != nil {
		return err
	}
	if len(x.links) > 0 {
		return errMerge
	}
	m := meta{Version: version, DiffID: b.diffID, Entries: x.entries, Bytes: x.bytes, Disk: x.disk(), Opaque: x.tree.opaque}
	if err := x.tree.overlay(x.root, ".", false, &m); err != nil {
		return err
	}
	if err := x.tree.settle(x.root); err != nil {
		return err
	}
	if m.Time, err = timeOf(x.root); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(w.path, "meta.json"), m, u.mode&0o644, u.defers() == ""); err != nil {
		return err
	}
	return w.publish("layers", b.diffID)
}

// meta reads what the store says of a layer; os.ErrNotExist when it has none
// that can be used.
func (s *Store) meta(diffID string) (meta, error) {
	var m meta
	dir, err := s.part("layers", diffID)
	if err != nil {
		return m, err
	}
	if dir == "" {
		return m, os.ErrNotExist
	}
	if err := s.readJSON(filepath.Join(filepath.Dir(dir), "meta.json"), maxMeta, &m); err != nil {
		return m, err
	}
	if time, err := timeOf(dir); err != nil || time != m.Time || m.Version != version || m.DiffID != diffID {
		return m, os.ErrNotExist
	}
	return m, nil
}

// extract unpacks one blob below root and verifies its digest and diff_id.
func (u *unpacking) extract(ctx context.Context, b blob, root string) (x *extraction, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		// A fault of a decoder must not take the caller along.
		if p := recover(); p != nil {
			x, err = nil, fmt.Errorf("internal error: %v", p)
		}
	}()
	if free := freeBytes(u.dir); free >= 0 && b.size > free {
		return nil, unix.ENOSPC // what is unpacked is hardly smaller
	}
	r, err := b.Compressed()
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	defer r.Close()
	u.report(func(p *Progress) { p.Total += b.size })
	compressed := bufio.NewReaderSize(&blobReader{ctx, r, func(n int) {
		u.report(func(p *Progress) { p.Read += int64(n) })
	}}, 256<<10)
	raw, free, err := decompress(compressed, u.large)
	if err != nil {
		return nil, damage(compressed, fmt.Errorf("decompress: %w", err))
	}
	s := newStream(ctx, raw, u.opt.Limits.grown(u.opt.Limits.Inflate, b.size))
	// Nothing is freed under the goroutine that inflates.
	defer func() { cancel(); s.drain(); free() }()
	x, err = extract(ctx, s, root, u.budget, b.size, u.strip)
	if err != nil {
		var format *formatError
		if errors.As(err, &format) {
			s.drain()
			err = damage(compressed, err)
		}
		return nil, err
	}
	// Padding of the blob counts for its digest, which its reader verifies
	// when it comes to the end.
	if _, err := io.Copy(io.Discard, compressed); err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("close blob: %w", err)
	}
	if got := s.diffID(); got != b.diffID {
		return nil, fmt.Errorf("its content is sha256:%s, the image config says sha256:%s", got, b.diffID)
	}
	return x, nil
}

// damage returns what the reader of the blob says at its end when it finds the
// blob damaged, as that is why the content makes no sense; else err.
func damage(r io.Reader, err error) error {
	if _, verr := io.Copy(io.Discard, r); verr != nil {
		return fmt.Errorf("read blob: %w", verr)
	}
	return err
}
