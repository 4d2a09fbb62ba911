package corpus

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

func sha(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func gz(b []byte) []byte {
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, flate.BestSpeed)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

// gzNamed is a member whose header has all that a header may have.
func gzNamed(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Name, w.Comment, w.Extra = "layer.tar", "made by a test", bytes.Repeat([]byte("extra"), 1000)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

// gzFlushed is framed as buildah and skopeo do: a sync flush now and then.
func gzFlushed(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	for len(b) > 0 {
		n := min(len(b), 1000)
		w.Write(b[:n])
		w.Flush()
		b = b[n:]
	}
	w.Close()
	return buf.Bytes()
}

func gzStored(b []byte) []byte {
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, gzip.NoCompression)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

// inPieces compresses b in n pieces, one after the other.
func inPieces(n int, how func([]byte) []byte, b []byte) []byte {
	var out []byte
	for i := range n {
		out = append(out, how(b[len(b)*i/n:len(b)*(i+1)/n])...)
	}
	return out
}

// zst knows the size of its content and has a checksum; zstStream knows neither.
func zst(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func zstStream(b []byte, opts ...zstd.EOption) []byte {
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, append([]zstd.EOption{zstd.WithEncoderCRC(false)}, opts...)...)
	if err != nil {
		panic(err)
	}
	for len(b) > 0 { // a single write would be a frame with its size
		n := min(len(b), 700)
		w.Write(b[:n])
		b = b[n:]
	}
	w.Close()
	return buf.Bytes()
}

func skippable(n int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x184d2a53)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	return append(b, bytes.Repeat([]byte("skip"), n/4)...)
}

// zstZeros is n zeros in 4 bytes for each 128 KiB.
func zstZeros(n int64) []byte {
	const block = 128 << 10
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58} // no content size, a window of 2 MiB
	for left := n; left > 0; left -= block {
		size := min(left, block)
		last := uint32(0)
		if left <= block {
			last = 1
		}
		h := last | 1<<1 | uint32(size)<<3 // RLE
		b = append(b, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	return b
}

// zstWindow is an empty frame that asks for a window of 1<<log bytes.
func zstWindow(log int) []byte {
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0, byte(log-10) << 3, 1, 0, 0}
}

// gzZeros is n zeros in members of 1 MiB each.
func gzZeros(n int64) []byte { return bytes.Repeat(gz(make([]byte, 1<<20)), int(n>>20)) }

func digest(hex string) string { return "sha256:" + hex }

// flip is b with one bit flipped, counted from the end when i is negative.
func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	if i < 0 {
		i += len(b)
	}
	if i < 0 || i >= len(b) {
		panic(fmt.Sprint(i, " of ", len(b)))
	}
	b[i] ^= 1
	return b
}
