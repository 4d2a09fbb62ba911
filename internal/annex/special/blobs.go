package special

import (
	"context"
	"errors"
	"io"
)

// ErrAbsent is wrapped by an error that says: the registry has answered, and does not have the blob.
var ErrAbsent = errors.New("the registry does not have it")

// Blobs reads from registries. Its errors say what failed, and where.
type Blobs interface {
	// Stat returns the size of the blob in bytes, -1 when the registry does not tell. It asks the registry each time.
	Stat(ctx context.Context, l Location) (int64, error)

	// Open reads the content, of size bytes or -1 if unknown, from offset on. Where l has a DiffID the content is the
	// inflated blob, and offset is 0. It need not verify anything.
	Open(ctx context.Context, l Location, size, offset int64) (io.ReadCloser, error)
}
