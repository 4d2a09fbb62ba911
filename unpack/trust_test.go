package unpack_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/unpack"
)

// TestUntrusted: a store in which others could have written is not used, warm or cold.
func TestUntrusted(t *testing.T) {
	img := stack(tarOf(file("f", "x")), tarOf(file("g", "x")))
	other := 65532 // some uid that is neither the caller's nor root's
	chown := func(path string, uid int) error { return os.Lchown(path, uid, -1) }
	tests := []struct {
		name   string
		spoil  func(base, store string) error // base/way/store
		root   bool                           // only root can make it so
		reason string                         // empty: it is used
	}{
		{name: "as made", spoil: func(base, store string) error { return nil }},
		{name: "open to read", spoil: func(base, store string) error { return os.Chmod(store, 0o755) }},
		{name: "group may write", spoil: func(base, store string) error { return os.Chmod(store, 0o770) }, reason: "0770"},
		{name: "all may write", spoil: func(base, store string) error { return os.Chmod(store, 0o777) }, reason: "0777"},
		{name: "sticky", spoil: func(base, store string) error { return os.Chmod(store, 0o777|os.ModeSticky) }, reason: "0777"},
		{name: "all may write above", spoil: func(base, store string) error { return os.Chmod(filepath.Dir(store), 0o777) }, reason: "0777"},
		{name: "group may write above", spoil: func(base, store string) error { return os.Chmod(filepath.Dir(store), 0o775) }, reason: "0775"},
		{name: "sticky above", spoil: func(base, store string) error { return os.Chmod(filepath.Dir(store), 0o777|os.ModeSticky) }},
		{name: "layers", spoil: func(base, store string) error { return os.Chmod(store+"/layers", 0o777) }, reason: "layers"},
		{name: "roots", spoil: func(base, store string) error { return os.Chmod(store+"/roots", 0o720) }, reason: "roots"},
		{name: "merged", spoil: func(base, store string) error { return os.Chmod(store+"/merged", 0o702) }, reason: "merged"},
		{name: "a layer", spoil: func(base, store string) error { return os.Chmod(store+"/layers/"+img.layers[1].diffID, 0o777) }, reason: img.layers[1].diffID},
		{name: "marker", spoil: func(base, store string) error {
			return each(store+"/roots/*.json", func(p string) error { return os.Chmod(p, 0o666) })
		}, reason: ".json"},
		{name: "layers a symlink", spoil: func(base, store string) error {
			if err := os.Rename(store+"/layers", base+"/elsewhere"); err != nil {
				return err
			}
			return os.Symlink(base+"/elsewhere", store+"/layers")
		}, reason: "symlink"},
		{name: "a good symlink on the way", spoil: func(base, store string) error { return swap(filepath.Dir(store), base+"/real", "real") }},
		{name: "symlink through a bad directory", spoil: func(base, store string) error {
			if err := os.Mkdir(base+"/bad", 0o777); err != nil {
				return err
			}
			if err := os.Chmod(base+"/bad", 0o777); err != nil {
				return err
			}
			return swap(filepath.Dir(store), base+"/bad/real", base+"/bad/../bad/real")
		}, reason: "/bad can be written"},
		{name: "symlink loop", spoil: func(base, store string) error { return swap(filepath.Dir(store), base+"/real", "way") }, reason: "symlinks"},
		{name: "someone else's", root: true, spoil: func(base, store string) error { return chown(store, other) }, reason: "uid 65532"},
		{name: "someone else's above", root: true, spoil: func(base, store string) error { return chown(filepath.Dir(store), other) }, reason: "uid 65532"},
		{name: "someone else's layer", root: true, spoil: func(base, store string) error { return chown(store+"/layers/"+img.layers[0].diffID, other) }, reason: "uid 65532"},
		{name: "someone else's marker", root: true, spoil: func(base, store string) error {
			return each(store+"/roots/*.json", func(p string) error { return chown(p, other) })
		}, reason: "uid 65532"},
		{name: "someone else's symlink", root: true, spoil: func(base, store string) error {
			if err := swap(filepath.Dir(store), base+"/real", "real"); err != nil {
				return err
			}
			return chown(filepath.Dir(store), other)
		}, reason: "uid 65532"},
	}
	for _, tt := range tests {
		if tt.root && os.Geteuid() != 0 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			base := tempDir(t)
			dir := filepath.Join(base, "way", "store")
			s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
			root := must[*unpack.Root](t)(s.Root(context.Background(), img))
			if err := tt.spoil(base, dir); err != nil {
				t.Fatal(err)
			}
			for what, img := range map[string]*image{"warm": img, "cold": stack(tarOf(file("new", "x")), tarOf(file("g", "x")))} {
				if what == "cold" && (tt.name == "marker" || strings.HasPrefix(tt.name, "someone else's marker") || strings.HasSuffix(tt.name, "'s layer")) {
					continue // not the same marker or layer
				}
				s, err := unpack.Open(dir, unpack.Options{})
				var again *unpack.Root
				if err == nil {
					again, err = s.Root(context.Background(), img)
				}
				var untrusted *unpack.UntrustedError
				switch {
				case tt.reason == "" && err != nil:
					t.Errorf("%s: %v", what, err)
				case tt.reason == "" && what == "warm" && len(again.Layers) != len(root.Layers):
					t.Errorf("%s: %v", what, again)
				case tt.reason != "" && (!errors.As(err, &untrusted) || !strings.Contains(err.Error(), tt.reason)):
					t.Errorf("%s: got %v", what, err)
				}
			}
		})
	}
}

// swap moves dir to real and puts a symlink in its place.
func swap(dir, real, target string) error {
	if err := os.Rename(dir, real); err != nil {
		return err
	}
	return os.Symlink(target, dir)
}

func each(pattern string, do func(string) error) error {
	paths, err := filepath.Glob(pattern)
	for _, p := range paths {
		err = errors.Join(err, do(p))
	}
	return err
}

// TestOwners: the store of a trusted owner is used as it is, and known as foreign.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it takes two users: TestMain has run it as root
	}
	dir := filepath.Join(tempDir(t), "store")
	img := stack(tarOf(file("f", "x")))
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
	if root := must[*unpack.Root](t)(s.Root(context.Background(), img)); root.Foreign {
		t.Error("the caller's own store is foreign")
	}
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error { return errors.Join(err, os.Lchown(p, 1234, -1)) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack.Open(dir, unpack.Options{Owners: []int{1235}}); err == nil {
		t.Error("uid 1234 is trusted")
	}
	s = must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{Owners: []int{1235, 1234}}))
	if root := must[*unpack.Root](t)(s.Root(context.Background(), img)); !root.Foreign {
		t.Error("someone else's store is not foreign")
	}
}

// TestOtherGroup: what was unpacked with another effective group cannot be changed by overlay.
func TestOtherGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it takes two groups: TestMain has run it as root
	}
	dir := filepath.Join(tempDir(t), "store")
	img := stack(tarOf(file("f", "x")), tarOf(file("g", "x")))
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
	root := must[*unpack.Root](t)(s.Root(context.Background(), img))
	if err := os.Lchown(root.Layers[1], -1, 1234); err != nil {
		t.Fatal(err)
	}
	if root = must[*unpack.Root](t)(s.Root(context.Background(), img)); !root.Foreign {
		t.Error("a layer of another group is not foreign")
	}
}

// TestOpenStore: where others can come in, they can write nothing.
func TestOpenStore(t *testing.T) {
	img := stack(tarOf(dir("tmp", mode(0o1777)), file("tmp/f", "x", mode(0o4777)), device("d", 1, 3)), tarOf(file("x/y", "x", mode(0o666))))
	for name, tt := range map[string]struct {
		base, store os.FileMode
		tmp, file   os.FileMode
	}{
		"open":              {0o755, 0o755, 0o755 | os.ModeSticky, 0o755 | os.ModeSetuid},
		"to a group":        {0o755, 0o750, 0o755 | os.ModeSticky, 0o755 | os.ModeSetuid},
		"closed":            {0o755, 0o700, 0o777 | os.ModeSticky, 0o777 | os.ModeSetuid},
		"closed further up": {0o700, 0o755, 0o777 | os.ModeSticky, 0o777 | os.ModeSetuid},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "store")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, tt.store), os.Chmod(base, tt.base), os.Chmod(filepath.Dir(base), 0o755)); err != nil {
				t.Fatal(err)
			}
			s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
			root := must[*unpack.Root](t)(s.Root(context.Background(), img))
			got := map[string]os.FileMode{}
			for _, p := range []string{"tmp", "tmp/f"} {
				got[p] = must[os.FileInfo](t)(os.Stat(filepath.Join(root.Layers[0], p))).Mode() &^ os.ModeDir
			}
			if diff := cmp.Diff(map[string]os.FileMode{"tmp": tt.tmp, "tmp/f": tt.file}, got); diff != "" {
				t.Error(diff)
			}
			if fi := must[os.FileInfo](t)(os.Stat(filepath.Join(dir, "layers"))); fi.Mode().Perm() != tt.store {
				t.Errorf("layers has mode %v", fi.Mode())
			}
		})
	}
}
