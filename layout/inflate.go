package layout

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compressions, as their first bytes tell them. What a media type or an ending
// says is known to be wrong now and then.
const (
	plain    = ""
	gzipped  = "gzip"
	zstdized = "zstd"
)

// compression tells what head, the first bytes of a file, begins; four are enough.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return gzipped
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte("\x2a\x4d\x18")): // a skippable frame
		return zstdized
	}
	return plain
}

// inflate gives the uncompressed bytes of src, which it closes with what it
// returns, also when it fails.
func inflate(src io.ReadCloser) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(src, 64<<10)
	head, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, src.Close())
	}
	i := &inflated{Reader: buffered, stored: buffered, close: src.Close}
	switch compression(head) {
	case gzipped:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, errors.Join(err, src.Close())
		}
		z.Multistream(false)
		i.Reader = &gzipMembers{buffered, z}
	case zstdized:
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(1<<62))
		if err != nil {
			return nil, errors.Join(err, src.Close())
		}
		i.Reader = z
		i.close = func() error { z.Close(); return src.Close() }
	}
	return i, nil
}

// inflated is a stream under decompression.
type inflated struct {
	io.Reader
	stored io.Reader // what is left of the compressed stream
	close  func() error
	ended  bool
}

func (i *inflated) Read(p []byte) (int, error) {
	n, err := i.Reader.Read(p)
	i.ended = i.ended || err == io.EOF
	return n, err
}

// Close reads padding that follows the compressed bytes, for it counts for the
// digest of what is stored, and says what closing that says.
func (i *inflated) Close() error {
	var err error
	if i.ended {
		_, err = io.Copy(io.Discard, i.stored)
	}
	return errors.Join(err, i.close())
}

// gzipMembers reads gzip members one after the other. What follows the last
// one is padding, as in gzip(1).
type gzipMembers struct {
	src *bufio.Reader
	z   *gzip.Reader
}

func (m *gzipMembers) Read(p []byte) (int, error) {
	for {
		n, err := m.z.Read(p)
		if err != io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		head, err := m.src.Peek(2)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if compression(head) != gzipped {
			return 0, io.EOF
		}
		if err := m.z.Reset(m.src); err != nil {
			return 0, err
		}
		m.z.Multistream(false)
	}
}
