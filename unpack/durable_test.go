package unpack_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dlrun/dlrun/unpack"
)

// TestUnsynced: what was put into the store without waiting for the disk is used until the machine boots anew, and
// then unpacked anew; a later run, or one that is told to, sees it written out.
func TestUnsynced(t *testing.T) {
	img := stack(tarOf(file("f", "right")), tarOf(file("g", "right")))
	root := func(dir string, o unpack.Options) *unpack.Root {
		t.Helper()
		s := must[*unpack.Store](t)(unpack.Open(dir, o))
		defer s.Close()
		return must[*unpack.Root](t)(s.Root(context.Background(), img))
	}
	marks := func(dir string) []string {
		t.Helper()
		return must[[]string](t)(filepath.Glob(filepath.Join(dir, "layers/*/unsynced")))
	}
	dir := filepath.Join(tempDir(t), "store")
	r := root(dir, unpack.Options{})
	if n := len(marks(dir)); n != 2 {
		t.Fatalf("%d of 2 layers say that they may not be on disk", n)
	}

	// A crash has torn a layer.
	if err := os.WriteFile(filepath.Join(r.Layers[0], "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := must[[]byte](t)(os.ReadFile(filepath.Join(root(dir, unpack.Options{}).Layers[0], "f"))); len(got) != 0 {
		t.Fatal("a layer of this boot was unpacked twice")
	}
	for _, m := range marks(dir) {
		if err := os.WriteFile(m, []byte("00000000-0000-0000-0000-000000000000\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := must[[]byte](t)(os.ReadFile(filepath.Join(root(dir, unpack.Options{}).Layers[0], "f"))); string(got) != "right" {
		t.Errorf("after another boot the torn layer is used: %q", got)
	}

	// The kernel has written everything out meanwhile.
	old := time.Now().Add(-time.Hour)
	for _, m := range marks(dir) {
		if err := os.Chtimes(m, old, old); err != nil {
			t.Fatal(err)
		}
	}
	root(dir, unpack.Options{})
	if m := marks(dir); len(m) != 0 {
		t.Errorf("still said to be unsynced: %v", m)
	}

	// Told to wait.
	dir = filepath.Join(tempDir(t), "store")
	root(dir, unpack.Options{Sync: true})
	if m := marks(dir); len(m) != 0 {
		t.Errorf("unsynced in spite of Sync: %v", m)
	}
	dir = filepath.Join(tempDir(t), "store")
	root(dir, unpack.Options{})
	root(dir, unpack.Options{Sync: true})
	if m := marks(dir); len(m) != 0 {
		t.Errorf("left unsynced in spite of Sync: %v", m)
	}
}
