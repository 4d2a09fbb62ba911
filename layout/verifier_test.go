package layout

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestVerifier feeds it from sources that change while they are read, which no
// look at the file beforehand can see.
func TestVerifier(t *testing.T) {
	const content = "some content of a blob"
	digest, size, _ := v1.SHA256(strings.NewReader(content))
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		src  io.Reader
		want string // words of the error, empty for none
	}{
		{"right", strings.NewReader(content), ""},
		{"right in bytes", iotest.OneByteReader(strings.NewReader(content)), ""},
		{"right with early EOF", iotest.DataErrReader(strings.NewReader(content)), ""},
		{"empty", strings.NewReader(""), "0 bytes, want 22"},
		{"shorter", strings.NewReader(content[:21]), "21 bytes, want 22"},
		{"shorter with early EOF", iotest.DataErrReader(strings.NewReader(content[:21])), "21 bytes, want 22"},
		{"longer", strings.NewReader(content + "."), "more than 22 bytes"},
		{"endless", io.MultiReader(strings.NewReader(content), endless{}), "more than 22 bytes"},
		{"other", strings.NewReader(strings.ToUpper(content)), "its content has the digest sha256:"},
		{"broken", io.MultiReader(strings.NewReader(content[:5]), iotest.ErrReader(broken)), "broken"},
		{"broken at the end", io.MultiReader(strings.NewReader(content), iotest.ErrReader(broken)), "broken"},
	} {
		for _, chunk := range []int{1, 22, 4096} {
			src := &closeCounter{Reader: c.src}
			if s, ok := c.src.(io.Seeker); ok {
				s.Seek(0, io.SeekStart)
			} else if chunk != 1 {
				continue // it can be read once only
			}
			v := newVerifier(src, v1.Descriptor{Digest: digest, Size: size}, "DIR")
			var got bytes.Buffer
			_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{v}, make([]byte, chunk))
			_, again := v.Read(make([]byte, 1))
			closeErr := v.Close()
			if src.closed != 1 {
				t.Errorf("%s: closed %d times", c.name, src.closed)
			}
			if c.want == "" {
				if err != nil || again != io.EOF || closeErr != nil || got.String() != content {
					t.Errorf("%s: %q, %v, then %v, close %v", c.name, got.String(), err, again, closeErr)
				}
				continue
			}
			for _, err := range []error{err, again, closeErr} {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "blob "+digest.String()+" in DIR") {
					t.Errorf("%s: error %v, want %q", c.name, err, c.want)
				}
			}
			if got.Len() >= len(content) {
				t.Errorf("%s: all bytes were handed out", c.name)
			}
		}
	}
}

// TestVerifierNothing checks that a blob of no bytes is verified too.
func TestVerifierNothing(t *testing.T) {
	empty, _, _ := v1.SHA256(strings.NewReader(""))
	other, _, _ := v1.SHA256(strings.NewReader("x"))
	for digest, ok := range map[v1.Hash]bool{empty: true, other: false} {
		v := newVerifier(io.NopCloser(strings.NewReader("")), v1.Descriptor{Digest: digest}, "DIR")
		if err := v.Close(); (err == nil) != ok {
			t.Errorf("close without a read: %v", err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }
