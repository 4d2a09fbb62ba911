package layout

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// sourceName is the annotation of an entry of index.json that says where the image comes from; DataLad's OCI adapter
// made it up.
const sourceName = "org.datalad.container.image.source"

// Supply is asked for a blob whose content is not here. It returns the bytes of the blob, which are verified as those of
// any other, or nil when the content is here now. Its error is added to the [*MissingError]. The descriptor tells a manifest from other
// blobs, which registries keep apart. Sources are where the entries of index.json say that the image comes from, as docker://NAME.
// Layers side by side ask side by side. Manifests and configs that it returns are kept in the caches, and it is not asked again
// for what is there.
type Supply func(ctx context.Context, b MissingBlob, d v1.Descriptor, sources []string) (io.ReadCloser, error)

// supplied is a medium whose missing blobs are asked for elsewhere. The context is that of Open: a layer that is read later has
// none of its own.
type supplied struct {
	filed
	ctx     context.Context
	supply  Supply
	cache   documentCache
	sources []string
}

// supplied makes a medium one that asks for what is missing, if the caller wants that.
func (q query) supplied(ctx context.Context, m filed, entries []v1.Descriptor) medium {
	if q.supply == nil {
		return m
	}
	return supplied{m, ctx, q.supply, q.cache, sourcesOf(entries)}
}

func sourcesOf(entries []v1.Descriptor) []string {
	var list []string
	for _, e := range entries {
		if s := e.Annotations[sourceName]; s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

func (m supplied) open(d v1.Descriptor) (io.ReadCloser, error) {
	r, err := m.filed.open(d)
	var missing *MissingError
	if !errors.As(err, &missing) {
		return r, err
	}
	if raw, ok := m.cache.document(d); ok {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	r, err = m.supply(m.ctx, missing.Blobs[0], d, m.sources)
	if err != nil {
		return nil, errors.Join(missing, err)
	}
	switch ociType(d.MediaType) {
	case types.OCIImageIndex, types.OCIManifestSchema1, types.OCIConfigJSON:
		if r == nil {
			break
		}
		defer r.Close()
		raw, err := io.ReadAll(io.LimitReader(r, d.Size+1)) // whoever opens a document has bounded its size
		if err != nil {
			return nil, errors.Join(missing, err)
		}
		m.cache.keep(d.Digest, raw)
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	if r != nil {
		return r, nil
	}
	return m.filed.open(d)
}

// stored is the medium without what is asked for elsewhere.
func stored(m medium) medium {
	if s, ok := m.(supplied); ok {
		return s.filed
	}
	return m
}
