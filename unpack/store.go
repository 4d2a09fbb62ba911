package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	apex "github.com/apex/log"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Options of a store. The zero value is useful.
type Options struct {
	Owners   []int                  // uids besides the caller and root whose stores are trusted
	Overlay  func(dir string) error // tries an overlay mount of layers below dir, nil when it works; asked at most once, before something is unpacked; nil: it works
	Sync     bool                   // wait until what was unpacked is on disk, and see to what was not waited for before
	Workers  int                    // layers unpacked side by side; 0: one a CPU, at most 8
	Progress func(Progress)         // told how far the unpacking is, by one goroutine at a time
	Limits   Limits                 // what a layer may ask for
	Name     string                 // what the image is called where the store is listed
	MaxSize  int64                  // bytes that the store is trimmed to after an unpack; 0: [DefaultMaxSize]; negative: never
}

// Progress of one call of [Store.Root].
type Progress struct {
	Layers, Done int   // layers of the image, and how many of them are ready
	Total, Read  int64 // bytes of the blobs to unpack, and how many were read
	Waiting      bool  // another process is unpacking a layer that is needed
}

// Root is an image as it lies on disk. Nothing below it is ever to be written.
type Root struct {
	Layers  []string // directories in overlayfs form (mount with userxattr), lowest first; empty when Dir is set
	Dir     string   // the one directory that holds everything
	Foreign bool     // it belongs to another user or group: what the image carries cannot be written, not even on overlay
	Marker  string   // the file on which a shared flock keeps the root from being trimmed
}

// Store is a directory of unpacked layers. It may be used by many goroutines,
// and the directory by many processes.
type Store struct {
	opt     Options
	trust   trusted
	dir     string      // absolute, without symlinks
	foreign bool        // it belongs to someone else
	mode    os.FileMode // of directories made in it
	strip   os.FileMode // write bits that would let others in
	large   chan struct{}
	boot    func() string // the boot id, read once

	holding sync.Mutex
	held    []int // markers of the roots that were returned, open and locked

	trial   sync.Mutex
	tried   bool
	overlay bool // layers can be stacked, once tried
}

// Open names the store at dir, which need not exist: the first image that is
// unpacked makes it, with mode 0700. The error is an [*UntrustedError] when
// others could have written there. It silences the package-wide log of umoci,
// which would write to stderr.
func Open(dir string, o Options) (*Store, error) {
	if l, ok := apex.Log.(*apex.Logger); ok && l.Level != apex.FatalLevel {
		apex.SetLevel(apex.FatalLevel)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	o.Limits = o.Limits.Fill()
	s := &Store{
		opt:   o,
		trust: append(trusted{0, os.Geteuid()}, o.Owners...),
		mode:  0o700,
		large: make(chan struct{}, 1),
		boot:  sync.OnceValue(bootID),
	}
	s.large <- struct{}{}
	place, err := s.trust.resolve(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.dir = place.path
	if place.info == nil {
		return s, nil
	}
	s.foreign = owner(place.info) != os.Geteuid()
	s.mode |= place.info.Mode().Perm() & 0o055
	if s.mode&0o011 != 0 && !place.closed {
		s.strip = 0o022
	}
	return s, nil
}

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

// Close lets go of the roots that the store has returned. A store that is not closed holds them as long as the process lives.
func (s *Store) Close() error {
	s.holding.Lock()
	defer s.holding.Unlock()
	for _, fd := range s.held {
		unix.Close(fd)
	}
	s.held = nil
	return nil
}

// Root returns img as a root, which it unpacks unless the store holds it.
// Until [Store.Close] it is not trimmed, neither by this process nor by others.
// On an error, and when ctx is done, nothing half-done is visible and what was
// written is removed, but for the layers that were complete.
//
// A store that lacks the image and cannot be written to, or is full, gives a
// [*StoreError]; a layer that is too much a [*LimitError]; a part of the store
// that others could have written an [*UntrustedError].
func (s *Store) Root(ctx context.Context, img v1.Image) (*Root, error) {
	id, err := identify(img)
	if err != nil {
		return nil, err
	}
	root, err := s.find(id)
	if root != nil {
		s.settle(root)
	}
	if root != nil || err != nil {
		return root, err
	}
	if err := s.prepare(); err != nil {
		return nil, s.refused(err)
	}
	u, err := s.newUnpacking(img, id)
	if err != nil {
		return nil, err
	}
	defer u.release()
	// What others trim or repair meanwhile is unpacked once more.
	for range 20 {
		if err := u.run(ctx); isFull(err) {
			return nil, &StoreError{Dir: s.dir, Need: u.need(), Free: freeBytes(s.dir), Err: err}
		} else if err != nil && !errors.Is(err, errGone) {
			return nil, err
		}
		if root, err = s.find(id); err != nil {
			return nil, err
		}
		if root != nil {
			s.settle(root)
			s.trimAfter(ctx)
			return root, nil
		}
	}
	return nil, fmt.Errorf("the store %s was changed again and again while the image was unpacked", s.dir)
}

// find returns the root when the store has it.
func (s *Store) find(id identity) (*Root, error) {
	if err := s.judge(); err != nil {
		return nil, err
	}
	root, err := s.marked(id)
	if errors.Is(err, os.ErrPermission) {
		return nil, nil // someone else's, and not for us
	}
	return root, err
}

// judge looks at the directories of the store that exist.
func (s *Store) judge() error {
	for _, kind := range []string{"", "roots", "layers", "merged"} {
		_, err := s.trust.check(filepath.Join(s.dir, kind))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// prepare makes what is missing of the store and removes what killed processes left.
func (s *Store) prepare() error {
	if err := s.prepareDirs(); err != nil {
		return err
	}
	s.sweep()
	return s.try()
}

// prepareDirs makes what is missing of the store.
func (s *Store) prepareDirs() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	switch place, err := s.trust.resolve(s.dir); {
	case err != nil:
		return err
	case place.path != s.dir:
		return &UntrustedError{s.dir, "became a symlink"}
	}
	for kind, mode := range map[string]os.FileMode{
		"layers": s.mode, "roots": s.mode, "merged": s.mode, "tmp": 0o700, "locks": 0o700,
	} {
		switch err := os.Mkdir(filepath.Join(s.dir, kind), 0o700); {
		case errors.Is(err, os.ErrExist):
		case err != nil:
			return err
		default: // whatever the umask
			if err := os.Chmod(filepath.Join(s.dir, kind), mode); err != nil {
				return err
			}
		}
	}
	return s.judge()
}

// try finds out whether the store can be written to and layers be stacked.
func (s *Store) try() error {
	s.trial.Lock()
	defer s.trial.Unlock()
	w, err := s.newWork()
	if err != nil {
		return err
	}
	defer w.discard()
	if s.tried {
		return nil
	}
	// What overlayfs needs of the file system under its layers.
	err = unix.Setxattr(w.fs(), opaqueXattr, []byte("y"), 0)
	if err == nil {
		err = unix.Mknod(filepath.Join(w.fs(), "whiteout"), unix.S_IFCHR, 0)
	}
	if isFull(err) {
		return err
	}
	s.overlay = err == nil && (s.opt.Overlay == nil || s.opt.Overlay(w.path) == nil)
	s.tried = true
	return nil
}

// refused says why nothing can be put into the store.
func (s *Store) refused(err error) error {
	var untrusted *UntrustedError
	if errors.As(err, &untrusted) {
		return err
	}
	return &StoreError{Dir: s.dir, Free: freeBytes(s.dir), Err: err}
}
