package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Blob is one part of an image, and what is there of it.
type Blob struct {
	// Descriptor is the blob's, in OCI media types; of a manifest the stored one.
	v1.Descriptor
	// Role is manifest, config or layer; of a blob beside the image what it is there for.
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

// PassedOver is why index.json was not used where manifest.json lies beside it and was: a blob is missing or damaged. It is nil
// where nothing was wrong.
func (i *Image) PassedOver() error { return i.passed }

// Beside are the blobs that lie with the image and are not its own, in the order of their digests: what an earlier save kept of its
// source, the index that it was found by, other images. What an annotation says to be kept is listed also when it is missing.
func (i *Image) Beside() []Blob {
	f, ok := stored(i.medium).(filed)
	if !ok {
		return nil
	}
	own := map[v1.Hash]bool{}
	for _, b := range i.Blobs() {
		own[b.Digest] = !b.MadeUp
	}
	var list []Blob
	add := func(role string, h v1.Hash) {
		name := blobName(h)
		if own[h] || checkDigest(h) != nil {
			return
		}
		own[h] = true
		b := Blob{Role: role, Descriptor: v1.Descriptor{Digest: h, Size: f.in().size(name)}, Path: f.in().path(name), Key: f.in().key(name)}
		list = append(list, b)
	}
	if _, ok := f.(ociForm); ok {
		for _, key := range []string{sourceManifest, sourceIndex} {
			if h, err := v1.NewHash(i.notes[key]); err == nil {
				add(key[strings.LastIndexByte(key, '.')+1:]+" of the source", h)
			}
		}
	}
	for _, name := range f.in().names("blobs/sha256") {
		if h, err := v1.NewHash("sha256:" + name); err == nil {
			add("other blob", h)
		}
	}
	return list
}

// verifyBeside reads a blob that is not the image's own. What is said to be the image's source has to be that.
func (i *Image) verifyBeside(ctx context.Context, b Blob) error {
	f, ok := stored(i.medium).(filed)
	if !ok {
		return nil
	}
	if b.Role != "other blob" {
		_, err := standsFor(f, v1.Descriptor{Digest: i.digest, Annotations: i.notes}, b.Digest, i.maxKept)
		return err
	}
	src, err := openBlob(f.in(), blobName(b.Digest), b.Descriptor)
	if err != nil {
		return err
	}
	v := newVerifier(src, b.Descriptor, f.dir())
	_, err = io.Copy(io.Discard, contextReader{ctx, v})
	return errors.Join(err, v.Close())
}

// Verify reads a blob of i, or one beside it, through and returns what is wrong with it: absent,
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
	case "layer":
	default:
		return i.verifyBeside(ctx, b)
	}
	_, err := (&blobLayer{i.medium, b.Descriptor, b.DiffID}).copyTar(ctx, io.Discard)
	return err
}
