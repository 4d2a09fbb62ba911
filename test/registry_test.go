package test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
