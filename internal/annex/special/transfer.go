package special

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// progressEvery is how often git-annex hears how far a transfer is: a progress bar wants no more, and the watch over
// stalled transfers no less.
const progressEvery = 100 * time.Millisecond

// localError is about the file that is to be filled: no other registry would help.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

func (s *session) transfer(p []string) ([][]string, error) {
	direction, key, file := p[0], p[1], p[2]
	if direction != "RETRIEVE" {
		return nil, errGetOnly
	}
	route, err := s.locate(key)
	if err != nil {
		return nil, err
	}
	var failures []error
	for i, l := range route {
		err := s.retrieve(l, file, keySize(key))
		if err == nil {
			return one("TRANSFER-SUCCESS", direction, key)
		}
		var ends *lostError
		var local *localError
		if errors.As(err, &ends) || errors.As(err, &local) || s.ctx.Err() != nil {
			return nil, err
		}
		failures = append(failures, err)
		if i < len(route)-1 {
			if err := s.tell("%w; trying %s", err, route[i+1]); err != nil {
				return nil, err
			}
		}
	}
	return nil, errors.Join(failures...)
}

// retrieve fills file with the content at l. What an earlier transfer has left there is the beginning of it, and stays
// there for a later one when this one is cut off; only what proves wrong is thrown away.
func (s *session) retrieve(l Location, file string, size int64) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return &localError{err}
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return &localError{fmt.Errorf("%s is not a regular file (%v)", file, err)}
	}
	d := &download{s: s, f: f, l: l, size: size, hash: sha256.New()}
	if err := d.resume(); err != nil {
		return &localError{err}
	}
	resumed := d.at > 0
	err = d.run(s.ctx)
	if errors.Is(err, errWrong) && resumed {
		// The beginning may have come from elsewhere.
		if err := d.restart(); err != nil {
			return &localError{err}
		}
		err = d.run(s.ctx)
	}
	if errors.Is(err, errWrong) {
		if err := d.restart(); err != nil {
			return &localError{err}
		}
	}
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return &localError{err}
	}
	return nil
}

// errWrong is wrapped by what is said of content that is not what its digest says.
var errWrong = errors.New("the registry sent something else")

// download is the state of a file that is being filled.
type download struct {
	s    *session
	f    *os.File
	l    Location
	size int64     // of the content, -1 if unknown
	at   int64     // bytes in f that count
	hash hash.Hash // of these
}

// resume counts what is there already. A content that is inflated on the way cannot be entered in the middle.
func (d *download) resume() error {
	if d.l.DiffID != "" {
		return d.restart()
	}
	n, err := io.Copy(d.hash, d.f)
	if err != nil {
		return err
	}
	if d.at = n; d.size >= 0 && n > d.size {
		return d.restart()
	}
	return nil
}

// restart throws away what is there.
func (d *download) restart() error {
	d.at = 0
	d.hash.Reset()
	if err := d.f.Truncate(0); err != nil {
		return err
	}
	_, err := d.f.Seek(0, io.SeekStart)
	return err
}

// run gets the rest and judges the whole.
func (d *download) run(ctx context.Context) error {
	if d.size < 0 || d.at < d.size {
		body, err := d.s.blobs.Open(ctx, d.l, d.size, d.at)
		if err != nil {
			return err
		}
		err = d.fill(body)
		if closing := body.Close(); err == nil && closing != nil {
			err = closing
		}
		if err != nil {
			return err
		}
	}
	if got := "sha256:" + hex.EncodeToString(d.hash.Sum(nil)); got != d.l.content() {
		return fmt.Errorf("%s: %w: its digest is %s", d.l, errWrong, got)
	}
	return nil
}

// fill appends body to the file and tells git-annex how far it is.
func (d *download) fill(body io.Reader) error {
	buf := make([]byte, 256<<10)
	for last := time.Now(); ; {
		n, err := body.Read(buf)
		if d.size >= 0 && d.at+int64(n) > d.size {
			return fmt.Errorf("%s: %w: more than %d bytes", d.l, errWrong, d.size)
		}
		if n > 0 {
			d.hash.Write(buf[:n])
			if _, err := d.f.Write(buf[:n]); err != nil {
				return &localError{err}
			}
			d.at += int64(n)
		}
		if now := time.Now(); err != nil || now.Sub(last) > progressEvery {
			last = now
			if err := d.s.send("PROGRESS", strconv.FormatInt(d.at, 10)); err != nil {
				return err
			}
		}
		if err == io.EOF && d.at < d.size {
			return fmt.Errorf("%s: cut off after %d of %d bytes", d.l, d.at, d.size)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
