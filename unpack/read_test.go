package unpack

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadFile reads a file of a root of two layers.
func TestReadFile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		top  func(file string) error // makes the file of the upper layer
		want string                  // "" is an error
	}{
		"in the lower layer alone": {func(string) error { return nil }, "lower"},
		"in both":                  {func(f string) error { return os.WriteFile(f, []byte("upper"), 0o644) }, "upper"},
		"a link beside it": {func(f string) error {
			return errors.Join(os.WriteFile(f+"2", []byte("beside"), 0o644), os.Symlink("passwd2", f))
		}, "beside"},
		"a link to the host": {func(f string) error { return os.Symlink(outside, f) }, ""},
		"a link upwards":     {func(f string) error { return os.Symlink("../../../outside", f) }, ""},
		"a fifo":             {func(f string) error { return unix.Mkfifo(f, 0o644) }, ""},
		"a directory":        {func(f string) error { return os.Mkdir(f, 0o755) }, ""},
		"too large":          {func(f string) error { return errors.Join(os.WriteFile(f, nil, 0o644), os.Truncate(f, maxRead+1)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Root{Layers: []string{t.TempDir(), t.TempDir()}}
			for _, l := range r.Layers {
				if err := os.Mkdir(filepath.Join(l, "etc"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(r.Layers[0], "etc/passwd"), []byte("lower"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := tt.top(filepath.Join(r.Layers[1], "etc/passwd")); err != nil {
				t.Fatal(err)
			}
			got, err := r.ReadFile("etc/passwd")
			if string(got) != tt.want || (err != nil) != (tt.want == "") || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
	if _, err := (&Root{Dir: t.TempDir()}).ReadFile("etc/passwd"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nowhere: %v", err)
	}
}
