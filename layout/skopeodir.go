package layout

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// skopeoDir is the medium of skopeo's dir: form: manifest.json is the manifest
// itself, or an index, whose manifests are then HEX.manifest.json; other blobs
// are called HEX.
type skopeoDir struct {
	place
	top v1.Hash // of manifest.json
}

// openSkopeoDir opens the image whose manifest.json has the content raw. As no
// descriptor vouches for it, its digest is that of what is there.
func openSkopeoDir(ctx context.Context, p place, raw []byte, q query) (*Image, error) {
	t, err := documentType(raw, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.path("manifest.json"), err)
	}
	top := v1.Descriptor{MediaType: t, Size: int64(len(raw)), Digest: hashOf(raw), Data: raw}
	m := skopeoDir{p, top.Digest}
	picked, err := q.pick(ctx, m, []v1.Descriptor{top})
	if err != nil {
		return nil, err
	}
	return newImage(ctx, q.supplied(ctx, m, nil), picked, q)
}

func (m skopeoDir) form() string { return "skopeo dir" }
func (m skopeoDir) in() place    { return m.place }

func (m skopeoDir) file(d v1.Descriptor) string {
	switch ociType(d.MediaType) {
	case types.OCIManifestSchema1, types.OCIImageIndex:
		if d.Digest == m.top {
			return "manifest.json"
		}
		return d.Digest.Hex + ".manifest.json"
	}
	return d.Digest.Hex
}

func (m skopeoDir) open(d v1.Descriptor) (io.ReadCloser, error) {
	return openBlob(m.place, m.file(d), d)
}

func (m skopeoDir) check(d v1.Descriptor) error { return checkBlob(m, d) }
