package unpack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// hole is the smallest aligned run of zeros that is not written.
const hole = 64 << 10

var zeros [hole]byte

// content writes regular files with holes. It is handed to umoci as the reader
// of an entry: io.Copy gives way to WriteTo, which finds the file it is to fill.
type content struct {
	ctx    context.Context
	budget *budget
	buf    []byte // a multiple of hole
	r      io.Reader
	size   int64

	written int64 // of all files so far, in whole blocks
}

// block is what file systems allocate, in bytes.
const block = 4096

func (c *content) Read([]byte) (int, error) {
	return 0, errors.New("content can only be written to a file")
}

// WriteTo fills the new, empty file w with all that the reader has.
func (c *content) WriteTo(w io.Writer) (int64, error) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, fmt.Errorf("%T is no file", w)
	}
	var off, end int64 // end of what was written
	for off < c.size {
		if c.ctx.Err() != nil {
			return off, context.Cause(c.ctx)
		}
		b := c.buf[:min(int64(len(c.buf)), c.size-off)]
		if n, err := io.ReadFull(c.r, b); err != nil {
			return off + int64(n), &formatError{fmt.Errorf("read content: %w", err)}
		}
		for start, stop := range data(b) {
			if err := c.budget.write(int64(stop - start)); err != nil {
				return off, err
			}
			if _, err := f.WriteAt(b[start:stop], off+int64(start)); err != nil {
				return off, err
			}
			end = off + int64(stop)
			c.written += int64(stop-start+block-1) &^ (block - 1)
		}
		off += int64(len(b))
	}
	if end < c.size {
		if err := f.Truncate(c.size); err != nil {
			return end, err
		}
	}
	return off, nil
}

// data yields the runs of b that are to be written, as start and stop.
func data(b []byte) func(yield func(int, int) bool) {
	return func(yield func(int, int) bool) {
		start := -1
		for i := 0; i < len(b); i += hole {
			block := b[i:min(i+hole, len(b))]
			empty := len(block) == hole && bytes.Equal(block, zeros[:])
			if empty && start >= 0 {
				if !yield(start, i) {
					return
				}
				start = -1
			} else if !empty && start < 0 {
				start = i
			}
		}
		if start >= 0 {
			yield(start, len(b))
		}
	}
}
