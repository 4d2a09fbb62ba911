package test

import (
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	client "github.com/dlrun/dlrun/layout/registry"
	"github.com/dlrun/dlrun/test/internal/registry"
)

// TestPublic: who needs no token, and that no password is used where none may be.
func TestPublic(t *testing.T) {
	server, pushed := tinyRegistry(t, false)
	front, err := registry.NewFront(server.Addr, registry.FrontOptions{Username: "me", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	auth := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(auth, []byte(`{"auths":{"`+front.Addr+`":{"username":"me","password":"secret"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", auth)
	layer := pushed.Layers[0]
	for addr, want := range map[string]bool{server.Addr: true, front.Addr: false} {
		c, err := client.New(client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := client.Parse("docker://" + addr + "/lab/tiny")
		if err != nil {
			t.Fatal(err)
		}
		url, ok, err := c.Public(t.Context(), ref.Repository, layer)
		if err != nil || ok != want || url != "http://"+addr+"/v2/lab/tiny/blobs/"+layer.String() {
			t.Errorf("%s: %s, %t, %v; want %t", addr, url, ok, err, want)
		}
		if _, ok, err := c.Public(t.Context(), ref.Repository, v1.Hash{Algorithm: "sha256", Hex: pushed.Config.Hex[:63] + "x"}); ok || err == nil {
			t.Errorf("%s: a digest that is none is taken", addr)
		}
		for anonymous, want := range map[bool]bool{false: true, true: addr == server.Addr} {
			c, err := client.New(client.Options{Anonymous: anonymous, Tries: 1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Stat(t.Context(), ref.Repository, layer); (err == nil) != want {
				t.Errorf("%s, anonymous %t: %v", addr, anonymous, err)
			}
		}
	}
}
