package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// verifier hands out the bytes of a blob while it checks them against the
// size and digest of the descriptor. The last bytes are held back until the
// whole is known to be right, so nobody gets all bytes of a wrong blob, and
// nobody needs to see the EOF to be safe.
type verifier struct {
	src  io.ReadCloser
	want v1.Descriptor
	in   string // where the blob lies, for messages
	hash hash.Hash
	left int64
	err  error // what every further Read returns
}

func newVerifier(src io.ReadCloser, want v1.Descriptor, in string) *verifier {
	return &verifier{src: src, want: want, in: in, hash: sha256.New(), left: want.Size}
}

// Read returns an error that names the blob when it is shorter, longer or
// other than its descriptor says.
func (v *verifier) Read(p []byte) (int, error) {
	if v.err == nil && v.left == 0 {
		v.err = v.finish()
	}
	if v.err != nil || len(p) == 0 {
		return 0, v.err
	}
	n, err := v.src.Read(p[:min(int64(len(p)), v.left)])
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left == 0:
		if v.err = v.finish(); v.err != io.EOF {
			return 0, v.err
		}
	case err == io.EOF:
		v.err = fmt.Errorf("blob %s in %s: %d bytes, want %d", v.want.Digest, v.in, v.want.Size-v.left, v.want.Size)
		return n, v.err
	case err != nil:
		v.err = fmt.Errorf("blob %s in %s: %w", v.want.Digest, v.in, err)
		return n, v.err
	}
	return n, nil
}

// finish judges the blob when as many bytes are read as it should have; io.EOF
// is the good verdict.
func (v *verifier) finish() error {
	var more [1]byte
	switch _, err := io.ReadFull(v.src, more[:]); {
	case err == nil:
		return fmt.Errorf("blob %s in %s: more than %d bytes", v.want.Digest, v.in, v.want.Size)
	case err != io.EOF:
		return fmt.Errorf("blob %s in %s: %w", v.want.Digest, v.in, err)
	}
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(v.hash.Sum(nil))}
	if got != v.want.Digest {
		return fmt.Errorf("blob %s in %s: its content has the digest %s", v.want.Digest, v.in, got)
	}
	return io.EOF
}

// Close says success only of a blob that was read whole and found right.
func (v *verifier) Close() error {
	if v.err == nil && v.left == 0 {
		v.err = v.finish()
	}
	verdict := v.err
	switch verdict {
	case io.EOF:
		verdict = nil
	case nil:
		verdict = fmt.Errorf("blob %s in %s: closed after %d of %d bytes, not verified", v.want.Digest, v.in, v.want.Size-v.left, v.want.Size)
		v.err = verdict
	}
	return errors.Join(verdict, v.src.Close())
}
