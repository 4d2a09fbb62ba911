package unpack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// work is a private directory below tmp/, held by a lock on the directory itself
// until it is published or discarded.
type work struct {
	store *Store
	path  string
	dir   *os.File
}

// fs is where a root is unpacked.
func (w *work) fs() string { return filepath.Join(w.path, "fs") }

// newWork makes a directory to work in, with an empty fs/.
func (s *Store) newWork() (*work, error) {
	for {
		path := filepath.Join(s.dir, "tmp", fmt.Sprintf("%s.%d.%s", hostname(), os.Getpid(), strings.ToLower(rand.Text())))
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, err
		}
		dir, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // swept between the two calls
		}
		if err != nil {
			return nil, err
		}
		// Where flock is not to be had the directory is never swept.
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == unix.EWOULDBLOCK {
			dir.Close()
			continue
		}
		w := &work{store: s, path: path, dir: dir}
		if err := os.Mkdir(w.fs(), 0o700); errors.Is(err, os.ErrNotExist) {
			dir.Close()
			continue
		} else if err != nil {
			w.discard()
			return nil, err
		}
		return w, nil
	}
}

// discard removes what was not published.
func (w *work) discard() {
	if w.path != "" {
		removeAll(w.path) // what cannot be removed now, sweep tries again
		w.path = ""
	}
	w.dir.Close()
}

// publish gives the directory its name in the store, unless that is taken by the
// same content. Either all of it is on disk before the name is, or it says that it
// is not: after a crash a name that stands alone stands for a whole directory.
func (w *work) publish(kind, id string) error {
	boot := w.store.defers()
	if boot != "" {
		if err := os.WriteFile(filepath.Join(w.path, unsynced), []byte(boot+"\n"), w.store.mode&0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(w.path, w.store.mode); err != nil {
		return err
	}
	if boot == "" {
		if err := unix.Syncfs(int(w.dir.Fd())); err != nil {
			return fmt.Errorf("write out: %w", err)
		}
	}
	parent := filepath.Join(w.store.dir, kind)
	switch err := os.Rename(w.path, filepath.Join(parent, id)); {
	case err == nil:
		w.path = ""
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return nil // someone else was faster
	default:
		return err
	}
	if boot != "" {
		return nil
	}
	return syncDir(parent)
}

// aside stands in the name of a directory that was taken out of the store while a run used it.
const aside = ".aside."

// retire takes a directory out of the store. Where a run uses it, it is only renamed, for trim to remove.
func (s *Store) retire(kind, id string) error {
	from := filepath.Join(s.dir, kind, id)
	if _, err := os.Lstat(from); err != nil {
		return nil
	}
	if hexID.MatchString(id) && s.partInUse(id) {
		return os.Rename(from, from+aside+strings.ToLower(rand.Text()))
	}
	w, err := s.newWork()
	if err != nil {
		return err
	}
	defer w.discard()
	if err := os.Rename(from, filepath.Join(w.path, "broken")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// sweep removes what killed processes left. It looks at this host's directories
// only, as a lock held on another node need not be seen here, and at a few at a
// time, as it delays a run.
func (s *Store) sweep() {
	tmp := filepath.Join(s.dir, "tmp")
	dir, err := os.Open(tmp)
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(1024)
	swept := 0
	for _, name := range names {
		if !strings.HasPrefix(name, hostname()+".") {
			continue
		}
		if sweepOne(filepath.Join(tmp, name)) {
			swept++
		}
		if swept == 16 {
			return
		}
	}
}

// sweepOne removes a directory that nobody holds.
func sweepOne(path string) bool {
	d, err := os.OpenFile(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer d.Close()
	return unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && removeAll(path) == nil
}

// hostname returns the name of this node as it may stand in a file name.
func hostname() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	return strings.ReplaceAll(name, "/", "_")
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
