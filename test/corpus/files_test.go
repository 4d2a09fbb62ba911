package corpus

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// embed puts the blob of a descriptor into it, and removes it from the layout.
func embed(descriptor object, l *layout) {
	file := blobFile(l.dir, descriptor["digest"].(string)[len("sha256:"):])
	b, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	descriptor["data"] = base64.StdEncoding.EncodeToString(b)
	if err := os.Remove(file); err != nil {
		panic(err)
	}
}

func removeFile(name string) error { return os.Remove(name) }

// linked moves every file of a layout away and leaves a symlink in its place, as git-annex does.
func linked(dir string) error {
	objects := filepath.Join(dir, ".objects")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		return err
	}
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil {
		return err
	}
	for _, f := range append(blobs, filepath.Join(dir, "index.json"), filepath.Join(dir, "oci-layout")) {
		fresh, err := os.MkdirTemp(objects, "")
		if err != nil {
			return err
		}
		if err := os.Chmod(fresh, 0o755); err != nil {
			return err
		}
		to := filepath.Join(fresh, filepath.Base(f))
		rel, err := filepath.Rel(filepath.Dir(f), to)
		if err != nil {
			return err
		}
		if fi, err := os.Lstat(f); err != nil {
			return err
		} else if fi.Mode()&os.ModeSymlink != 0 { // a relative target would not survive the move
			target, err := filepath.EvalSymlinks(f)
			if err != nil {
				return err
			}
			if err := errors.Join(os.Remove(f), os.Symlink(target, to), os.Symlink(rel, f)); err != nil {
				return err
			}
			continue
		}
		if err := errors.Join(os.Rename(f, to), os.Symlink(rel, f)); err != nil {
			return err
		}
	}
	return nil
}

func asFifo(file string) error { return syscall.Mkfifo(file, 0o644) }
func asDir(file string) error  { return os.Mkdir(file, 0o755) }

func asSocket(file string) error {
	return unix.Mknod(file, unix.S_IFSOCK|0o644, 0)
}

func linkTo(target string) func(string) error {
	return func(file string) error { return os.Symlink(target, file) }
}

func content(b []byte) func(string) error {
	return func(file string) error { return os.WriteFile(file, b, 0o644) }
}

// sized is a file of n bytes that takes no room.
func sized(n int64) func(string) error {
	return func(file string) error {
		return errors.Join(os.WriteFile(file, nil, 0o644), os.Truncate(file, n))
	}
}
