package unpack

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	chunkSize   = 512 << 10
	chunkCount  = 4
	smallWindow = 8 << 20  // what zstd -19 makes; RFC 8878 recommends to support it
	largeWindow = 64 << 20 // one layer at a time may have it
)

// chunk is a piece of the tar archive, read by the hash and by the extraction.
type chunk struct {
	b       []byte
	readers atomic.Int32
}

// stream is the uncompressed layer. It is inflated in one goroutine, hashed in
// another, and read by the caller, who must read to the end or cancel the context.
type stream struct {
	tar    chan *chunk
	free   chan *chunk
	cur    *chunk
	rest   []byte
	err    error // why tar was closed
	sum    []byte
	hashed chan struct{}
}

// newStream starts to read r, of which there may be max bytes.
func newStream(ctx context.Context, r io.Reader, max int64) *stream {
	s := &stream{
		tar:    make(chan *chunk, chunkCount),
		free:   make(chan *chunk, chunkCount),
		hashed: make(chan struct{}),
	}
	for range chunkCount {
		s.free <- &chunk{b: make([]byte, chunkSize)}
	}
	hash := make(chan *chunk, chunkCount)
	go func() {
		h := sha256.New()
		for c := range hash {
			h.Write(c.b)
			s.release(c)
		}
		s.sum = h.Sum(nil)
		close(s.hashed)
	}()
	go func() {
		defer close(s.tar)
		defer close(hash)
		defer func() {
			if p := recover(); p != nil {
				s.err = fmt.Errorf("internal error: %v", p)
			}
		}()
		for total := int64(0); ; {
			var c *chunk
			select {
			case c = <-s.free:
			case <-ctx.Done():
				s.err = context.Cause(ctx)
				return
			}
			n, err := io.ReadFull(r, c.b[:chunkSize])
			if err == io.ErrUnexpectedEOF && n > 0 {
				// Either r ended here or it is cut off: the next Read tells.
				err = nil
			}
			if total += int64(n); total > max {
				s.err = &LimitError{"inflate", "bytes", max}
				return
			}
			if n > 0 {
				c.b = c.b[:n]
				c.readers.Store(2)
				hash <- c
				s.tar <- c
			}
			if err != nil {
				s.err = err
				return
			}
		}
	}()
	return s
}

func (s *stream) release(c *chunk) {
	if c.readers.Add(-1) == 0 {
		s.free <- c
	}
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.cur != nil {
			s.release(s.cur)
			s.cur = nil
		}
		c, ok := <-s.tar
		if !ok {
			return 0, s.err
		}
		s.cur, s.rest = c, c.b
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// diffID returns the sha256 in hex of what was read, once the end was.
func (s *stream) diffID() string {
	<-s.hashed
	return hex.EncodeToString(s.sum)
}

// decompress chooses by the first bytes, as media types are known to lie. large
// holds one token for the layer that may use a large window. The function
// returned frees what the decompressor holds.
func decompress(r *bufio.Reader, large chan struct{}) (io.Reader, func(), error) {
	magic, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, err
		}
		z.Multistream(false)
		return &members{r: r, z: z}, func() { z.Close() }, nil
	case len(magic) == 4 && (string(magic) == "\x28\xb5\x2f\xfd" || string(magic[1:]) == "\x2a\x4d\x18" && magic[0]&0xf0 == 0x50):
		window, free := uint64(smallWindow), func() {}
		var first zstd.Header
		if b, _ := r.Peek(zstd.HeaderMaxSize); first.Decode(b) == nil && first.WindowSize > smallWindow {
			<-large
			window, free = largeWindow, func() { large <- struct{}{} }
		}
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(1<<62))
		if err != nil {
			free()
			return nil, nil, err
		}
		return windowed{z, window}, func() { z.Close(); free() }, nil
	}
	for packed, magic := range map[string]string{"bzip2": "BZh", "xz": "\xfd7zXZ\x00"} {
		if b, _ := r.Peek(len(magic)); string(b) == magic {
			return nil, nil, fmt.Errorf("it is compressed by %s; a layer is a tar, plain or compressed by gzip or zstd", packed)
		}
	}
	return r, func() {}, nil
}

// windowed explains why a zstd stream is not read.
type windowed struct {
	*zstd.Decoder
	max uint64
}

func (w windowed) Read(p []byte) (int, error) {
	n, err := w.Decoder.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = fmt.Errorf("zstd window of more than %d MiB, which takes too much memory (made by --long or --ultra): %w", w.max>>20, err)
	}
	return n, err
}

// members reads gzip members one after the other. What follows the last one is
// padding, as in gzip(1); the diff_id tells whether anything is amiss.
type members struct {
	r *bufio.Reader
	z *gzip.Reader
}

func (m *members) Read(p []byte) (int, error) {
	for {
		n, err := m.z.Read(p)
		if n > 0 || err != io.EOF {
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
		if magic, err := m.r.Peek(2); err != nil && err != io.EOF {
			return 0, err
		} else if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
			return 0, io.EOF
		}
		if err := m.z.Reset(m.r); err != nil {
			return 0, err
		}
		m.z.Multistream(false)
	}
}

// blobReader counts what is read of the blob and stops when ctx is done.
type blobReader struct {
	ctx   context.Context
	r     io.Reader
	count func(n int)
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	n, err := b.r.Read(p)
	b.count(n)
	return n, err
}

// drain reads to the end, or to where the context was cancelled.
func (s *stream) drain() { io.Copy(io.Discard, s) }
