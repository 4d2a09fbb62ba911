package unpack

import (
	"bufio"
	"context"
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
)

// maxStack is the number of layers beyond which an image is merged: overlayfs
// takes 500, the upper one and one of implied directories not counted.
const maxStack = 490

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

	mu       sync.Mutex
	progress Progress
}

func (s *Store) newUnpacking(img v1.Image, id identity) (*unpacking, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("find the layers of the image: %w", err)
	}
	if len(layers) != len(id.diffIDs) {
		return nil, fmt.Errorf("the image has %d layers, its config %d diff_ids", len(layers), len(id.diffIDs))
	}
	u := &unpacking{Store: s, id: id, budget: &budget{dir: s.dir, limits: s.opt.Limits}}
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
	done := map[string]bool{}
	for _, b := range blobs {
		if !done[b.diffID] {
			done[b.diffID] = true
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

// stacked puts each layer into the store by itself, then composes them.
func (u *unpacking) stacked(ctx context.Context) error {
	if err := u.each(ctx, u.layer); err != nil {
		return err
	}
	return u.compose(ctx)
}

// layer puts one layer into the store unless it is there.
func (u *unpacking) layer(ctx context.Context, b blob) error {
	if _, err := u.meta(b.diffID); err == nil {
		return nil
	}
	release, err := u.lock(ctx, b.diffID, func() { u.report(func(p *Progress) { p.Waiting = true }) })
	if err != nil {
		return err
	}
	defer release()
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
	m := meta{Version: version, DiffID: b.diffID, Entries: x.entries, Bytes: x.bytes, Opaque: x.tree.opaque}
	implied, err := x.tree.overlay(x.root, ".", false)
	if err != nil {
		return err
	}
	for _, dir := range implied {
		m.Implied = append(m.Implied, []byte(dir))
	}
	if err := x.tree.settle(x.root); err != nil {
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
	if err := s.readJSON(filepath.Join(filepath.Dir(dir), "meta.json"), 1<<30, &m); err != nil {
		return m, err
	}
	if m.Version != version || m.DiffID != diffID {
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
	s := newStream(ctx, raw, u.opt.Limits.unpacked(b.size))
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
