package layout

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMoveAside is the exchange of file systems that have none, whole and interrupted.
func TestMoveAside(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "dir")
	stageAt := filepath.Join(base, ".dir"+stageName)
	put := func(dir, content string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is := func(dir, content string) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
		if string(raw) != content || (err != nil) != (content == "") {
			t.Errorf("%s holds %q (%v), want %q", dir, raw, err, content)
		}
	}
	put(dir, "old")
	put(stageAt, "new")
	if err := (&stage{dir: dir, path: stageAt}).moveAside(); err != nil {
		t.Fatal(err)
	}
	is(dir, "new")
	is(stageAt, "old")
	is(oldName(dir), "")

	// The new one is gone: the old one stays.
	if err := os.RemoveAll(stageAt); err != nil {
		t.Fatal(err)
	}
	if err := (&stage{dir: dir, path: stageAt}).moveAside(); err == nil {
		t.Error("moved what is not there")
	}
	is(dir, "new")

	// Killed between the two.
	if err := os.Rename(dir, oldName(dir)); err != nil {
		t.Fatal(err)
	}
	if err := rescue(dir); err != nil {
		t.Fatal(err)
	}
	is(dir, "new")
	// Killed after them.
	put(oldName(dir), "old")
	if err := rescue(dir); err != nil {
		t.Fatal(err)
	}
	is(dir, "new")
	is(oldName(dir), "")
}
