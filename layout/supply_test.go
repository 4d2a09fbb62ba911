package layout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/layout"
)

const source = "org.datalad.container.image.source"

// shelf supplies what it holds, and notes what it was asked for.
type shelf struct {
	blobs   map[string][]byte
	sources []string
	asked   []layout.MissingBlob
}

func (s *shelf) supply(_ context.Context, b layout.MissingBlob, _ v1.Descriptor, sources []string) (io.ReadCloser, error) {
	s.asked, s.sources = append(s.asked, b), sources
	content, ok := s.blobs[b.Digest]
	if !ok {
		return nil, errors.New("nobody has it")
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}

// taken moves all blobs of the layout to a shelf.
func (s *site) taken() *shelf {
	s.t.Helper()
	taken := &shelf{blobs: map[string][]byte{}}
	for _, name := range s.files() {
		if filepath.Base(filepath.Dir(name)) != "sha256" {
			continue
		}
		content, err := os.ReadFile(name)
		s.must(err)
		taken.blobs["sha256:"+filepath.Base(name)] = content
		s.must(os.Remove(name))
	}
	return taken
}

func TestSupply(t *testing.T) {
	img := sample{tag: "1.0", layers: []sampleLayer{{"one", "gzip"}, {"two", ""}}}
	make := func(t *testing.T) (*site, *shelf, v1.Descriptor) {
		s := newSite(t, filepath.Join(t.TempDir(), "image"))
		d := s.manifest(img)
		d.Annotations[source] = "docker://ghcr.io/lab/bb:1.0"
		s.index(d, with(tagged(d, "other"), func(d *v1.Descriptor) { d.Annotations[source] = "docker://ghcr.io/lab/bb:1.0" }))
		return s, s.taken(), d
	}
	readAll := func(img *layout.Image) error {
		layers, err := img.Layers()
		if err != nil {
			return err
		}
		for _, l := range layers {
			r, err := l.Compressed()
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
			if err := r.Close(); err != nil {
				return err
			}
		}
		return nil
	}

	t.Run("from index.json alone", func(t *testing.T) {
		s, shelf, d := make(t)
		s.must(os.RemoveAll(filepath.Join(s.dir, "blobs")))
		got, err := layout.Open(t.Context(), s.dir+":1.0", layout.Options{Supply: shelf.supply})
		s.must(err)
		s.must(readAll(got))
		if digest, _ := got.Digest(); digest != d.Digest {
			t.Errorf("digest %s, want %s", digest, d.Digest)
		}
		if !slices.Equal(shelf.sources, []string{"docker://ghcr.io/lab/bb:1.0"}) {
			t.Errorf("sources %q", shelf.sources)
		}
		want := layout.MissingBlob{Digest: d.Digest.String(), Path: s.path(d.Digest), Size: d.Size}
		if len(shelf.asked) != 4 || shelf.asked[0] != want {
			t.Errorf("asked for %+v, first of all for %+v", shelf.asked, want)
		}
		if left := s.files(); len(left) != 2 {
			t.Errorf("something was written: %v", left)
		}
		var missing *layout.MissingError
		if err := got.CheckLayers(); !errors.As(err, &missing) || len(missing.Blobs) != 2 {
			t.Errorf("CheckLayers tells what is not on disk: %v", err)
		}
	})
	t.Run("here again", func(t *testing.T) {
		s, shelf, d := make(t)
		bring := func(_ context.Context, b layout.MissingBlob, _ v1.Descriptor, _ []string) (io.ReadCloser, error) {
			return nil, os.WriteFile(b.Path, shelf.blobs[b.Digest], 0o644)
		}
		got, err := layout.Open(t.Context(), s.dir+"@"+d.Digest.String(), layout.Options{Supply: bring})
		s.must(err)
		s.must(readAll(got))
		s.must(got.CheckLayers())
	})
	t.Run("not here although it was said", func(t *testing.T) {
		s, _, _ := make(t)
		lie := func(context.Context, layout.MissingBlob, v1.Descriptor, []string) (io.ReadCloser, error) {
			return nil, nil
		}
		_, err := layout.Open(t.Context(), s.dir+":1.0", layout.Options{Supply: lie})
		var missing *layout.MissingError
		if !errors.As(err, &missing) {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("something else", func(t *testing.T) {
		s, shelf, d := make(t)
		shelf.blobs[d.Digest.String()] = bytes.ToUpper(shelf.blobs[d.Digest.String()])
		_, err := layout.Open(t.Context(), s.dir+":1.0", layout.Options{Supply: shelf.supply})
		if err == nil || !strings.Contains(err.Error(), "its content has the digest") {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("nobody has it", func(t *testing.T) {
		s, shelf, d := make(t)
		delete(shelf.blobs, d.Digest.String())
		if _, err := layout.Open(t.Context(), s.dir+":1.0", layout.Options{Supply: shelf.supply}); err == nil || !strings.Contains(err.Error(), "nobody has it") {
			t.Errorf("Open: %v", err)
		}
	})
	t.Run("without a source", func(t *testing.T) {
		s := newSite(t, filepath.Join(t.TempDir(), "image"))
		s.index(s.manifest(img))
		shelf := s.taken()
		s.must(os.RemoveAll(filepath.Join(s.dir, "blobs")))
		if _, err := layout.Open(t.Context(), s.dir, layout.Options{Supply: shelf.supply}); err == nil || !strings.Contains(err.Error(), "no blobs directory") {
			t.Errorf("Open: %v", err)
		}
	})
}
