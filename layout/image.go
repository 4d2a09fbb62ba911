package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is an image whose manifest and config are read and verified, and whose
// layers are verified as they are read. It is safe for concurrent use.
//
// Digest, Size, MediaType and RawManifest are those of the manifest as it is
// stored; Manifest and the layers speak in OCI media types.
type Image struct {
	medium    medium
	tag       string
	names     []string
	notes     map[string]string
	digest    v1.Hash
	mediaType types.MediaType
	raw       []byte
	manifest  *v1.Manifest
	rawConfig []byte
	config    *v1.ConfigFile
	layers    []*blobLayer
	via       []v1.Descriptor // the indexes that led to it, the outermost first
	pin       string          // the line of a recipe that names it by digest, for one of a registry
	pinned    bool            // a digest was named
	maxKept   int64           // bytes of a document that was saved beside it
	passed    error           // why index.json beside manifest.json was not used
}

var _ v1.Image = (*Image)(nil)

// newImage reads the manifest that was picked and its config from any medium.
func newImage(ctx context.Context, m medium, c candidate, q query) (*Image, error) {
	i := &Image{medium: m, tag: c.tag, names: c.names, notes: c.notes, digest: c.desc.Digest, via: c.via, maxKept: q.limits.document()}
	var err error
	if i.raw, err = readDocument(ctx, m, c.desc, q.limits.ManifestSize, "manifest-size"); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if i.manifest, i.mediaType, err = parseManifest(i.raw, c.desc.MediaType); err != nil {
		return nil, fmt.Errorf("manifest %s in %s: %w", i.digest, m.dir(), err)
	}
	if i.rawConfig, err = readDocument(ctx, m, i.manifest.Config, q.limits.ConfigSize, "config-size"); err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	id := i.manifest.Config.Digest
	if err = json.Unmarshal(i.rawConfig, &i.config); err != nil {
		return nil, fmt.Errorf("config %s in %s: %w", id, m.dir(), err)
	}
	if i.config == nil {
		return nil, fmt.Errorf("config %s in %s: it is null", id, m.dir())
	}
	if !known(c.desc.Platform) {
		if err := q.checkConfig(i.config, m.dir()); err != nil {
			return nil, err
		}
	}
	diffIDs := i.config.RootFS.DiffIDs
	if len(diffIDs) != len(i.manifest.Layers) {
		return nil, fmt.Errorf("config %s in %s: it lists %d diff_ids, the manifest %d layers", id, m.dir(), len(diffIDs), len(i.manifest.Layers))
	}
	for n, d := range i.manifest.Layers {
		if err := checkDigest(diffIDs[n]); err != nil {
			return nil, fmt.Errorf("config %s in %s: diff_id %d: %w", id, m.dir(), n+1, err)
		}
		i.layers = append(i.layers, &blobLayer{m, d, diffIDs[n]})
	}
	return i, nil
}

// Dir is the directory that holds the blobs, spelled as the caller spelled it
// where it is the one that the caller named.
func (i *Image) Dir() string { return i.medium.dir() }

// Tag is the tag of the index entry that the image was found by, or empty.
func (i *Image) Tag() string { return i.tag }

// Names are the full names, IMAGE:TAG, under which the place holds the image;
// a docker save has any number, and an OCI layout may have them too.
func (i *Image) Names() []string { return slices.Clone(i.names) }

// Annotations are those of the entry of index.json that the image was found by.
func (i *Image) Annotations() map[string]string {
	if _, made := stored(i.medium).(*saved); made {
		return nil
	}
	return maps.Clone(i.notes)
}

// CheckLayers tells, without reading them, whether all layers are there, have
// the right size and may be read. Those that are not there are all named in
// one [*MissingError]; any other fault is returned as soon as it is met.
func (i *Image) CheckLayers() error {
	all := &MissingError{Dir: i.Dir()}
	seen := map[v1.Hash]bool{}
	for _, l := range i.layers {
		if seen[l.desc.Digest] || embedded(l.desc) {
			continue
		}
		seen[l.desc.Digest] = true
		err := i.medium.check(l.desc)
		var missing *MissingError
		if errors.As(err, &missing) {
			all.Blobs = append(all.Blobs, missing.Blobs...)
		} else if err != nil {
			return err
		}
	}
	if len(all.Blobs) > 0 {
		return all
	}
	return nil
}

// Layers are in the order of the manifest, the lowest first.
func (i *Image) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, len(i.layers))
	for n, l := range i.layers {
		var err error
		if layers[n], err = partial.CompressedToLayer(l); err != nil {
			return nil, err
		}
	}
	return layers, nil
}

// LayerByDigest finds a layer by the digest of its blob.
func (i *Image) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	for _, l := range i.layers {
		if l.desc.Digest == h {
			return partial.CompressedToLayer(l)
		}
	}
	return nil, fmt.Errorf("image %s has no layer %s", i.digest, h)
}

// LayerByDiffID finds a layer by the digest of its tar.
func (i *Image) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for _, l := range i.layers {
		if l.diffID == h {
			return partial.CompressedToLayer(l)
		}
	}
	return nil, fmt.Errorf("image %s has no layer with the diff_id %s", i.digest, h)
}

// MediaType is what the stored manifest goes by, Docker's included.
func (i *Image) MediaType() (types.MediaType, error) { return i.mediaType, nil }

// Size is that of the stored manifest, in bytes.
func (i *Image) Size() (int64, error) { return int64(len(i.raw)), nil }

// Digest is that of the stored manifest.
func (i *Image) Digest() (v1.Hash, error) { return i.digest, nil }

// RawManifest is the stored manifest.
func (i *Image) RawManifest() ([]byte, error) { return append([]byte(nil), i.raw...), nil }

// Manifest is a copy of the manifest in OCI media types.
func (i *Image) Manifest() (*v1.Manifest, error) { return i.manifest.DeepCopy(), nil }

// ConfigName is the image id: the digest of the config.
func (i *Image) ConfigName() (v1.Hash, error) { return i.manifest.Config.Digest, nil }

// RawConfigFile is the stored config.
func (i *Image) RawConfigFile() ([]byte, error) { return append([]byte(nil), i.rawConfig...), nil }

// ConfigFile is a copy of the config.
func (i *Image) ConfigFile() (*v1.ConfigFile, error) { return i.config.DeepCopy(), nil }

// blobLayer is a layer as a medium stores it. partial.CompressedToLayer adds
// Uncompressed, which goes by the first bytes: gzip, zstd or plain.
type blobLayer struct {
	medium medium
	desc   v1.Descriptor
	diffID v1.Hash
}

func (l *blobLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *blobLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *blobLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *blobLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }

// Compressed reads the blob as it is stored. A Read that would complete a
// wrong blob fails instead, and so does Close before all was read.
func (l *blobLayer) Compressed() (io.ReadCloser, error) {
	if embedded(l.desc) {
		return newVerifier(io.NopCloser(bytes.NewReader(l.desc.Data)), l.desc, l.medium.dir()), nil
	}
	src, err := l.medium.open(l.desc)
	if err != nil {
		return nil, err
	}
	in := l.medium.dir()
	if s, ok := stored(l.medium).(*saved); ok {
		in = s.where(l.desc)
	}
	return newVerifier(src, l.desc, in), nil
}
