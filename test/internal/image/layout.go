package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// Compression of layer blobs.
type Compression string

// The compressions in use. Gzip is framed as buildah and skopeo do.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Write makes an OCI layout at dir, which must not exist: one image, tagged
// latest, readable by everyone. Half-made blobs lie in scratch.
func Write(dir, scratch string, config v1.Config, how Compression, layers ...Layer) error {
	img, err := build(scratch, architecture, config, how, layers...)
	if err != nil {
		return err
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	platform := layout.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture})
	if err := l.AppendImage(img, refName("latest"), platform); err != nil {
		return err
	}
	return readable(dir)
}

func refName(tag string) layout.Option {
	return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag})
}

// readable opens a layout to other users, who run these images too: its writer
// makes blobs 0600.
func readable(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(p, 0o644)
	})
}

// build is an image whose layer blobs lie in scratch.
func build(scratch, arch string, config v1.Config, how Compression, layers ...Layer) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: arch, OS: "linux", Config: config, Created: v1.Time{Time: epoch},
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	mediaType := types.OCILayer
	if how == Zstd {
		mediaType = types.OCILayerZStd
	}
	for i, l := range layers {
		blob, err := writeBlob(scratch, how, l)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		layer, err := tarball.LayerFromFile(blob, tarball.WithMediaType(mediaType))
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return img, nil
}

func writeBlob(scratch string, how Compression, l Layer) (file string, err error) {
	f, err := os.CreateTemp(scratch, "blob-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffered := bufio.NewWriterSize(f, 1<<20)
	var w io.WriteCloser
	switch how {
	case Gzip:
		w = pgzip.NewWriter(buffered)
	case Zstd:
		if w, err = zstd.NewWriter(buffered); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("no compression %q", how)
	}
	if err := l(w); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return f.Name(), buffered.Flush()
}
