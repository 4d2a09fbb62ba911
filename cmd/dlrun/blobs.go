package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dlrun/dlrun/internal/annex/special"
	"github.com/dlrun/dlrun/layout/registry"
)

// blobs is the registry client as the special remote needs it: by location, and inflated where that is asked for.
type blobs struct {
	secure func() (*registry.Client, error)
	plain  func() (*registry.Client, error) // for registries that the settings of the remote call insecure
}

func newBlobs(o registry.Options) *blobs {
	plain := o
	plain.Insecure = true
	// The settings come with the dataset. Its maker may choose how layers travel, not how the user's passwords do.
	plain.Anonymous = !o.Insecure
	return &blobs{
		secure: sync.OnceValues(func() (*registry.Client, error) { return registry.New(o) }),
		plain:  sync.OnceValues(func() (*registry.Client, error) { return registry.New(plain) }),
	}
}

// absentBlob makes the client's word for it that of the special remote.
type absentBlob struct{ error }

func (absentBlob) Is(target error) bool { return target == special.ErrAbsent }
func (e absentBlob) Unwrap() error      { return e.error }

func inItsWords(err error) error {
	if errors.Is(err, registry.ErrAbsent) {
		return absentBlob{err}
	}
	return err
}

func (b *blobs) at(l special.Location) (c *registry.Client, repo name.Repository, digest v1.Hash, err error) {
	if c, err = b.secure(); l.Plain {
		c, err = b.plain()
	}
	if err == nil {
		repo, err = name.NewRepository(l.Host + "/" + l.Name)
	}
	if err == nil {
		digest, err = v1.NewHash(l.Digest)
	}
	return c, repo, digest, err
}

// Stat is that of the client.
func (b *blobs) Stat(ctx context.Context, l special.Location) (int64, error) {
	c, repo, digest, err := b.at(l)
	if err != nil {
		return 0, err
	}
	size, err := c.Stat(ctx, repo, digest)
	return size, inItsWords(err)
}

// Open reads the blob, or what it inflates to.
func (b *blobs) Open(ctx context.Context, l special.Location, size, offset int64) (io.ReadCloser, error) {
	c, repo, digest, err := b.at(l)
	if err != nil {
		return nil, err
	}
	if size < 0 || l.DiffID != "" {
		// The client wants to know how much is to come, and the size that is known is that of the inflated layer.
		if size, err = c.Stat(ctx, repo, digest); err != nil {
			return nil, inItsWords(err)
		}
	}
	d := v1.Descriptor{Digest: digest, Size: size}
	open := func() (io.ReadCloser, error) {
		r, err := c.Blob(ctx, repo, d, offset)
		return r, inItsWords(err)
	}
	if l.DiffID == "" {
		return open()
	}
	inflated, err := partial.CompressedToLayer(packed{d, open})
	if err != nil {
		return nil, err
	}
	r, err := inflated.Uncompressed()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l, err)
	}
	return r, nil
}

// packed is a layer of which nothing but the blob is known; go-containerregistry inflates it by its first bytes.
type packed struct {
	desc v1.Descriptor
	open func() (io.ReadCloser, error)
}

func (p packed) Digest() (v1.Hash, error)            { return p.desc.Digest, nil }
func (p packed) Size() (int64, error)                { return p.desc.Size, nil }
func (p packed) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
func (p packed) Compressed() (io.ReadCloser, error)  { return p.open() }
