package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// SaveOptions say how an image is saved. The zero value is useful.
type SaveOptions struct {
	Update   bool                           // replace the layout that is there
	NoLayers bool                           // index, manifest and config alone
	Keep     bool                           // after a failure, keep what was fetched for the next try
	Source   string                         // docker://NAME for the annotation; empty: what the image says itself
	Caches   []string                       // as in [Options]: where layers were saved is remembered there
	Have     func(d v1.Descriptor) []string // files that may hold a blob; they are verified; may be nil
	Progress func(SaveProgress)             // told how far it has come, by one goroutine at a time; may be nil
	Workers  int                            // layers fetched side by side; 0: 6
}

// SaveProgress is how far a call of [Save] has come.
type SaveProgress struct {
	Layers, Done   int            // different layers, and how many of them are there
	Total, Present int64          // their bytes, and how many of these are there
	Layer          *v1.Descriptor // one that has just been completed, else nil
	From           string         // the file that Layer was taken from; empty when it was fetched
}

// Saved is what [Save] has written.
type Saved struct {
	Digest v1.Hash // of the manifest in DIR
	ID     v1.Hash // of the config
	Tag    string  // its name in DIR
	Same   bool    // DIR held all of it already, and was left alone
}

// Save writes img as an OCI layout with one image into dir, which must not
// exist, or be empty, or with Update be an OCI layout. Config and layers are
// stored as they are; nothing is compressed or inflated. A manifest with
// Docker's media types is stored under OCI's names, and the original is kept
// beside it, as are the indexes that led to it.
//
// dir is complete when it gets its name, and on an error it is what it was
// before. A new layout is not waited for until the disk has it: after a crash of
// the machine its digests tell. One that replaces another is. What is being written lies in a hidden directory beside dir, or in dir
// where that exists and is empty. It is removed on an error, unless Keep is set; what a
// killed process left is used by the next call for the same dir.
//
// A layer is not fetched that lies in dir, in a file that Have names, or where
// it was saved before. Bytes are verified wherever they come from.
func Save(ctx context.Context, img *Image, dir string, o SaveOptions) (*Saved, error) {
	s := &saving{ctx: ctx, img: img, opt: o, cache: documentCache{o.Caches}}
	if s.opt.Workers <= 0 {
		s.opt.Workers = 6
	}
	if s.opt.Progress == nil {
		s.opt.Progress = func(SaveProgress) {}
	}
	saved, err := s.run(dir)
	if err != nil {
		return nil, fmt.Errorf("save %s: %w", dir, err)
	}
	return saved, nil
}

// saving is one call of Save.
type saving struct {
	ctx   context.Context
	img   *Image
	opt   SaveOptions
	cache documentCache
	doc   *documents
	stage *stage

	mu       sync.Mutex
	progress SaveProgress
}

func (s *saving) run(dir string) (saved *Saved, err error) {
	if s.doc, err = s.img.documents(s.ctx, s.opt.Source); err != nil {
		return nil, err
	}
	saved = &Saved{Digest: s.doc.entry.Digest, ID: s.img.manifest.Config.Digest, Tag: s.doc.entry.Annotations[refName]}
	if s.stage, err = newStage(dir, s.opt.Update); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stage.close(s.opt.Keep && err != nil)) }()
	if s.opt.Update && s.same() {
		saved.Same = true
		return saved, nil
	}
	if !s.opt.NoLayers {
		if err := s.layers(); err != nil {
			return nil, err
		}
	}
	for name, data := range s.doc.files {
		if err := s.stage.write(name, data); err != nil {
			return nil, err
		}
	}
	if err := s.stage.sweep(s.wanted); err != nil {
		return nil, err
	}
	if err := s.stage.publish(s.ctx); err != nil {
		return nil, err
	}
	for _, d := range s.doc.layers {
		if path := filepath.Join(s.stage.dir, blobName(d.Digest)); !s.opt.NoLayers {
			s.cache.keepPlace(d.Digest, path)
		}
	}
	return saved, nil
}

// wanted reports whether a path of the stage is part of the layout.
func (s *saving) wanted(name string) bool {
	_, isDocument := s.doc.files[name]
	return isDocument || !s.opt.NoLayers && slices.ContainsFunc(s.doc.layers, func(d v1.Descriptor) bool { return blobName(d.Digest) == name })
}

// same reports whether the layout that is to be replaced is what would be written.
func (s *saving) same() bool {
	for name, data := range s.doc.files {
		if !sameFile(filepath.Join(s.stage.dir, name), data) {
			return false
		}
	}
	for _, d := range s.doc.layers {
		if !s.opt.NoLayers && !s.stage.right(s.ctx, d) {
			return false
		}
	}
	return true
}

// layers brings all layers to the stage, some side by side.
func (s *saving) layers() error {
	s.report(func(p *SaveProgress) {
		p.Layers = len(s.doc.layers)
		for _, d := range s.doc.layers {
			p.Total += d.Size
		}
	})
	if err := s.room(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(s.ctx)
	g.SetLimit(s.opt.Workers)
	for _, d := range s.doc.layers {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			from, err := s.layer(ctx, d)
			if err != nil {
				return err
			}
			s.report(func(p *SaveProgress) { p.Done, p.Layer, p.From = p.Done+1, &d, from })
			return nil
		})
	}
	return g.Wait()
}

// room refuses what the disk has no room for before an hour of fetching, and sizes that nobody means.
func (s *saving) room() error {
	var st unix.Statfs_t
	if unix.Statfs(s.stage.path, &st) != nil {
		return nil
	}
	// What is there already may be linked and take no room.
	var need int64
	for _, d := range s.doc.layers {
		if !s.stage.has(d) {
			need += d.Size
		}
		if need < 0 {
			return errors.New("the sizes of the layers add up to more than there are numbers for")
		}
	}
	if free := int64(st.Bavail) * st.Bsize; need > free {
		return fmt.Errorf("its layers take %s, the disk has room for %s", humanBytes(need), humanBytes(free))
	}
	return nil
}

// layer brings one layer to the stage, and returns the file that it was taken from, empty when it was fetched.
func (s *saving) layer(ctx context.Context, d v1.Descriptor) (from string, err error) {
	at := int64(0)
	count := func(n int64) {
		s.report(func(p *SaveProgress) { p.Present += n - at })
		at = n
	}
	part, err := s.stage.part(d)
	if err != nil {
		return "", err
	}
	defer part.Close()
	if s.stage.reuse(ctx, d) {
		count(d.Size)
		return filepath.Join(s.stage.dir, blobName(d.Digest)), nil
	}
	for _, name := range s.files(d, part) {
		if err := copyFile(ctx, name, d, part, count); err == nil {
			return name, s.stage.complete(d, part)
		}
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		count(0)
	}
	if m, ok := s.img.medium.(fetcher); ok && !embedded(d) {
		err = m.fetch(ctx, d, part, count)
	} else {
		err = s.img.copyBlob(ctx, d, part, count)
	}
	if err != nil {
		return "", err
	}
	return "", s.stage.complete(d, part)
}

// files may hold a blob. Where an earlier try has left a part of it, that is gone on with.
func (s *saving) files(d v1.Descriptor, part *os.File) (names []string) {
	if fi, err := part.Stat(); err != nil || fi.Size() > 0 {
		return nil
	}
	if s.stage.replace {
		names = append(names, filepath.Join(s.stage.dir, blobName(d.Digest)))
	}
	if s.opt.Have != nil {
		names = append(names, s.opt.Have(d)...)
	}
	if place, ok := s.cache.place(d.Digest); ok {
		names = append(names, place)
	}
	return names
}

// fetcher is a medium that fetches blobs into files, going on after what they hold.
type fetcher interface {
	fetch(ctx context.Context, d v1.Descriptor, f *os.File, progress func(int64)) error
}

// copyBlob copies a blob of the image, verified.
func (i *Image) copyBlob(ctx context.Context, d v1.Descriptor, to *os.File, count func(int64)) error {
	l := &blobLayer{medium: i.medium, desc: d}
	r, err := l.Compressed()
	if err != nil {
		return err
	}
	return copyVerified(ctx, r, to, count)
}

// copyFile copies a file that may be the blob, if it is.
func copyFile(ctx context.Context, name string, d v1.Descriptor, to *os.File, count func(int64)) error {
	f, size, err := openRegular(name)
	if err != nil {
		return err
	}
	if size != d.Size {
		return errors.Join(errors.New("another size"), f.Close())
	}
	return copyVerified(ctx, newVerifier(f, d, name), to, count)
}

// copyVerified copies r, whose Close tells whether it was right.
func copyVerified(ctx context.Context, r io.ReadCloser, to *os.File, count func(int64)) (err error) {
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := to.Truncate(0); err != nil {
		return err
	}
	if _, err := to.Seek(0, io.SeekStart); err != nil {
		return err
	}
	buffer := make([]byte, 256<<10)
	for at := int64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := r.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
			at += int64(n)
			count(at)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *saving) report(change func(*SaveProgress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Layer, s.progress.From = nil, ""
	change(&s.progress)
	s.opt.Progress(s.progress)
}
