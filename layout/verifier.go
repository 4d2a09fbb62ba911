package layout

import (
	"bufio"
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
	read int64 // of a blob of unknown size
	err  error // what every further Read returns

	ahead *bufio.Reader // of a blob of unknown size, sees its end before the reader does
}

// newVerifier checks what src gives. Of an [unmeasured] blob the digest alone is
// checked; it ends where src ends.
func newVerifier(src io.ReadCloser, want v1.Descriptor, in string) *verifier {
	v := &verifier{src: src, want: want, in: in, hash: sha256.New(), left: want.Size}
	if _, unknown := src.(unmeasured); unknown {
		v.ahead = bufio.NewReader(src)
	}
	return v
}

// Read returns an error that names the blob when it is shorter, longer or
// other than its descriptor says.
func (v *verifier) Read(p []byte) (int, error) {
	if v.ahead != nil {
		return v.readUnmeasured(p)
	}
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
		v.err = damaged(v.want, v.in, "%d bytes, want %d", v.want.Size-v.left, v.want.Size)
		return n, v.err
	case err != nil:
		v.err = fmt.Errorf("blob %s in %s: %w", v.want.Digest, v.in, err)
		return n, v.err
	}
	return n, nil
}

func (v *verifier) readUnmeasured(p []byte) (int, error) {
	if v.err != nil || len(p) == 0 {
		return 0, v.err
	}
	n, err := v.ahead.Read(p)
	v.hash.Write(p[:n])
	v.read += int64(n)
	if err == nil {
		_, err = v.ahead.Peek(1)
	}
	switch {
	case err == io.EOF:
		if v.err = v.judge(); v.err != io.EOF {
			return 0, v.err
		}
	case err != nil:
		v.err = fmt.Errorf("blob %s in %s: %w", v.want.Digest, v.in, err)
	}
	return n, nil
}

// finish judges the blob when as many bytes are read as it should have; io.EOF
// is the good verdict.
func (v *verifier) finish() error {
	var more [1]byte
	switch _, err := io.ReadFull(v.src, more[:]); {
	case err == nil:
		return damaged(v.want, v.in, "more than %d bytes", v.want.Size)
	case err != io.EOF:
		return fmt.Errorf("blob %s in %s: %w", v.want.Digest, v.in, err)
	}
	return v.judge()
}

// judge compares the digest of all that was read.
func (v *verifier) judge() error {
	got := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(v.hash.Sum(nil))}
	if got != v.want.Digest {
		return damaged(v.want, v.in, "its content has the digest %s", got)
	}
	return io.EOF
}

// Close says success only of a blob that was read whole and found right.
func (v *verifier) Close() error {
	if v.err == nil && v.left == 0 && v.ahead == nil {
		v.err = v.finish()
	}
	verdict := v.err
	switch {
	case verdict == io.EOF:
		verdict = nil
	case verdict == nil && v.ahead != nil:
		verdict = fmt.Errorf("blob %s in %s: closed after %d bytes, before its end, not verified", v.want.Digest, v.in, v.read)
		v.err = verdict
	case verdict == nil:
		verdict = fmt.Errorf("blob %s in %s: closed after %d of %d bytes, not verified", v.want.Digest, v.in, v.want.Size-v.left, v.want.Size)
		v.err = verdict
	}
	return errors.Join(verdict, v.src.Close())
}
