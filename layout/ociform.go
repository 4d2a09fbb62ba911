package layout

import (
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

// ociForm is the medium of an OCI layout: blobs/sha256/HEX in a place.
type ociForm struct{ place }

// openIndexFile opens the layout whose index.json is at name.
func openIndexFile(ctx context.Context, name string, q query) (*Image, error) {
	dir, found := findBlobs(name)
	raw, err := readIndexFile(name, dir, q.limits.IndexSize)
	if err != nil {
		return nil, err
	}
	entries, err := parseIndex(raw, "")
	if err != nil {
		return nil, notIndex(name, err)
	}
	if !found && (q.supply == nil || len(sourcesOf(entries)) == 0) {
		return nil, fmt.Errorf("%s is not in an OCI layout: there is no blobs directory beside it", name)
	}
	return openEntries(ctx, directory(dir), entries, q)
}

// notIndex says what a file is not that was named as an image, by what its name makes of it.
func notIndex(name string, err error) error {
	if strings.HasSuffix(name, ".json") {
		return &DamagedError{text: fmt.Sprintf("%s is not an image index: %v", name, err)}
	}
	return fmt.Errorf("%s is neither an archive nor an image index: %w", name, err)
}

// openIndexOf opens the layout whose index.json is in p, which is no directory.
func openIndexOf(ctx context.Context, p place, q query) (*Image, error) {
	raw, err := readNamed(p, "index.json", "an image index", q.limits.IndexSize, "index-size")
	if err != nil {
		return nil, err
	}
	entries, err := parseIndex(raw, "")
	if err != nil {
		return nil, &DamagedError{text: fmt.Sprintf("%s is not an image index: %v", p.path("index.json"), err)}
	}
	return openEntries(ctx, p, entries, q)
}

func openEntries(ctx context.Context, p place, entries []v1.Descriptor, q query) (*Image, error) {
	if err := checkLayoutVersion(p); err != nil {
		return nil, err
	}
	m := q.supplied(ctx, ociForm{p}, entries)
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

// readIndexFile reads index.json, which no descriptor vouches for and which a
// user may name by itself.
func readIndexFile(name, dir string, limit int64) ([]byte, error) {
	f, _, err := openPresent(name)
	var absent *absentError
	if errors.As(err, &absent) && absent.blob.Key != "" {
		return nil, &MissingError{Dir: dir, Blobs: []MissingBlob{absent.blob}}
	}
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	if int64(len(raw)) > limit {
		return nil, beyond("index-size", "%s is not an image index: it has more than %d bytes", name, limit)
	}
	return raw, nil
}

// checkLayoutVersion refuses a layout of another major version. A file that
// cannot be read is no obstacle: it says nothing but the version, it is often
// annexed and absent, and some writers leave it out.
func checkLayoutVersion(p place) error {
	const name = "oci-layout"
	raw, err := readNamed(p, name, "a layout's version", maxPointerSize, "")
	if err != nil {
		return nil
	}
	var layout struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(raw, &layout); err != nil {
		return fmt.Errorf("%s: %w", p.path(name), err)
	}
	if !strings.HasPrefix(layout.Version, "1.") {
		return fmt.Errorf("%s: imageLayoutVersion is %q, want 1.0.0", p.path(name), layout.Version)
	}
	return nil
}

func (m ociForm) form() string { return "OCI layout" }

func (m ociForm) in() place { return m.place }

// file is where a blob lies. The hex is 64 characters of 0-9a-f, checked when
// it was parsed.
func (m ociForm) file(d v1.Descriptor) string { return "blobs/sha256/" + d.Digest.Hex }

func (m ociForm) open(d v1.Descriptor) (io.ReadCloser, error) { return openBlob(m.place, m.file(d), d) }

func (m ociForm) check(d v1.Descriptor) error { return checkBlob(m, d) }

// openBlob opens the file of a blob and refuses one of another size at once.
func openBlob(p place, name string, d v1.Descriptor) (io.ReadCloser, error) {
	f, size, err := p.open(name)
	var missing *MissingError
	if errors.As(err, &missing) {
		missing.Blobs[0].Digest, missing.Blobs[0].Size = d.Digest.String(), d.Size
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s in %s: %w", d.Digest, p.dir(), err)
	}
	if size != d.Size {
		f.Close()
		return nil, damaged(d, p.dir(), "%d bytes, want %d", size, d.Size)
	}
	return f, nil
}

// checkBlob opens the blob too: only this tells one that the user may not read,
// as content annexed from a file of mode 0600 is for all but its owner.
func checkBlob(m medium, d v1.Descriptor) error {
	f, err := m.open(d)
	if err != nil {
		return err
	}
	return f.Close()
}
