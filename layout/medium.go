package layout

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// medium is where the bytes of an image lie. A new one is a file of its own:
// it finds (or makes up) the descriptor of an index or a manifest and hands
// over to the same query and the same [newImage] as all others.
type medium interface {
	// dir is the place in the caller's spelling, for messages.
	dir() string

	// open gives the bytes of a blob, unverified. A blob that is not there is a
	// *MissingError that names it alone.
	open(d v1.Descriptor) (io.ReadCloser, error)

	// check says what open would, as cheaply as it can.
	check(d v1.Descriptor) error
}

// filed is a medium whose blobs are files of a place.
type filed interface {
	medium

	// form is how the image is stored, for people: "OCI layout".
	form() string

	// in is the place, and file the name of a blob's file in it.
	in() place
	file(d v1.Descriptor) string
}

// readDocument is readBlob with the limit that the command line calls name.
func readDocument(ctx context.Context, m medium, d v1.Descriptor, limit int64, name string) ([]byte, error) {
	if d.Size > limit {
		return nil, beyond(name, "blob %s in %s: its size is said to be %d bytes, at most %d are read", d.Digest, m.dir(), d.Size, limit)
	}
	return readBlob(ctx, m, d, limit)
}

// readBlob reads a whole blob of at most limit bytes and verifies it. Bytes
// embedded in the descriptor stand for the blob when they are the right ones.
func readBlob(ctx context.Context, m medium, d v1.Descriptor, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	if d.Size > limit {
		return nil, fmt.Errorf("blob %s in %s: its size is said to be %d bytes, at most %d are read", d.Digest, m.dir(), d.Size, limit)
	}
	if embedded(d) {
		return d.Data, nil
	}
	src, err := m.open(d)
	if err != nil {
		return nil, err
	}
	v := newVerifier(src, d, m.dir())
	raw, err := io.ReadAll(v)
	if closeErr := v.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	return raw, nil
}
