package layout

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/layout/registry"
)

// documentCache keeps what leads to the layers of images at registries, so that
// they can be run again without the network. Each directory holds
//
//	documents/HEX     an index, a manifest or a config
//	refs/HEX.json     what a reference meant: {"reference": NAME, "descriptor": {…}}
//	places/HEX        the path of a layer in a layout that was saved
//
// All of them are read, and the first that can be is written to. That nothing
// can be kept is no error. A document is verified when it is read; what a
// reference means is believed only of files that nobody but the caller and root
// can have written.
type documentCache struct{ dirs []string }

// document returns a document that is there and right.
func (c documentCache) document(d v1.Descriptor) ([]byte, bool) {
	for _, dir := range c.dirs {
		f, size, err := openRegular(filepath.Join(dir, "documents", d.Digest.Hex))
		if err != nil {
			continue
		}
		var raw []byte
		if size == d.Size {
			raw, err = io.ReadAll(io.LimitReader(f, d.Size))
		}
		f.Close()
		if h, _, _ := v1.SHA256(bytes.NewReader(raw)); err == nil && h == d.Digest {
			return raw, true
		}
	}
	return nil, false
}

// keep keeps a document whose digest is right.
func (c documentCache) keep(h v1.Hash, raw []byte) {
	if got, _, err := v1.SHA256(bytes.NewReader(raw)); err == nil && got == h {
		c.write(filepath.Join("documents", h.Hex), raw)
	}
}

// kept is the content of a file in refs/.
type kept struct {
	Reference  string        `json:"reference"`
	Descriptor v1.Descriptor `json:"descriptor"`
}

func refFile(ref registry.Reference) string {
	return filepath.Join("refs", fmt.Sprintf("%x.json", sha256.Sum256([]byte(ref.String()))))
}

// reference returns what a reference meant when it was kept.
func (c documentCache) reference(ref registry.Reference) (v1.Descriptor, bool) {
	for _, dir := range c.dirs {
		raw, err := readOwn(dir, refFile(ref))
		var k kept
		if err != nil || json.Unmarshal(raw, &k) != nil || k.Reference != ref.String() || checkDescriptor(k.Descriptor) != nil {
			continue
		}
		if !ref.Pinned() || k.Descriptor.Digest == ref.Digest {
			return k.Descriptor, true
		}
	}
	return v1.Descriptor{}, false
}

func (c documentCache) keepReference(ref registry.Reference, d v1.Descriptor) {
	if raw, err := json.Marshal(kept{ref.String(), d}); err == nil {
		c.write(refFile(ref), append(raw, '\n'))
	}
}

func (c documentCache) forgetReference(ref registry.Reference) {
	for _, dir := range c.dirs {
		os.Remove(filepath.Join(dir, refFile(ref)))
	}
}

// place returns where a layer was saved, if that is known.
func (c documentCache) place(h v1.Hash) (string, bool) {
	for _, dir := range c.dirs {
		if raw, err := readOwn(dir, filepath.Join("places", h.Hex)); err == nil {
			return string(raw), true
		}
	}
	return "", false
}

func (c documentCache) keepPlace(h v1.Hash, path string) {
	c.write(filepath.Join("places", h.Hex), []byte(path))
}

// readOwn reads a file of a directory, all of which nobody but the caller and root can write to.
func readOwn(dir, name string) ([]byte, error) {
	for _, part := range []string{"", filepath.Dir(name), name} {
		fi, err := os.Lstat(filepath.Join(dir, part))
		if err != nil {
			return nil, err
		}
		uid := int(fi.Sys().(*syscall.Stat_t).Uid)
		if fi.Mode()&os.ModeSymlink != 0 || fi.Mode().Perm()&0o022 != 0 || uid != 0 && uid != os.Geteuid() {
			return nil, os.ErrPermission
		}
	}
	f, _, err := openRegular(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPointerSize))
}

// ForgetRegistries removes from dir, one of Options.Caches, what is known of images at registries.
func ForgetRegistries(dir string) error {
	var errs []error
	for _, name := range []string{"documents", "refs", "places"} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// write puts a file into the first directory that takes it.
func (c documentCache) write(name string, data []byte) {
	for _, dir := range c.dirs {
		if writeBeside(filepath.Join(dir, name), data) == nil {
			return
		}
	}
}

func writeBeside(file string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
