package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// DigestError says that bytes are not those of the digest that they were to have.
type DigestError struct{ Want, Got v1.Hash }

func (e *DigestError) Error() string {
	return fmt.Sprintf("the content has the digest %s, not %s", e.Got, e.Want)
}

// Download reads a blob into f, which is open for reading and writing. What f
// holds is taken for the beginning of the blob, and only the rest is fetched.
// progress, which may be nil, is told how many bytes are there, now and then,
// from the calling goroutine.
//
// When it returns nil, f holds the blob and nothing else, and the digest is
// verified. On an error f holds a beginning that a later call can go on from,
// or nothing, where the bytes were wrong: then the error is a [*DigestError].
// f is not synced.
func (c *Client) Download(ctx context.Context, repo name.Repository, d v1.Descriptor, f *os.File, progress func(int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	places := c.places(repo)
	for {
		resumed, err := c.fill(ctx, repo, places, d, f, progress)
		var wrong *DigestError
		if !errors.As(err, &wrong) {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		progress(0)
		// The beginning may have been wrong, or a mirror: once more, without them.
		if !resumed && len(places) == 1 {
			return fmt.Errorf("blob %s of %s: %w", d.Digest, showRepository(repo), err)
		}
		places = places[len(places)-1:]
	}
}

// fill completes f and verifies it. It tells whether f held something to begin with.
func (c *Client) fill(ctx context.Context, repo name.Repository, places []place, d v1.Descriptor, f *os.File, progress func(int64)) (resumed bool, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	hash := sha256.New()
	// ReadFrom of the file and WriteTo of the answer are no use: all bytes pass by here.
	buffer := make([]byte, 256<<10)
	had, err := io.CopyBuffer(hash, struct{ io.Reader }{f}, buffer)
	if err != nil {
		return false, err
	}
	if had > d.Size {
		return true, &DigestError{Want: d.Digest, Got: sum(hash)}
	}
	progress(had)
	r, err := c.blob(ctx, repo, places, d, had)
	if err != nil {
		return had > 0, err
	}
	defer r.Close()
	at := had
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			hash.Write(buffer[:n])
			if _, err := f.Write(buffer[:n]); err != nil {
				return had > 0, err
			}
			at += int64(n)
			progress(at)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return had > 0, err
		}
	}
	if got := sum(hash); got != d.Digest {
		return had > 0, &DigestError{Want: d.Digest, Got: got}
	}
	return had > 0, nil
}

func sum(h interface{ Sum([]byte) []byte }) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}
