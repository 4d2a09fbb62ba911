package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ociDir is the medium of an OCI layout directory.
type ociDir struct {
	name string // the directory that has blobs/
}

// openIndexFile opens the layout whose index.json is at name.
func openIndexFile(ctx context.Context, name string, q query) (*Image, error) {
	dir, found := findBlobs(name)
	raw, err := readIndexFile(name, dir)
	if err != nil {
		return nil, err
	}
	entries, err := parseIndex(raw, "")
	if err != nil {
		return nil, fmt.Errorf("%s is not an image index: %w", name, err)
	}
	if !found {
		return nil, fmt.Errorf("%s is not in an OCI layout: there is no blobs directory beside it", name)
	}
	if err := checkLayoutVersion(dir); err != nil {
		return nil, err
	}
	m := ociDir{dir}
	picked, err := q.pick(ctx, m, entries)
	if err != nil {
		return nil, err
	}
	return newImage(ctx, m, picked, q)
}

// findBlobs finds the directory with the blobs of the index.json at name: the
// one it lies in, or, where it is a symlink, the first on the way to its
// target that has blobs/. The given directory comes first, since a locked
// annexed index.json is a symlink into .git/annex/objects, away from the blobs.
func findBlobs(name string) (dir string, found bool) {
	next := name
	for range maxLinks {
		dir := dirOf(next)
		if fi, err := os.Stat(dir + "/blobs"); err == nil && fi.IsDir() {
			if next != name {
				// Not the caller's spelling any more, so make it a short one.
				if clean, err := filepath.EvalSymlinks(dir); err == nil {
					dir = clean
				}
			}
			return dir, true
		}
		target, err := os.Readlink(next)
		if err != nil {
			break
		}
		next = besideLink(next, target)
	}
	return dirOf(name), false
}

// readIndexFile reads index.json, which no descriptor vouches for.
func readIndexFile(name, dir string) ([]byte, error) {
	f, size, err := openRegular(name)
	if errors.Is(err, os.ErrNotExist) {
		if key := linkKey(name); key != "" {
			return nil, missingIndex(name, dir, key)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	defer f.Close()
	if key := filePointerKey(f, size); key != "" {
		return nil, missingIndex(name, dir, key)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxIndexSize+1))
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	if form := archiveForm(raw); form != "" {
		return nil, fmt.Errorf("%s is %s, which is not supported yet", name, form)
	}
	if len(raw) > maxIndexSize {
		return nil, fmt.Errorf("%s is not an image index: it has more than %d bytes", name, maxIndexSize)
	}
	return raw, nil
}

func missingIndex(name, dir, key string) error {
	return &MissingError{Dir: dir, Blobs: []MissingBlob{{Path: name, Key: key, Size: keySize(key)}}}
}

// archiveForm tells by its first bytes what else may lie where an index was
// expected; empty for what it does not know.
func archiveForm(head []byte) string {
	at := func(offset int, magic string) bool {
		return len(head) > offset && bytes.HasPrefix(head[offset:], []byte(magic))
	}
	switch {
	case at(32, "SIF_MAGIC"):
		return "a SIF image"
	case at(257, "ustar"):
		return "a tar archive"
	case at(0, "\x1f\x8b"):
		return "a gzip file"
	case at(0, "\x28\xb5\x2f\xfd"):
		return "a zstd file"
	}
	return ""
}

// checkLayoutVersion refuses a layout of another major version. A file that
// cannot be read is no obstacle: it says nothing but the version, it is often
// annexed and absent, and some writers leave it out.
func checkLayoutVersion(dir string) error {
	f, _, err := openRegular(dir + "/oci-layout")
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxPointerSize))
	if err != nil || pointerKey(raw) != "" {
		return nil
	}
	var layout struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(raw, &layout); err != nil {
		return fmt.Errorf("%s/oci-layout: %w", dir, err)
	}
	if !strings.HasPrefix(layout.Version, "1.") {
		return fmt.Errorf("%s/oci-layout: imageLayoutVersion is %q, want 1.0.0", dir, layout.Version)
	}
	return nil
}

func (m ociDir) dir() string { return m.name }

// open refuses a blob of another size at once, after it has made sure that it
// is not a pointer file.
func (m ociDir) open(d v1.Descriptor) (io.ReadCloser, error) {
	// The hex is 64 characters of 0-9a-f, checked when it was parsed.
	name := m.name + "/blobs/sha256/" + d.Digest.Hex
	f, size, err := openRegular(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, m.missing(d, name, linkKey(name))
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s in %s: %w", d.Digest, m.name, err)
	}
	if key := filePointerKey(f, size); key != "" {
		f.Close()
		return nil, m.missing(d, name, key)
	}
	if size != d.Size {
		f.Close()
		return nil, fmt.Errorf("blob %s in %s: %d bytes, want %d", d.Digest, m.name, size, d.Size)
	}
	return f, nil
}

// check opens the file too: only this tells a blob that the user may not read,
// as content annexed from a file of mode 0600 is for all but its owner.
func (m ociDir) check(d v1.Descriptor) error {
	f, err := m.open(d)
	if err != nil {
		return err
	}
	return f.Close()
}

func (m ociDir) missing(d v1.Descriptor, name, key string) error {
	return &MissingError{Dir: m.name, Blobs: []MissingBlob{{Digest: d.Digest.String(), Path: name, Key: key, Size: d.Size}}}
}
