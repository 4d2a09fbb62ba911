package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// stageName is in the names of what is being written, and of what was replaced.
const stageName = ".dlrun-save"

// layoutFiles are what a saved layout has. Nothing else is ever replaced.
var layoutFiles = []string{".gitattributes", "blobs", "index.json", "oci-layout"}

// stage is a layout that is being written.
type stage struct {
	dir     string   // its place, absolute, without symlinks as far as it exists
	path    string   // where it lies as yet
	inside  bool     // that is in dir, which existed and was empty
	replace bool     // dir holds a layout
	made    []string // directories above dir that were made for it, the lowest first
	held    *os.File
	done    bool
}

// newStage looks at dir, and makes or takes over the place to write to.
func newStage(dir string, update bool) (*stage, error) {
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	if err := rescue(dir); err != nil {
		return nil, err
	}
	s := &stage{dir: dir, path: filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+stageName)}
	names, err := namesIn(dir)
	names = slices.DeleteFunc(names, func(n string) bool { return n == stageName })
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.makeParents(); err != nil {
			return nil, errors.Join(err, s.removeParents())
		}
	case err != nil:
		return nil, err
	case len(names) == 0:
		s.inside, s.path = true, filepath.Join(dir, stageName)
	case !update:
		return nil, &hinted{fmt.Errorf("the directory is not empty"), "--update replaces the image that it holds"}
	default:
		if err := isLayout(dir, names); err != nil {
			return nil, err
		}
		s.replace = true
	}
	if err := s.take(); err != nil {
		return nil, errors.Join(err, s.removeParents())
	}
	return s, nil
}

// makeParents makes the directories above dir, and remembers which.
func (s *stage) makeParents() error {
	var missing []string
	for dir := filepath.Dir(s.dir); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, dir)
	}
	for _, dir := range slices.Backward(missing) {
		if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		s.made = slices.Insert(s.made, 0, dir)
	}
	return nil
}

// removeParents removes what makeParents has made, as far as it is empty.
func (s *stage) removeParents() error {
	for _, dir := range s.made {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
				return nil // somebody else uses it by now
			}
			return err
		}
	}
	return nil
}

// resolve follows the symlinks of dir, whose last part need not exist.
func resolve(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	if _, err := os.Lstat(dir); err == nil {
		return "", fmt.Errorf("it is a symlink that leads nowhere")
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		return filepath.Join(real, filepath.Base(dir)), nil
	}
	return dir, nil
}

func namesIn(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// isLayout refuses to replace what is more than a layout, or none.
func isLayout(dir string, names []string) error {
	for _, n := range names {
		if !slices.Contains(layoutFiles, n) {
			return fmt.Errorf("it holds %s, which is no part of an OCI layout, and so is not replaced", n)
		}
	}
	if !slices.Contains(names, "index.json") {
		return fmt.Errorf("it is not an OCI layout, and so is not replaced: it has no index.json")
	}
	return nil
}

// take makes the directory, or takes over what a killed process left there.
func (s *stage) take() error {
	for _, dir := range []string{s.path, s.path + "/blobs", s.path + "/blobs/sha256"} {
		if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		fi, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		if !fi.IsDir() || int(fi.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			return fmt.Errorf("%s is not a directory of the caller's", dir)
		}
	}
	held, err := os.Open(s.path)
	if err != nil {
		return err
	}
	// Where the file system has no locks, two at once disturb each other; neither gets wrong bytes.
	if err := unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		held.Close()
		return errors.New("another dlrun is writing it")
	}
	s.held = held
	return nil
}

// close ends the work. What is on the stage goes, unless it is to be kept or has been published.
func (s *stage) close(keep bool) error {
	defer s.held.Close()
	if keep && !s.done {
		return nil
	}
	err := os.RemoveAll(s.path)
	if errors.Is(err, fs.ErrPermission) {
		// Directories of an annex are read-only.
		filepath.WalkDir(s.path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
		err = os.RemoveAll(s.path)
	}
	if !s.done {
		err = errors.Join(err, s.removeParents())
	}
	return err
}

// write puts a small file on the stage.
func (s *stage) write(name string, data []byte) error {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if s.replace && err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// create makes a file that everyone can read, whatever the umask: a layer that was annexed from a file of mode 0600
// is for ever closed to the group.
func (s *stage) create(name string) (*os.File, error) {
	path := filepath.Join(s.path, name)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return f, f.Chmod(0o644)
}

func partName(d v1.Descriptor) string { return blobName(d.Digest) + ".part" }

// part opens the file that a blob grows in, with what an earlier try left of it.
func (s *stage) part(d v1.Descriptor) (*os.File, error) {
	for _, name := range []string{partName(d), blobName(d.Digest)} {
		path := filepath.Join(s.path, name)
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		fi, err := f.Stat()
		if err == nil && fi.Mode().IsRegular() && fi.Sys().(*syscall.Stat_t).Nlink == 1 && f.Chmod(0o644) == nil &&
			(name == partName(d) || os.Rename(path, filepath.Join(s.path, partName(d))) == nil) {
			return f, nil
		}
		f.Close()
	}
	return s.create(partName(d))
}

// has reports whether the layout that is to be replaced seems to have a blob.
func (s *stage) has(d v1.Descriptor) bool {
	return s.replace && (ociForm{directory(s.dir)}).check(d) == nil
}

// right reports whether the layout that is to be replaced has a blob, to the byte.
func (s *stage) right(ctx context.Context, d v1.Descriptor) bool {
	if !s.replace || ctx.Err() != nil {
		return false
	}
	r, err := (ociForm{directory(s.dir)}).open(d)
	if err != nil {
		return false
	}
	v := newVerifier(r, d, s.dir)
	_, err = io.Copy(io.Discard, v)
	return errors.Join(err, v.Close()) == nil
}

// reuse takes a blob over from the layout that is to be replaced: the same symlink into the annex, or the same file.
func (s *stage) reuse(ctx context.Context, d v1.Descriptor) bool {
	if !s.right(ctx, d) {
		return false
	}
	old, now := filepath.Join(s.dir, blobName(d.Digest)), filepath.Join(s.path, blobName(d.Digest))
	fi, err := os.Lstat(old)
	if err != nil {
		return false
	}
	os.Remove(now)
	if fi.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(old)
		// Both layouts lie in one directory, so that a relative link leads to the same object.
		return err == nil && os.Symlink(target, now) == nil && os.Remove(filepath.Join(s.path, partName(d))) == nil
	}
	return fi.Mode().Perm() == 0o644 && os.Link(old, now) == nil && os.Remove(filepath.Join(s.path, partName(d))) == nil
}

// complete gives a blob that was verified its name.
func (s *stage) complete(d v1.Descriptor, part *os.File) error {
	if s.replace {
		// The old layout goes when the new one is in its place.
		if err := part.Sync(); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(s.path, partName(d)), filepath.Join(s.path, blobName(d.Digest)))
}

// sweep removes what is no part of the layout: blobs of other images, from an earlier try.
func (s *stage) sweep(wanted func(name string) bool) error {
	return filepath.WalkDir(s.path, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(s.path, path)
		if err != nil || name == "." || name == "blobs" || name == "blobs/sha256" || wanted(name) {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if e.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// publish puts the layout in its place.
func (s *stage) publish(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch {
	case s.inside:
		// index.json comes last: it is what makes the directory an image.
		for _, name := range []string{".gitattributes", "oci-layout", "blobs", "index.json"} {
			if err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(s.path, name), unix.AT_FDCWD, filepath.Join(s.dir, name), unix.RENAME_NOREPLACE); err != nil {
				if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
					return fmt.Errorf("put %s in its place: %w", name, err)
				}
				if err := os.Rename(filepath.Join(s.path, name), filepath.Join(s.dir, name)); err != nil {
					return err
				}
			}
		}
	case s.replace:
		if err := s.exchange(); err != nil {
			return err
		}
	default:
		// A directory that has come into being meanwhile is replaced only if it is empty.
		if err := os.Rename(s.path, s.dir); err != nil {
			return err
		}
	}
	s.done = true
	return nil
}

// exchange puts the new layout in the place of the old one, which comes to lie on the stage.
func (s *stage) exchange() error {
	for _, dir := range []string{s.path + "/blobs/sha256", s.path + "/blobs", s.path} {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	err := unix.Renameat2(unix.AT_FDCWD, s.path, unix.AT_FDCWD, s.dir, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = s.moveAside()
	}
	if err != nil {
		return fmt.Errorf("put it in the place of the old one: %w", err)
	}
	return syncDir(filepath.Dir(s.dir))
}

// moveAside exchanges the two where the file system cannot (NFS, Lustre): the old layout makes room first. When this
// process dies between the two renames, rescue puts it back.
func (s *stage) moveAside() error {
	old := oldName(s.dir)
	if err := os.Rename(s.dir, old); err != nil {
		return err
	}
	if err := os.Rename(s.path, s.dir); err != nil {
		return errors.Join(err, os.Rename(old, s.dir))
	}
	return os.Rename(old, s.path)
}

func oldName(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+stageName+"-old")
}

// rescue puts a layout back that a process which was killed had moved away, or removes it where the new one is there.
func rescue(dir string) error {
	old := oldName(dir)
	if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(old, dir)
	}
	return os.RemoveAll(old)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// sameFile reports whether a file has this content.
func sameFile(name string, data []byte) bool {
	f, size, err := openRegular(name)
	if err != nil {
		return false
	}
	defer f.Close()
	if size != int64(len(data)) {
		return false
	}
	raw, err := io.ReadAll(io.LimitReader(f, size+1))
	return err == nil && string(raw) == string(data)
}
