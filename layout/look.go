package layout

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Blob is one part of an image, and what is there of it.
type Blob struct {
	// Descriptor is the blob's, in OCI media types; of a manifest the stored one.
	v1.Descriptor
	// Role is manifest, config or layer.
	Role string
	// DiffID is that of a layer.
	DiffID v1.Hash
	// Path is the file; empty where the blob is embedded, made up or at a registry.
	Path string
	// Key is the git-annex key of the file; empty when it is not annexed, and of
	// an unlocked file whose content is here, which does not tell.
	Key string
	// MadeUp says that no such blob is stored: the manifest of a docker save.
	MadeUp bool
	// Err is why the blob cannot be read, a [*MissingError] where it is not here.
	Err error
}

// Missing reports whether the blob is not here.
func (b Blob) Missing() bool {
	var missing *MissingError
	return errors.As(b.Err, &missing)
}

// Form says how the image is stored, for people: "OCI layout directory",
// "docker save archive (gzip)".
func (i *Image) Form() string {
	if f, ok := stored(i.medium).(filed); ok {
		return f.form() + " " + f.in().kind()
	}
	return "registry"
}

// Blobs are manifest, config and layers, a layer as often as the manifest names
// it. Nothing is read of them but what tells whether they are there.
func (i *Image) Blobs() []Blob {
	blobs := []Blob{
		{Role: "manifest", Descriptor: v1.Descriptor{MediaType: i.mediaType, Size: int64(len(i.raw)), Digest: i.digest}},
		{Role: "config", Descriptor: i.manifest.Config},
	}
	for _, l := range i.layers {
		blobs = append(blobs, Blob{Role: "layer", Descriptor: l.desc, DiffID: l.diffID})
	}
	_, made := stored(i.medium).(*saved)
	blobs[0].MadeUp = made
	for n := range blobs {
		b := &blobs[n]
		if f, ok := stored(i.medium).(filed); ok && !b.MadeUp && !embedded(b.Descriptor) {
			if name := f.file(b.Descriptor); name != "" && f.in().has(name) {
				b.Path, b.Key = f.in().path(name), f.in().key(name)
			}
		}
		if b.Role == "layer" && !embedded(b.Descriptor) {
			b.Err = i.medium.check(b.Descriptor)
		}
	}
	return blobs
}

// Verify reads a blob of i through and returns what is wrong with it: absent,
// of another size or digest, or a layer of another diff_id.
func (i *Image) Verify(ctx context.Context, b Blob) error {
	switch b.Role {
	case "manifest":
		if got := hashOf(i.raw); got != b.Digest {
			return fmt.Errorf("manifest %s in %s: its content has the digest %s", b.Digest, i.Dir(), got)
		}
		return nil // it was read, and verified, when the image was opened
	case "config":
		_, err := readBlob(ctx, i.medium, i.manifest.Config, i.manifest.Config.Size)
		return err
	}
	_, err := (&blobLayer{i.medium, b.Descriptor, b.DiffID}).copyTar(ctx, io.Discard)
	return err
}
