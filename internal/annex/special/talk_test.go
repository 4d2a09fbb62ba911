package special_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlrun/dlrun/internal/annex/special"
)

// content is what the tests fetch, blob and inflated: two places hold them, each may fail in its own way.
const content = "the layer, as it is stored"

const inflated = "the layer, inflated"

func digest(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

// fakes answer by the name of the registry.
type fakes struct {
	t    testing.TB
	asks []string // what was asked: "stat HOST/NAME", "open HOST/NAME OFFSET", with "http" where that is allowed
}

var errRefused = errors.New("401 Unauthorized\nlog in first")

func (f *fakes) note(what string, l special.Location, more ...any) {
	line := what + " " + l.Host + "/" + l.Name
	if l.Plain {
		line += " http"
	}
	f.asks = append(f.asks, line+fmt.Sprint(more...))
}

func (f *fakes) Stat(_ context.Context, l special.Location) (int64, error) {
	f.note("stat", l)
	switch l.Host {
	case "good.org", "short.org", "lying.org":
		return int64(len(content)), nil
	case "chunked.org":
		return -1, nil
	case "empty.org":
		return 0, fmt.Errorf("%s: 404 Not Found: %w", l, special.ErrAbsent)
	case "broken.org":
		return 0, fmt.Errorf("%s: 503 Service Unavailable", l)
	}
	return 0, fmt.Errorf("%s: %w", l, errRefused)
}

func (f *fakes) Open(_ context.Context, l special.Location, _, offset int64) (io.ReadCloser, error) {
	f.note("open", l, " ", offset)
	text := content
	if l.DiffID != "" {
		text = inflated
	}
	switch l.Host {
	case "good.org", "chunked.org":
		return io.NopCloser(strings.NewReader(text[offset:])), nil
	case "short.org": // the connection is lost
		return io.NopCloser(io.MultiReader(strings.NewReader(text[offset:10]), failing{l})), nil
	case "lying.org": // something else of the same size
		return io.NopCloser(strings.NewReader(strings.ToUpper(text)[offset:])), nil
	case "endless.org":
		return io.NopCloser(zeros{}), nil
	case "empty.org":
		return nil, fmt.Errorf("%s: 404 Not Found: %w", l, special.ErrAbsent)
	}
	return nil, fmt.Errorf("%s: %w", l, errRefused)
}

type failing struct{ special.Location }

func (f failing) Read([]byte) (int, error) { return 0, fmt.Errorf("%s: connection reset", f.Location) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// talk plays git-annex: of a script's lines those with "> " are sent, those with "< " must come back, in this order,
// and "end" closes. In both, $FILE, $KEY, $BLOB and $DIFF stand for a path below a fresh directory, the SHA256 key of content, its digest,
// and the digest of inflated. It returns what was asked of registries, and what Serve returned.
func talk(t *testing.T, dir, script string) (asks []string, err error) {
	t.Helper()
	here := strings.NewReplacer("$FILE", filepath.Join(dir, "the file"), "$BLOB", digest(content), "$DIFF", digest(inflated),
		"$KEY", fmt.Sprintf("SHA256-s%d--%s", len(content), strings.TrimPrefix(digest(content), "sha256:")))
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	blobs := &fakes{t: t}
	r := special.Remote{In: inR, Out: outW, Blobs: blobs}
	done := make(chan error, 1)
	go func() {
		err := r.Serve(t.Context())
		outW.Close()
		inR.Close()
		done <- err
	}()
	watchdog := time.AfterFunc(10*time.Second, func() { outR.CloseWithError(errors.New("no answer within 10 s")) })
	defer watchdog.Stop()
	got := bufio.NewScanner(outR)
	for line := range strings.Lines("< VERSION 1\n" + here.Replace(script)) {
		line = strings.TrimRight(strings.TrimLeft(line, "\t"), "\n")
		switch {
		case line == "":
		case line == "end":
			inW.Close()
		case strings.HasPrefix(line, "> "):
			if _, err := io.WriteString(inW, line[2:]+"\n"); err != nil {
				t.Fatalf("send %q: %v", line[2:], err)
			}
		default:
			if !got.Scan() {
				t.Fatalf("want %q, but it ended: %v", line[2:], got.Err())
			}
			if want := strings.TrimPrefix(line, "< "); got.Text() != want {
				t.Fatalf("got  %q\nwant %q", got.Text(), want)
			}
		}
	}
	inW.Close()
	if got.Scan() {
		t.Fatalf("and then %q", got.Text())
	}
	return blobs.asks, <-done
}

func read(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "the file"))
	if errors.Is(err, os.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(data))
}
