package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	client "github.com/dlrun/dlrun/layout/registry"
	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/registry"
)

// tinyRegistry starts a registry that has the image tiny as lab/tiny:1.0, in Docker's media types or in OCI's.
func tinyRegistry(t *testing.T, docker bool) (*registry.Server, registry.Pushed) {
	t.Helper()
	tiny, err := image.Get(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	server, err := registry.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	pushed, err := registry.Push(t.Context(), server.Addr, "lab/tiny", "1.0", tiny, docker)
	if err != nil {
		t.Fatal(err)
	}
	return server, pushed
}

// TestClient asks a real registry, plain and behind a token server.
func TestClient(t *testing.T) {
	server, pushed := tinyRegistry(t, true)
	front, err := registry.NewFront(server.Addr, registry.FrontOptions{Life: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	for name, addr := range map[string]string{"plain": server.Addr, "token": front.Addr} {
		t.Run(name, func(t *testing.T) {
			c, err := client.New(client.Options{Backoff: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			ref, err := client.Parse("docker://" + addr + "/lab/tiny:1.0")
			if err != nil {
				t.Fatal(err)
			}
			d, raw, err := c.Manifest(t.Context(), ref.Name())
			if err != nil {
				t.Fatal(err)
			}
			if d.Digest != pushed.Digest || int64(len(raw)) != d.Size {
				t.Errorf("manifest %s, pushed %s", d.Digest, pushed.Digest)
			}
			manifest, err := v1.ParseManifest(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			layer := manifest.Layers[0]
			size, err := c.Stat(t.Context(), ref.Repository, layer.Digest)
			if err != nil || size != layer.Size {
				t.Errorf("stat: %d, %v; want %d", size, err, layer.Size)
			}
			_, err = c.Stat(t.Context(), ref.Repository, v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064d", 0)})
			if !errors.Is(err, client.ErrAbsent) {
				t.Errorf("stat of what is not there: %v", err)
			}
			time.Sleep(60 * time.Millisecond) // the token has expired
			for _, offset := range []int64{0, 1, layer.Size / 2, layer.Size - 1, layer.Size} {
				r, err := c.Blob(t.Context(), ref.Repository, layer, offset)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(r)
				if err != nil || int64(len(got)) != layer.Size-offset {
					t.Errorf("from %d on: %d bytes, %v", offset, len(got), err)
				}
				if offset == 0 && fmt.Sprintf("%x", sha256.Sum256(got)) != layer.Digest.Hex {
					t.Error("wrong content")
				}
				r.Close()
			}
			f, err := os.Create(filepath.Join(t.TempDir(), "blob"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, keep := range []int64{0, 1, layer.Size - 1, layer.Size} {
				if err := f.Truncate(keep); err != nil {
					t.Fatal(err)
				}
				if err := c.Download(t.Context(), ref.Repository, layer, f, nil); err != nil {
					t.Errorf("download after %d bytes: %v", keep, err)
				}
			}
			// A wrong beginning is not kept.
			if _, err := f.WriteAt([]byte("wrong"), 0); err != nil {
				t.Fatal(err)
			}
			if err := c.Download(t.Context(), ref.Repository, layer, f, nil); err != nil {
				t.Errorf("download after a wrong beginning: %v", err)
			}
		})
	}
	for _, r := range front.Take() {
		if r.Server == "cdn" && r.Authorization != "" {
			t.Errorf("the other host has seen credentials: %v", r)
		}
	}
}

// hangsUp closes the first connections without a word.
type hangsUp struct {
	net.Listener
	left atomic.Int32
}

func (l *hangsUp) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.left.Add(-1) < 0 {
			return c, err
		}
		c.Close()
	}
}

// TestHangsUp: a registry of https whose first connections fail is asked again by https, and hears nothing in clear.
func TestHangsUp(t *testing.T) {
	const secret = "secret"
	dir := t.TempDir()
	var clear atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			clear.Add(1)
		}
		if _, password, _ := r.BasicAuth(); password != secret {
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		io.WriteString(w, `{"schemaVersion": 2}`)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	flaky := &hangsUp{Listener: server.Listener}
	flaky.left.Store(3) // the question whether it speaks https, whether http, and the request
	server.Listener = flaky
	server.StartTLS()
	t.Cleanup(server.Close)
	addr := strings.TrimPrefix(server.URL, "https://")
	auth := base64.StdEncoding.EncodeToString([]byte("ann:" + secret))
	if err := os.WriteFile(filepath.Join(dir, "auth.json"), fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, addr, auth), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, "auth.json"))
	c, err := client.New(client.Options{Backoff: time.Millisecond, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := client.Parse("docker://" + addr + "/lab/tiny:1.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Manifest(t.Context(), ref.Name()); err != nil {
		t.Error(err)
	}
	if n := clear.Load(); n > 0 || flaky.left.Load() >= 0 {
		t.Errorf("%d requests in clear, %d connections to close", n, flaky.left.Load())
	}
}
