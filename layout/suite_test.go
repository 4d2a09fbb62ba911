package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/layout"
)

// opener is a medium under test. Every medium passes the same suite: the same
// images give the same ids, diff_ids and layers, the same faults are found.
type opener struct {
	// write stores images below dir and returns what a user would type.
	write func(t *testing.T, dir string, images ...sample) (ref string)
	// layer is the file that holds a layer of the last write; nil where the
	// medium has no file of its own for a layer.
	layer func(ref string, l sampleLayer) string
	// plain says that layers are stored as plain tars, whose size nothing
	// vouches for.
	plain bool
	// single says that one image is all that the medium can hold, without a tag.
	single bool
}

// blob is what is stored of a layer.
func (o opener) blob(l sampleLayer) []byte {
	if o.plain {
		return []byte(l.tar)
	}
	return l.packed()
}

var (
	amd64 = &v1.Platform{OS: "linux", Architecture: "amd64"}

	three = sample{tag: "1.0", layers: []sampleLayer{
		{strings.Repeat("lowest ", 5000), "gzip"},
		{strings.Repeat("middle ", 5000), "zstd"},
		{strings.Repeat("upmost ", 5000), ""},
	}}
	other   = sample{tag: "2.0", layers: []sampleLayer{{"another image", ""}}}
	foreign = sample{tag: "1.0-arm", arch: "arm64/v8", layers: []sampleLayer{{"a foreign image", ""}}}
)

func testOpener(t *testing.T, o opener) {
	ctx := context.Background()
	check := func(t *testing.T, img *layout.Image, want sample) {
		t.Helper()
		tag := want.tag
		if o.single {
			tag = ""
		}
		if img.Tag() != tag {
			t.Errorf("tag %q, want %q", img.Tag(), tag)
		}
		checkImage(t, img, want)
	}
	open := func(t *testing.T, ref string, o layout.Options) *layout.Image {
		t.Helper()
		if o.Platform == nil {
			o.Platform = amd64
		}
		img, err := layout.Open(ctx, ref, o)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}

	t.Run("the same image from every medium", func(t *testing.T) {
		check(t, open(t, o.write(t, t.TempDir(), three), layout.Options{}), three)
	})
	t.Run("no layers", func(t *testing.T) {
		empty := sample{tag: "empty"}
		check(t, open(t, o.write(t, t.TempDir(), empty), layout.Options{}), empty)
	})
	t.Run("the same layer twice", func(t *testing.T) {
		twice := sample{layers: []sampleLayer{three.layers[0], three.layers[1], three.layers[0]}}
		check(t, open(t, o.write(t, t.TempDir(), twice), layout.Options{}), twice)
	})
	if !o.single {
		testPicks(t, o, open, check)
	}
	t.Run("another platform", func(t *testing.T) {
		_, err := layout.Open(ctx, o.write(t, t.TempDir(), foreign), layout.Options{Platform: amd64})
		wantWords(t, err, "linux/amd64", "linux/arm64/v8")
		wantHint(t, err, "--platform linux/arm64/v8")
		// Who does not run it may have it, where there is no choice.
		img, err := layout.Open(ctx, o.write(t, t.TempDir(), foreign), layout.Options{Foreign: true})
		if err != nil {
			t.Fatal(err)
		}
		check(t, img, foreign)
		_, err = layout.Open(ctx, o.write(t, t.TempDir(), foreign), layout.Options{Foreign: true, Platform: amd64})
		wantWords(t, err, "linux/amd64")
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := layout.Open(ctx, o.write(t, t.TempDir(), three), layout.Options{Platform: amd64}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
	t.Run("nothing is touched", func(t *testing.T) {
		dir := t.TempDir()
		ref := o.write(t, dir, three)
		before := snapshot(t, dir)
		img := open(t, ref, layout.Options{})
		check(t, img, three)
		if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
			t.Error(diff)
		}
	})

	if o.layer == nil {
		return
	}
	faults := []struct {
		name  string
		spoil func(name string, content []byte) error
		check []string // words of CheckLayers; nil: it cannot see this
		read  []string // words of the reader, the digest and the place apart
	}{
		{"absent", func(name string, _ []byte) error { return os.Remove(name) },
			[]string{"is missing"}, []string{"is missing"}},
		{"flipped byte", func(name string, b []byte) error { b[len(b)/2] ^= 1; return overwrite(name, b) },
			nil, []string{"its content has the digest sha256:"}},
		{"last byte flipped", func(name string, b []byte) error { b[len(b)-1] ^= 1; return overwrite(name, b) },
			nil, []string{"its content has the digest sha256:"}},
		{"truncated", func(name string, b []byte) error { return overwrite(name, b[:len(b)-1]) },
			[]string{"bytes, want "}, []string{"bytes, want "}},
		{"empty", func(name string, _ []byte) error { return overwrite(name, nil) },
			[]string{"0 bytes, want "}, []string{"0 bytes, want "}},
		{"longer", func(name string, b []byte) error { return overwrite(name, append(b, 0)) },
			[]string{"bytes, want "}, []string{"bytes, want "}},
		{"fifo", func(name string, _ []byte) error { os.Remove(name); return syscall.Mkfifo(name, 0o644) },
			[]string{"is a fifo"}, []string{"is a fifo"}},
		{"directory", func(name string, _ []byte) error { os.Remove(name); return os.Mkdir(name, 0o755) },
			[]string{"is a directory"}, []string{"is a directory"}},
		{"socket", func(name string, _ []byte) error {
			os.Remove(name)
			return syscall.Mknod(name, syscall.S_IFSOCK|0o644, 0)
		},
			[]string{"is a socket"}, []string{"is a socket"}},
		{"device", func(name string, _ []byte) error { os.Remove(name); return os.Symlink("/dev/zero", name) },
			[]string{"is a device"}, []string{"is a device"}},
		{"symlink loop", func(name string, _ []byte) error { os.Remove(name); return os.Symlink(name, name) },
			[]string{"too many levels of symbolic links"}, []string{"too many levels of symbolic links"}},
	}
	for _, f := range faults {
		if o.plain && len(f.read) == 1 && strings.HasSuffix(f.read[0], "bytes, want ") {
			f.check, f.read = nil, []string{"its content has the digest sha256:"}
		}
		for n, l := range three.layers {
			t.Run(fmt.Sprintf("layer %d %s", n, f.name), func(t *testing.T) {
				ref := o.write(t, t.TempDir(), three)
				if err := f.spoil(o.layer(ref, l), o.blob(l)); err != nil {
					t.Fatal(err)
				}
				// The image itself opens all the same: no layer is looked at.
				img := open(t, ref, layout.Options{})
				if err := img.CheckLayers(); f.check != nil {
					wantWords(t, err, append(f.check, digestOf(o.blob(l)).String(), ref)...)
				} else if err != nil {
					t.Errorf("check: %v", err)
				}
				layers, err := img.Layers()
				if err != nil {
					t.Fatal(err)
				}
				got, err := readLayer(layers[n])
				wantWords(t, err, append(f.read, digestOf(o.blob(l)).String(), ref)...)
				if len(got) >= len(o.blob(l)) {
					t.Errorf("all %d bytes of a wrong layer were handed out", len(got))
				}
			})
		}
	}
}

// testPicks has several images in one place.
func testPicks(t *testing.T, o opener, open func(*testing.T, string, layout.Options) *layout.Image, check func(*testing.T, *layout.Image, sample)) {
	ctx := context.Background()
	t.Run("tag picks", func(t *testing.T) {
		ref := o.write(t, t.TempDir(), three, other)
		check(t, open(t, ref, layout.Options{Tag: "2.0"}), other)
		check(t, open(t, ref+":1.0", layout.Options{}), three)
	})
	t.Run("name picks", func(t *testing.T) {
		ref := o.write(t, t.TempDir(), three, other)
		check(t, open(t, ref, layout.Options{RepoTag: "2.0"}), other)
		_, err := layout.Open(ctx, ref, layout.Options{RepoTag: "lab/three:2.0", Platform: amd64})
		wantWords(t, err, "No matching images found in ", `"lab/three:2.0"`)
	})
	t.Run("image id picks", func(t *testing.T) {
		ref := o.write(t, t.TempDir(), three, other)
		id, err := open(t, ref, layout.Options{Tag: "2.0"}).ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		check(t, open(t, ref, layout.Options{Config: id.Hex[:12]}), other)
		check(t, open(t, ref, layout.Options{Config: id.String()}), other)
		_, err = layout.Open(ctx, ref, layout.Options{Config: "zz", Platform: amd64})
		wantWords(t, err, "No matching images found in ", `"zz"`)
	})
	t.Run("platform picks", func(t *testing.T) {
		ref := o.write(t, t.TempDir(), foreign, three)
		check(t, open(t, ref, layout.Options{}), three)
		check(t, open(t, ref, layout.Options{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}), foreign)
	})
	t.Run("several images", func(t *testing.T) {
		_, err := layout.Open(ctx, o.write(t, t.TempDir(), three, other), layout.Options{Platform: amd64})
		wantWords(t, err, "Multiple images found in ", "; disambiguate with --repo-tag or --config", "1.0", "2.0")
	})
	t.Run("no such tag", func(t *testing.T) {
		_, err := layout.Open(ctx, o.write(t, t.TempDir(), three, other), layout.Options{Tag: "3", Platform: amd64})
		wantWords(t, err, "No matching images found in ", `"3"`, "1.0, 2.0")
	})
}

// checkImage compares all that a v1.Image tells with what was stored.
func checkImage(t *testing.T, img *layout.Image, want sample) {
	t.Helper()
	check := func(what string, got, want any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	id, err := img.ConfigName()
	check("image id", id, digestOf(want.config()), err)
	rawConfig, err := img.RawConfigFile()
	check("config", string(rawConfig), string(want.config()), err)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	check("env", config.Config.Env, []string{"TAG=" + want.tag}, nil)
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	check("digest", digest, digestOf(raw), err)
	size, err := img.Size()
	check("size", size, int64(len(raw)), err)
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(manifest.Layers, manifest.Config) {
		if !strings.HasPrefix(string(d.MediaType), "application/vnd.oci.image.") {
			t.Errorf("media type %s is not OCI's", d.MediaType)
		}
	}
	check("layers are there", img.CheckLayers(), error(nil), nil)
	layers, err := img.Layers()
	if err != nil || len(layers) != len(want.layers) {
		t.Fatalf("%d layers (%v), want %d", len(layers), err, len(want.layers))
	}
	for n, l := range layers {
		w := want.layers[n]
		diffID, err := l.DiffID()
		check("diff_id", diffID, digestOf([]byte(w.tar)), err)
		mediaType, err := l.MediaType()
		check("media type", mediaType, manifest.Layers[n].MediaType, err)
		digest, err := l.Digest()
		check("layer digest", digest, manifest.Layers[n].Digest, err)
		packed, err := readLayer(l)
		check("layer bytes", digestOf(packed), digest, err)
		plain, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		tar, err := io.ReadAll(plain)
		check("layer content", string(tar), w.tar, err)
		check("close", plain.Close(), error(nil), nil)
		byDigest, err := img.LayerByDigest(digest)
		if err != nil {
			t.Fatal(err)
		}
		again, err := byDigest.DiffID()
		check("layer by digest", again, diffID, err)
		byDiffID, err := img.LayerByDiffID(diffID)
		if err != nil {
			t.Fatal(err)
		}
		packed, err = readLayer(byDiffID)
		check("layer by diff_id", digestOf(packed), digest, err)
	}
	if _, err := img.LayerByDigest(id); err == nil {
		t.Error("the config was taken for a layer")
	}
	if _, err := img.LayerByDiffID(id); err == nil {
		t.Error("the config was taken for a diff_id")
	}
}

// overwrite changes the content of a file, an annexed one's of mode 0444 too.
func overwrite(name string, content []byte) error {
	if err := os.Chmod(name, 0o644); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}

// readLayer reads a layer through, and gives what came before an error too.
func readLayer(l v1.Layer) ([]byte, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	if closeErr := r.Close(); (err == nil) != (closeErr == nil) {
		return b.Bytes(), fmt.Errorf("read says %v, close says %v", err, closeErr)
	}
	return b.Bytes(), err
}

// snapshot is what a run must not change: modes, sizes and change times.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		files[name] = fmt.Sprint(fi.Mode(), fi.Size(), fi.Sys().(*syscall.Stat_t).Ctim)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q lacks %q", err, w)
		}
	}
}

func wantHint(t *testing.T, err error, want string) {
	t.Helper()
	var h interface{ Hint() string }
	if !errors.As(err, &h) {
		t.Fatalf("error %q has no hint", err)
	}
	if h.Hint() != want {
		t.Errorf("hint %q, want %q", h.Hint(), want)
	}
}
