package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/internal/lazy"
)

// worthwhile is how many bytes make a try a success although it was cut off: the next one is the first again.
const worthwhile = 64 << 10

// Stat asks whether the registry has a blob, and returns its size in bytes. The
// error is [ErrAbsent] when it says that it does not; any other error leaves
// open whether it has.
func (c *Client) Stat(ctx context.Context, repo name.Repository, digest v1.Hash) (int64, error) {
	var size int64
	err := checkDigest(digest)
	if err == nil {
		err = c.somewhere(ctx, repo, func(ctx context.Context, b *budget, p place) error {
			a, err := c.ask(ctx, b, question{http.MethodHead, p, "blobs/" + digest.String(), nil})
			if err != nil {
				return err
			}
			if a.status != http.StatusOK {
				return newStatusError(a)
			}
			defer a.body.Close()
			if isHTML(a.header.Get("Content-Type")) {
				return errPortal(a.url)
			}
			if size = a.length; size < 0 {
				return fmt.Errorf("%s: it does not tell the size", showURL(a.url))
			}
			return nil
		})
	}
	if err != nil {
		return 0, fmt.Errorf("blob %s of %s: %w", digest, showRepository(repo), err)
	}
	return size, nil
}

// Blob reads the bytes of a blob from offset on. The first answer is there when
// it returns; the error is [ErrAbsent] when the registry does not have the
// blob. An answer that is cut off or stalls is asked for again from where it
// ended, until the tries without progress are used up. There are never more
// than d.Size-offset bytes, and EOF comes after exactly as many; their digest is
// for the caller to verify.
func (c *Client) Blob(ctx context.Context, repo name.Repository, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	return c.blob(ctx, repo, c.places(repo), d, offset)
}

func (c *Client) blob(ctx context.Context, repo name.Repository, places []place, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	b := &blob{ctx: ctx, client: c, places: places, want: d, at: offset}
	err := checkDigest(d.Digest)
	switch {
	case err != nil:
	case offset < 0 || offset > d.Size:
		err = fmt.Errorf("there is no byte %d of %d", offset, d.Size)
	case offset < d.Size:
		b.budget = c.budget(b.places[0])
		err = b.open()
	}
	b.name = fmt.Sprintf("blob %s of %s", d.Digest, showRepository(repo))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.name, err)
	}
	return b, nil
}

// checkDigest refuses what does not belong into a URL. Hashes that were parsed are in order.
func checkDigest(h v1.Hash) error {
	if parsed, err := v1.NewHash(h.String()); err != nil || parsed != h || h.Algorithm != "sha256" {
		return fmt.Errorf("%q is not a sha256 digest", h)
	}
	return nil
}

// blob is the reader. It is not safe for concurrent use.
type blob struct {
	ctx    context.Context
	client *Client
	name   string
	places []place // where to ask, the first until it fails
	want   v1.Descriptor
	budget *budget
	body   io.ReadCloser // of the answer at work, nil between two
	at     int64         // bytes of the blob before the next one
	fresh  int64         // bytes of the answer at work
	err    error         // what every further Read returns
}

func (b *blob) Read(p []byte) (int, error) {
	if b.err == nil && b.at == b.want.Size {
		b.err = io.EOF
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	for {
		if b.body == nil {
			if err := b.open(); err != nil {
				b.err = fmt.Errorf("%s: %w", b.name, err)
				return 0, b.err
			}
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.want.Size-b.at)])
		b.at += int64(n)
		b.fresh += int64(n)
		if b.at == b.want.Size {
			b.body.Close()
			b.body, b.err = nil, io.EOF
			return n, nil
		}
		if err != nil {
			if err := b.cutOff(err); err != nil {
				b.err = fmt.Errorf("%s: %w", b.name, err)
			}
		}
		if n > 0 || b.err != nil {
			return n, b.err
		}
	}
}

// cutOff ends an answer that broke off, and returns an error when no other one is to be had.
func (b *blob) cutOff(err error) error {
	b.body.Close()
	b.body = nil
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if b.fresh >= worthwhile {
		b.budget.progress(b.places[0])
	}
	err = fmt.Errorf("%s: cut off after %d of %d bytes: %w", b.places[0].host.name, b.at, b.want.Size, err)
	if err = b.budget.again(b.ctx, err, 0); err != nil {
		return b.next(err)
	}
	return nil
}

// next turns to another place, if there is one.
func (b *blob) next(err error) error {
	if len(b.places) == 1 || b.ctx.Err() != nil {
		return err
	}
	b.client.passOver(b.places[0], err)
	b.places = b.places[1:]
	b.budget = b.client.budget(b.places[0])
	return nil
}

// open asks for what is left.
func (b *blob) open() error {
	for {
		err := b.openHere()
		if err == nil {
			return nil
		}
		if err := b.next(err); err != nil {
			return err
		}
	}
}

func (b *blob) openHere() error {
	q := question{http.MethodGet, b.places[0], "blobs/" + b.want.Digest.String(), http.Header{}}
	if b.at > 0 {
		q.header.Set("Range", fmt.Sprintf("bytes=%d-", b.at))
	}
	for {
		a, err := b.client.ask(b.ctx, b.budget, q)
		if err != nil {
			return err
		}
		skip, err := b.judge(a)
		if err == nil {
			// A server without ranges starts over.
			if _, err = io.CopyN(io.Discard, a.body, skip); err == nil {
				b.body, b.fresh = a.body, 0
				return nil
			}
			err = fmt.Errorf("cut off before byte %d, where it was to go on: %w", b.at, err)
		}
		a.body.Close()
		if err := b.budget.again(b.ctx, err, 0); err != nil {
			return err
		}
	}
}

var contentRange = lazy.Regexp(`^bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)$`)

// judge compares the header of an answer with what was asked for, and returns how many bytes come before it.
func (b *blob) judge(a *answer) (skip int64, err error) {
	shown, left := showURL(a.url), b.want.Size-b.at
	switch a.status {
	case http.StatusPartialContent:
		said := a.header.Get("Content-Range")
		m := contentRange().FindStringSubmatch(said)
		if m == nil || m[1] != strconv.FormatInt(b.at, 10) || m[3] != "*" && m[3] != strconv.FormatInt(b.want.Size, 10) {
			return 0, permanent{fmt.Errorf("%s: it sends %q, asked for was byte %d of %d on", shown, oneLine(said), b.at, b.want.Size)}
		}
	case http.StatusOK:
		skip, left = b.at, b.want.Size
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, permanent{fmt.Errorf("%s: it has no byte %d, there should be %d", shown, b.at, b.want.Size)}
	default:
		return 0, permanent{newStatusError(a)}
	}
	if encoding := a.header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return 0, permanent{fmt.Errorf("%s: the answer is encoded (%s), which was not asked for", shown, oneLine(encoding))}
	}
	if a.length >= 0 && a.length != left {
		if isHTML(a.header.Get("Content-Type")) {
			return 0, permanent{errPortal(a.url)}
		}
		// A 206 may bring less than was asked for; then the next request goes on.
		if a.status == http.StatusOK || a.length > left || a.length == 0 {
			return 0, permanent{fmt.Errorf("%s: it sends %d bytes, there should be %d", shown, a.length, left)}
		}
	}
	if a.length < 0 && isHTML(a.header.Get("Content-Type")) {
		return 0, permanent{errPortal(a.url)}
	}
	return skip, nil
}

// Close ends the request at work.
func (b *blob) Close() error {
	if b.err == nil {
		b.err = errors.New(b.name + ": read after close")
	}
	if b.body == nil {
		return nil
	}
	err := b.body.Close()
	b.body = nil
	return err
}
