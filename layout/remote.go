package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dlrun/dlrun/layout/registry"
)

// remote is the medium of a repository of a registry. Indexes, manifests and
// configs are kept in the cache; layers come over the network each time.
type remote struct {
	ctx    context.Context // that of Open: a medium has no other
	client *registry.Client
	ref    registry.Reference
	name   string // as the caller spelled it
	cache  documentCache
	fresh  v1.Descriptor // what the registry has just said that ref means
}

// openRemote opens the image that a docker:// reference names.
func openRemote(ctx context.Context, name string, o Options) (*Image, error) {
	ref, err := registry.Parse(name)
	if err != nil {
		return nil, err
	}
	if o.RepoTag != "" {
		return nil, fmt.Errorf("%s names its image; --repo-tag picks one of a directory", name)
	}
	if o.Tag != "" && o.Tag != ref.Tag {
		return nil, fmt.Errorf("%s names its tag; --tag picks one of a directory", name)
	}
	o.Tag = ""
	q, err := newQuery(o)
	if err != nil {
		return nil, err
	}
	m := &remote{ctx: ctx, client: o.Registry, ref: ref, name: name, cache: documentCache{o.Caches}}
	top, err := m.resolve(o.Update)
	if err != nil {
		return nil, err
	}
	top.Annotations = map[string]string{sourceName: ref.String()}
	if ref.Tag != "" {
		top.Annotations[refName] = ref.Tag
	}
	picked, err := q.pick(ctx, m, []v1.Descriptor{top})
	if err != nil {
		return nil, err
	}
	img, err := newImage(ctx, m, picked, q)
	if err != nil {
		return nil, err
	}
	img.pin, img.pinned = ref.PinTo(top.Digest), ref.Pinned()
	if m.fresh.Digest != (v1.Hash{}) { // not earlier: one that cannot be used is not to stay
		m.cache.keepReference(ref, m.fresh)
	}
	return img, nil
}

// resolve finds the descriptor of what the reference names. A tag keeps the
// meaning that it had when it was first asked for, until an update.
func (m *remote) resolve(update bool) (v1.Descriptor, error) {
	if d, ok := m.cache.reference(m.ref); ok && !update {
		return d, nil
	}
	if m.client == nil {
		return v1.Descriptor{}, m.offline(m.ref.String())
	}
	d, raw, err := m.client.Manifest(m.ctx, m.ref.Name())
	if err != nil {
		return v1.Descriptor{}, err
	}
	if d.MediaType, err = documentType(raw, d.MediaType); err != nil {
		return v1.Descriptor{}, fmt.Errorf("%s: %w", m.name, err)
	}
	m.cache.keep(d.Digest, raw)
	m.fresh = d
	return d, nil
}

// Distrust forgets what the tag of an image at a registry means, where that was asked for when the image was opened: it turned
// out not to be whole, and may be mended.
func (i *Image) Distrust() {
	if m, ok := i.medium.(*remote); ok && m.fresh.Digest != (v1.Hash{}) {
		m.cache.forgetReference(m.ref)
	}
}

func (m *remote) offline(what string) error {
	return &hinted{fmt.Errorf("%s is not in the cache, and no network is to be touched", what), "leave out --get never"}
}

func (m *remote) dir() string { return m.name }

func (m *remote) open(d v1.Descriptor) (io.ReadCloser, error) {
	switch ociType(d.MediaType) {
	case types.OCIImageIndex, types.OCIManifestSchema1:
		return m.document(d, func() ([]byte, error) {
			_, raw, err := m.client.Manifest(m.ctx, m.ref.Repository.Digest(d.Digest.String()))
			return raw, err
		})
	case types.OCIConfigJSON:
		return m.document(d, func() ([]byte, error) {
			r, err := m.layer(d)
			if err != nil {
				return nil, err
			}
			defer r.Close()
			return io.ReadAll(r)
		})
	}
	return m.layer(d)
}

// document gives a document from the cache, else from the registry. The caller
// has bounded its size.
func (m *remote) document(d v1.Descriptor, fetch func() ([]byte, error)) (io.ReadCloser, error) {
	raw, ok := m.cache.document(d)
	if !ok {
		if m.client == nil {
			return nil, m.offline(d.Digest.String() + " of " + m.name)
		}
		var err error
		if raw, err = fetch(); err != nil {
			return nil, err
		}
		m.cache.keep(d.Digest, raw)
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

func (m *remote) layer(d v1.Descriptor) (io.ReadCloser, error) {
	if err := m.check(d); err != nil {
		return nil, err
	}
	r, err := m.client.Blob(m.ctx, m.ref.Repository, d, 0)
	if err != nil {
		return nil, foreign(d, err)
	}
	return briefly{r}, nil
}

func (m *remote) check(d v1.Descriptor) error {
	if m.client != nil {
		return nil
	}
	return &hinted{
		&MissingError{Dir: m.name, Blobs: []MissingBlob{{Digest: d.Digest.String(), Path: m.name, Size: d.Size}}},
		"it is at the registry: leave out --get never",
	}
}

// fetch reads a blob into f, from where an earlier try ended.
func (m *remote) fetch(ctx context.Context, d v1.Descriptor, f *os.File, progress func(int64)) error {
	if err := m.check(d); err != nil {
		return err
	}
	return foreign(d, m.client.Download(ctx, m.ref.Repository, d, f, progress))
}

// foreign says of a layer whose licence keeps it out of registries why it is
// not to be had: the URLs of a manifest are a stranger's word, and not followed.
func foreign(d v1.Descriptor, err error) error {
	if len(d.URLs) > 0 && errors.Is(err, registry.ErrAbsent) {
		return fmt.Errorf("%w; it is a foreign layer, and the addresses that the manifest names for it are not followed", err)
	}
	return err
}

// briefly leaves out of errors which blob they are about: the verifier says it.
type briefly struct{ io.ReadCloser }

func (b briefly) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return n, err
}

// IsRemote reports whether a reference names an image at a registry. A path is
// taken as a path when it exists.
func IsRemote(ref string) bool {
	if !strings.HasPrefix(ref, registry.Scheme) {
		return false
	}
	_, err := os.Lstat(ref)
	return err != nil
}
