package unpack_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/unpack"
)

// TestWarm: an image that the store holds is neither opened nor is anything written.
func TestWarm(t *testing.T) {
	for form, s := range both(t) {
		t.Run(form, func(t *testing.T) {
			img := crowd()
			root := must[*unpack.Root](t)(s.Root(context.Background(), img))
			dir := root.Dir
			if dir == "" {
				dir = root.Layers[0]
			}
			dir = filepath.Join(dir, "../../..")
			before := state(t, dir)
			img.asked.Store(0)
			again := must[*unpack.Root](t)(s.Root(context.Background(), img))
			if diff := cmp.Diff(root, again); diff != "" || img.asked.Load() != 0 {
				t.Errorf("asked %d times for layers: %s", img.asked.Load(), diff)
			}
			if diff := cmp.Diff(before, state(t, dir)); diff != "" {
				t.Errorf("the store was changed: %s", diff)
			}
		})
	}
}

// state lists what lies below dir, with times.
func state(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		m[p] = fi.Mode().String() + fi.ModTime().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestBroken: a marker or a layer that makes no sense is made anew.
func TestBroken(t *testing.T) {
	replace := func(with string) func(string) error {
		return func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return os.WriteFile(p, []byte(with), 0o600)
		}
	}
	junk := []string{"", "{", "null", "[]", `"x"`, "\x00\xff", `{"Version":0}`, `{"Version":1,"Chain":"../../.."}`, strings.Repeat(" ", 5000), `{"Version":1e99}`}
	for form, s := range both(t) {
		img := stack(tarOf(dir("a", mode(0o700)), file("f", "x")), tarOf(opaque("."), file("g", "x")), tarOf(file("a/h", "x")))
		root := must[*unpack.Root](t)(s.Root(context.Background(), img))
		part := root.Dir
		if part == "" {
			part = root.Layers[0]
		}
		base := filepath.Join(part, "../../..")
		want := view(t, root)
		try := func(name string, err error) {
			t.Run(form+"/"+name, func(t *testing.T) {
				if err != nil {
					t.Fatal(err)
				}
				root, err := s.Root(context.Background(), img)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, view(t, root)); diff != "" {
					t.Error(diff)
				}
			})
		}
		valid := must[[]string](t)(filepath.Glob(base + "/roots/*.json"))[0]
		good := string(must[[]byte](t)(os.ReadFile(valid)))
		for _, j := range append(junk, good[:len(good)/2], strings.Replace(good, `"From":1`, `"From":-1`, 1), strings.Replace(good, `"From":1`, `"From":99`, 1),
			strings.Replace(good, `"From":1`, `"From":3`, 1)) {
			try("marker "+j[:min(len(j), 20)], replace(j)(valid))
		}
		try("no marker", os.Remove(valid))
		try("marker a directory", errors.Join(os.Remove(valid), os.Mkdir(valid, 0o700)))
		try("marker a symlink", errors.Join(os.Remove(valid), os.Symlink("/dev/zero", valid)))
		try("no part", os.RemoveAll(filepath.Dir(part)))
		try("part empty", errors.Join(os.RemoveAll(filepath.Dir(part)), os.Mkdir(filepath.Dir(part), 0o700)))
		try("part a file", errors.Join(os.RemoveAll(filepath.Dir(part)), os.WriteFile(filepath.Dir(part), nil, 0o600)))
		if form == "overlay" {
			meta := filepath.Join(filepath.Dir(part), "meta.json")
			for _, j := range junk {
				try("meta "+j[:min(len(j), 20)], errors.Join(os.Remove(valid), replace(j)(meta)))
			}
		}
		noWork(t, base)
	}
}

func noWork(t *testing.T, store string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(store, "tmp/*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestReadOnly: a store that cannot be written to serves what it holds.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(tempDir(t), "store")
	img := stack(tarOf(file("f", "x")))
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
	root := must[*unpack.Root](t)(s.Root(context.Background(), img))
	// A file in the place of tmp/ keeps root out as well.
	err := errors.Join(os.Remove(dir+"/tmp"), os.WriteFile(dir+"/tmp", nil, 0o400), os.RemoveAll(dir+"/locks"))
	for _, d := range []string{"", "layers", "roots", "merged"} {
		err = errors.Join(err, os.Chmod(filepath.Join(dir, d), 0o555))
	}
	if err != nil {
		t.Fatal(err)
	}
	s = must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
	again := must[*unpack.Root](t)(s.Root(context.Background(), img))
	if diff := cmp.Diff(root, again); diff != "" {
		t.Error(diff)
	}
	_, err = s.Root(context.Background(), stack(tarOf(file("g", "x"))))
	var full *unpack.StoreError
	if !errors.As(err, &full) || full.Dir != dir || !strings.Contains(full.Hint(), "--cache") {
		t.Errorf("got %v", err)
	}
}

func TestOpen(t *testing.T) {
	base := tempDir(t)
	dir := filepath.Join(base, "a", "b")
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
	if _, err := os.Lstat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open made a directory")
	}
	if _, err := s.Root(context.Background(), stack(tarOf(file("f", "x")))); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"", "layers", "roots", "merged", "tmp", "locks"} {
		if fi := must[os.FileInfo](t)(os.Lstat(filepath.Join(dir, d))); fi.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%q has mode %v", d, fi.Mode())
		}
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{file, file + "/store"} {
		if _, err := unpack.Open(d, unpack.Options{}); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("%s: got %v", d, err)
		}
	}
}

// TestOverlayAsked: the trial mount costs, so it is made at most once, in the
// store, and never for what is there.
func TestOverlayAsked(t *testing.T) {
	dir := filepath.Join(tempDir(t), "store")
	asked := 0
	o := unpack.Options{Overlay: func(at string) error {
		asked++
		if !strings.HasPrefix(at, dir+"/") {
			t.Errorf("asked for %s", at)
		}
		return os.Mkdir(filepath.Join(at, "probe"), 0o700)
	}}
	s := must[*unpack.Store](t)(unpack.Open(dir, o))
	for i, name := range []string{"a", "b", "a"} {
		root := must[*unpack.Root](t)(s.Root(context.Background(), stack(tarOf(file(name, "x")))))
		if asked != 1 || root.Dir != "" {
			t.Errorf("run %d: asked %d times, %v", i, asked, root)
		}
	}
	s = must[*unpack.Store](t)(unpack.Open(dir, o))
	must[*unpack.Root](t)(s.Root(context.Background(), stack(tarOf(file("a", "x")))))
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestProgress ends with all there is to do done.
func TestProgress(t *testing.T) {
	var last unpack.Progress
	s := store(t, unpack.Options{Progress: func(p unpack.Progress) { last = p }})
	img := crowd()
	must[*unpack.Root](t)(s.Root(context.Background(), img))
	var total int64
	for _, l := range img.layers {
		total += l.size
	}
	if want := (unpack.Progress{Layers: 3, Done: 3, Total: total, Read: total}); last != want {
		t.Errorf("got %+v, want %+v", last, want)
	}
}

// TestManyLayers: more layers than one mount takes are merged.
func TestManyLayers(t *testing.T) {
	var tars [][]byte
	for i := range 495 {
		tars = append(tars, tarOf(file("f", strings.Repeat("x", i))))
	}
	root := must[*unpack.Root](t)(store(t, unpack.Options{}).Root(context.Background(), stack(tars...)))
	if b := must[[]byte](t)(os.ReadFile(filepath.Join(root.Dir, "f"))); root.Dir == "" || len(b) != 494 {
		t.Errorf("%v: %d bytes", root, len(b))
	}
}
