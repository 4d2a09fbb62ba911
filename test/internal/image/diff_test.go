package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	lower := []Entry{
		Dir("./", 0o755), Dir("./a/", 0o755), File("./a/same", 0o644, "1"), File("./a/text", 0o644, "1"), File("./a/mode", 0o644, "1"),
		File("./a/gone", 0o644, "1"), Dir("./b/", 0o755), Dir("./b/c/", 0o755), File("./b/c/x", 0o644, "1"), Dir("./was/", 0o755),
		File("./was/x", 0o644, "1"), Dir("./z/", 0o755), File("./z/one", 0o644, "1"), Hardlink("./z/two", "./z/one", 0o644), Dir("./y/", 0o755), File("./y/same", 0o644, "1"),
	}
	upper := []Entry{
		Dir("./", 0o755), Dir("./a/", 0o755), File("./a/same", 0o644, "1"), File("./a/text", 0o644, "2"), File("./a/mode", 0o600, "1"),
		Dir("./b/", 0o755), Symlink("./was", "a"), Dir("./z/", 0o755), File("./z/one", 0o644, "1"), Hardlink("./z/two", "./z/one", 0o644),
		Hardlink("./z/three", "./z/one", 0o644), Dir("./y/", 0o755), File("./y/same", 0o644, "1"),
	}
	dir := t.TempDir()
	for name, list := range map[string][]Entry{"lower": lower, "upper": upper} {
		var b bytes.Buffer
		if err := Entries(list...)(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := Diff(filepath.Join(dir, "lower"), filepath.Join(dir, "upper"))(&b); err != nil {
		t.Fatal(err)
	}
	var got []string
	tr := tar.NewReader(&b)
	for h, err := tr.Next(); err != io.EOF; h, err = tr.Next() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimPrefix(h.Name, "./"))
	}
	want := "a/.wh.gone b/.wh.c a/ a/text a/mode b/ was z/ z/one z/two z/three"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}
