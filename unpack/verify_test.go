package unpack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/unpack"
)

// TestVerify: a tree that has changed in any way is found out, and unpacked anew by the next run.
func TestVerify(t *testing.T) {
	img := stack(
		tarOf(dir("a", mode(0o700)), dir("a/b"), file("a/b/f", strings.Repeat("content", 100_000), mode(0o444)), symlink("l", "a"), fifo("p"), hardlink("h", "a/b/f"),
			dir("no", mode(0)), file("no/f", "hidden", mode(0)), dir("ro", mode(0o555)), file("ro/x", "x", xattr("user.a", "1"))),
		tarOf(file("a/b/new", "x"), whiteout("l"), opaque("ro"), file("ro/y", "y")),
	)
	shut := func(path string, do func() error) error { // a directory that must be opened for it
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		return errors.Join(os.Chmod(path, 0o700), do(), os.Chtimes(path, fi.ModTime(), fi.ModTime()), os.Chmod(path, fi.Mode().Perm()))
	}
	keepTime := func(path string, do func() error) error {
		fi, err := os.Lstat(path)
		if err != nil {
			return err
		}
		return errors.Join(do(), os.Chtimes(path, fi.ModTime(), fi.ModTime()))
	}
	flip := func(path string, at int64) error {
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		var b [1]byte
		_, err = f.ReadAt(b[:], at)
		b[0] ^= 1
		_, errW := f.WriteAt(b[:], at)
		return errors.Join(err, errW, f.Close(), os.Chmod(path, fi.Mode().Perm()), os.Chtimes(path, fi.ModTime(), fi.ModTime()))
	}
	spoils := map[string]struct {
		do   func(fs string) error
		what string
	}{
		"nothing":             {func(string) error { return nil }, ""},
		"first byte":          {func(fs string) error { return flip(fs+"/a/b/f", 0) }, "content"},
		"last byte":           {func(fs string) error { return flip(fs+"/a/b/f", 699_999) }, "content"},
		"a file that is shut": {func(fs string) error { return shut(fs+"/no", func() error { return flip(fs+"/no/f", 2) }) }, "content"},
		"a file more": {func(fs string) error {
			return keepTime(fs+"/a/b", func() error { return os.WriteFile(fs+"/a/b/more", nil, 0o644) })
		}, "not of the image"},
		"a file less": {func(fs string) error { return keepTime(fs+"/a/b", func() error { return os.Remove(fs + "/a/b/f") }) }, "missing"},
		"a mode":      {func(fs string) error { return os.Chmod(fs+"/a", 0o755) }, "mode 0755, not 0700"},
		"setuid":      {func(fs string) error { return os.Chmod(fs+"/a/b/f", 0o444|os.ModeSetuid) }, "mode"},
		"a time":      {func(fs string) error { return os.Chtimes(fs+"/a/b/f", time.Unix(5, 0), time.Unix(5, 0)) }, "time"},
		"a link's target": {func(fs string) error {
			return keepTime(fs, func() error {
				return errors.Join(os.Remove(fs+"/l"), os.Symlink("b", fs+"/l"), unix.Lutimes(fs+"/l", []unix.Timeval{{Sec: 1e9}, {Sec: 1e9}}))
			})
		}, "target"},
		"a type": {func(fs string) error {
			return keepTime(fs, func() error { return errors.Join(os.Remove(fs+"/p"), os.WriteFile(fs+"/p", nil, 0o644)) })
		}, "type"},
		"an attribute": {func(fs string) error {
			return shut(fs+"/ro", func() error { return unix.Lsetxattr(fs+"/ro/x", "user.a", []byte("2"), 0) })
		}, "attributes"},
		"a hard link": {func(fs string) error { return keepTime(fs, func() error { return os.Rename(fs+"/h", fs+"/../h") }) }, "missing"},
	}
	for form, overlay := range map[string]func(string) error{"overlay": nil, "merged": func(string) error { return errors.New("refused") }} {
		for name, tt := range spoils {
			if form == "merged" && (name == "a link's target" || name == "an attribute") {
				continue // hidden by the second layer
			}
			t.Run(form+"/"+name, func(t *testing.T) {
				at := filepath.Join(tempDir(t), "store")
				s := must[*unpack.Store](t)(unpack.Open(at, unpack.Options{Overlay: overlay}))
				if v := must[*unpack.Verification](t)(s.Verify(context.Background(), img)); v.Unpacked {
					t.Errorf("verified what is not there: %+v", v)
				}
				root := must[*unpack.Root](t)(s.Root(context.Background(), img))
				want := view(t, root)
				s.Close()
				fs := root.Dir
				if fs == "" {
					fs = root.Layers[0]
				}
				if err := tt.do(fs); err != nil {
					t.Fatal(err)
				}
				modes := modesOf(t, fs)
				v := must[*unpack.Verification](t)(s.Verify(context.Background(), img))
				noWork(t, at)
				if tt.what == "" {
					if !v.Unpacked || len(v.Damage) > 0 || v.Parts == 0 || v.Repaired {
						t.Errorf("got %+v", v)
					}
					if diff := cmp.Diff(modes, modesOf(t, fs)); diff != "" {
						t.Errorf("modes were changed: %s", diff)
					}
					return
				}
				if len(v.Damage) == 0 || !strings.Contains(fmt.Sprint(v.Damage), tt.what) || !v.Repaired {
					t.Errorf("got %+v, want %s", v, tt.what)
				}
				root = must[*unpack.Root](t)(s.Root(context.Background(), img))
				if diff := cmp.Diff(want, view(t, root)); diff != "" {
					t.Errorf("the next run sees %s", diff)
				}
			})
		}
	}
}

// TestVerifyMended: so are the directories that were put on top.
func TestVerifyMended(t *testing.T) {
	img := stack(tarOf(dir("a", mode(0o711), at(7))), tarOf(file("a/f", "x")))
	s := store(t, unpack.Options{})
	root := must[*unpack.Root](t)(s.Root(context.Background(), img))
	if len(root.Layers) != 3 {
		t.Fatalf("%v", root)
	}
	if err := os.Chmod(root.Layers[2]+"/a", 0o777); err != nil {
		t.Fatal(err)
	}
	v := must[*unpack.Verification](t)(s.Verify(context.Background(), img))
	if v.Parts != 3 || !strings.Contains(fmt.Sprint(v.Damage), "0777") {
		t.Errorf("got %+v", v)
	}
}

// TestVerifyReadOnly: a store that cannot be written is verified from beside.
func TestVerifyReadOnly(t *testing.T) {
	at := filepath.Join(tempDir(t), "store")
	img := stack(tarOf(file("f", "x")))
	s := must[*unpack.Store](t)(unpack.Open(at, unpack.Options{}))
	root := must[*unpack.Root](t)(s.Root(context.Background(), img))
	s.Close()
	// A file in the place of tmp/ keeps root out as well.
	if err := errors.Join(os.WriteFile(root.Layers[0]+"/f", []byte("y"), 0o644), os.Remove(at+"/tmp"), os.WriteFile(at+"/tmp", nil, 0o400)); err != nil {
		t.Fatal(err)
	}
	v := must[*unpack.Verification](t)(s.Verify(context.Background(), img))
	if len(v.Damage) == 0 || v.Repaired {
		t.Errorf("got %+v", v)
	}
}

// TestVerifyDamagedBlob: the image itself is looked at first.
func TestVerifyDamagedBlob(t *testing.T) {
	b := tarOf(file("f", "x"))
	good, bad := layer(b), compressed(b, b)
	s := store(t, unpack.Options{})
	must[*unpack.Root](t)(s.Root(context.Background(), imageOf(good)))
	inner := bad.open
	bad.open = func() io.Reader { return &flipping{inner(), 600} }
	if _, err := s.Verify(context.Background(), imageOf(bad)); err == nil || !strings.Contains(err.Error(), "sha256:") {
		t.Errorf("got %v", err)
	}
}

func modesOf(t *testing.T, root string) map[string]fs.FileMode {
	t.Helper()
	m := map[string]fs.FileMode{}
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if fi, e := os.Lstat(p); e == nil {
			m[p] = fi.Mode()
		}
		return nil
	})
	return m
}

// flipping reads another bit at one place.
type flipping struct {
	r  io.Reader
	at int
}

func (f *flipping) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if f.at >= 0 && f.at < n {
		p[f.at] ^= 1
	}
	f.at -= n
	return n, err
}
