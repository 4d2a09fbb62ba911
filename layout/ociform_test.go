package layout_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dlrun/dlrun/layout"
)

func writeOCI(t *testing.T, dir string, images ...sample) string {
	s := newSite(t, filepath.Join(dir, "img"))
	var entries []v1.Descriptor
	for _, img := range images {
		entries = append(entries, s.manifest(img))
	}
	s.index(entries...)
	return s.dir
}

func layerOCI(ref string, l sampleLayer) string {
	return filepath.Join(ref, "blobs/sha256", digestOf(l.packed()).Hex)
}

// TestOpeners runs the suite on the layout in all its forms. The faults of
// layers are tried where the forms differ in how a layer lies there.
func TestOpeners(t *testing.T) {
	openers := map[string]opener{
		"directory": {write: writeOCI, layer: layerOCI},
		"docker types": {write: func(t *testing.T, dir string, images ...sample) string {
			s := newSite(t, filepath.Join(dir, "img"))
			var entries []v1.Descriptor
			for _, img := range images {
				entries = append(entries, s.manifest(img, docker))
			}
			s.index(entries...)
			return s.dir
		}},
		"no platform in the index": {write: func(t *testing.T, dir string, images ...sample) string {
			if len(images) > 1 {
				return writeOCI(t, dir, images...)
			}
			s := newSite(t, filepath.Join(dir, "img"))
			s.index(with(s.manifest(images[0]), func(d *v1.Descriptor) { d.Platform = nil }))
			return s.dir
		}},
		"nested": {write: func(t *testing.T, dir string, images ...sample) string {
			s := newSite(t, filepath.Join(dir, "img"))
			var entries []v1.Descriptor
			for _, img := range images {
				attestation := with(s.manifest(other), func(d *v1.Descriptor) {
					d.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
				})
				referrer := with(s.manifest(other), func(d *v1.Descriptor) {
					d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
				})
				unknown := with(s.manifest(other), func(d *v1.Descriptor) { d.MediaType = "application/x-other" })
				inner := s.nested(attestation, s.manifest(img), referrer, unknown)
				entries = append(entries, tagged(s.nested(inner, inner), img.tag))
			}
			s.index(entries...)
			return s.dir
		}},
		"annexed": {write: func(t *testing.T, dir string, images ...sample) string {
			s := &site{t, writeOCI(t, dir, images...)}
			for _, name := range s.files() {
				s.lock(name)
			}
			return s.dir
		}, layer: layerOCI},
		"symlink to the directory": {write: func(t *testing.T, dir string, images ...sample) string {
			writeOCI(t, filepath.Join(dir, "a/b"), images...)
			s := &site{t, filepath.Join(dir, "link")}
			s.must(os.Symlink("b/img", filepath.Join(dir, "a/hop")))
			s.must(os.Symlink("a/hop", s.dir))
			return s.dir
		}},
		"no oci-layout": {write: func(t *testing.T, dir string, images ...sample) string {
			ref := writeOCI(t, dir, images...)
			os.Remove(filepath.Join(ref, "oci-layout"))
			return ref
		}},
		"embedded": {write: func(t *testing.T, dir string, images ...sample) string {
			s := newSite(t, filepath.Join(dir, "img"))
			var entries []v1.Descriptor
			for _, img := range images {
				d := s.manifest(img, func(m *v1.Manifest) {
					m.Config.Data = img.config()
					os.Remove(s.path(m.Config.Digest))
					for n, l := range img.layers {
						m.Layers[n].Data = l.packed()
						os.Remove(s.path(m.Layers[n].Digest))
					}
				})
				raw, err := os.ReadFile(s.path(d.Digest))
				s.must(err)
				s.must(os.Remove(s.path(d.Digest)))
				entries = append(entries, with(d, func(d *v1.Descriptor) { d.Data = raw }))
			}
			s.index(entries...)
			return s.dir
		}},
	}
	for name, o := range openers {
		t.Run(name, func(t *testing.T) { testOpener(t, o) })
	}
}

func TestRefForms(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s := newSite(t, filepath.Join(dir, "img"))
	one, two, long := s.manifest(three), s.manifest(other), s.manifest(sample{tag: "lab/bb:1"})
	leaf := s.manifest(foreign)
	tree := tagged(s.nested(leaf, s.manifest(sample{arch: "amd64", layers: three.layers})), "tree")
	s.index(one, two, long, tree)
	colon := &site{t, filepath.Join(dir, "img:1.0")}
	s.must(os.Rename(writeOCI(t, filepath.Join(dir, "x"), other), colon.dir))
	// index.json in a directory without blobs leads to those of its target.
	s.must(os.MkdirAll("far/away", 0o755))
	s.must(os.Symlink("../../img/index.json", "far/away/second"))
	s.must(os.Symlink("away/second", "far/image"))
	s.must(os.MkdirAll("far/dir", 0o755))
	s.must(os.Symlink("../../img/index.json", "far/dir/index.json"))
	for _, c := range []struct {
		ref  string
		o    layout.Options
		want v1.Descriptor
		dir  string
	}{
		{"img:2.0", layout.Options{}, two, "img"},
		{"./img/:2.0", layout.Options{}, two, "./img"},
		{"img/index.json:2.0", layout.Options{}, two, "img"},
		{"img:lab/bb:1", layout.Options{}, long, "img"},
		{"img@" + one.Digest.String(), layout.Options{}, one, "img"},
		{"img:2.0@" + two.Digest.String(), layout.Options{}, two, "img"},
		{"img:2.0", layout.Options{Tag: "2.0", Digest: two.Digest.String()}, two, "img"},
		{"img", layout.Options{Digest: two.Digest.String()}, two, "img"},
		{"img/index.json", layout.Options{Tag: "1.0"}, one, "img"},
		{"img:1.0", layout.Options{}, two, "img:1.0"}, // a path that exists is a path
		{"far/image", layout.Options{Tag: "1.0"}, one, "img"},
		{"far/dir", layout.Options{Tag: "1.0"}, one, "img"},
		{"far/dir/index.json:1.0", layout.Options{}, one, "img"},
	} {
		c.o.Platform = amd64
		img, err := layout.Open(context.Background(), c.ref, c.o)
		if err != nil {
			t.Errorf("%s: %v", c.ref, err)
			continue
		}
		if got, _ := img.Digest(); got != c.want.Digest {
			t.Errorf("%s: got %s, want %s", c.ref, got, c.want.Digest)
		}
		if img.Dir() != c.dir {
			t.Errorf("%s: dir %s, want %s", c.ref, img.Dir(), c.dir)
		}
	}

	// A digest may name a nested index; the platform picks below it.
	img, err := layout.Open(context.Background(), "img", layout.Options{Digest: tree.Digest.String(), Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	if config, _ := img.ConfigFile(); config.Architecture != "amd64" || img.Tag() != "tree" {
		t.Errorf("picked %s of %q", config.Architecture, img.Tag())
	}
	// It may name a manifest within one.
	img, err = layout.Open(context.Background(), "img", layout.Options{
		Digest: leaf.Digest.String(), Platform: &v1.Platform{Architecture: "arm64"}})
	if err != nil {
		t.Fatal(err)
	}
	if config, _ := img.ConfigFile(); config.Architecture != "arm64" {
		t.Errorf("picked %s", config.Architecture)
	}
}

func TestDockerTypesStayInTheFile(t *testing.T) {
	s := newSite(t, t.TempDir())
	d := s.manifest(three, docker)
	s.index(s.blob(types.DockerManifestList, v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.DockerManifestList, Manifests: []v1.Descriptor{d}}))
	img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := img.Digest(); got != d.Digest {
		t.Errorf("digest %s, want %s", got, d.Digest)
	}
	if got, _ := img.MediaType(); got != types.DockerManifestSchema2 {
		t.Errorf("media type %s is not the file's", got)
	}
	m, _ := img.Manifest()
	got := []types.MediaType{m.MediaType, m.Config.MediaType}
	for _, l := range m.Layers {
		got = append(got, l.MediaType)
	}
	want := []types.MediaType{types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWarmStart removes all that a start from a warm cache must not need.
func TestWarmStart(t *testing.T) {
	s := &site{t, writeOCI(t, t.TempDir(), three)}
	for _, l := range three.layers {
		name := layerOCI(s.dir, l)
		s.must(os.Remove(name))
		s.must(syscall.Mkfifo(name, 0o600))
	}
	if _, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64}); err != nil {
		t.Error(err)
	}
}

func TestMissingLayers(t *testing.T) {
	for name, lose := range map[string]func(*site, string) string{"dropped": (*site).drop, "pointer": (*site).point} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			ref := "my image"
			s := &site{t, filepath.Join(dir, ref)}
			s.must(os.Rename(writeOCI(t, dir, three), s.dir))
			var want []layout.MissingBlob
			var total int
			for _, l := range []sampleLayer{three.layers[0], three.layers[2]} {
				d := digestOf(l.packed())
				key := lose(s, s.path(d))
				want = append(want, layout.MissingBlob{Digest: d.String(), Path: ref + "/blobs/sha256/" + d.Hex, Key: key, Size: int64(len(l.packed()))})
				total += len(l.packed())
			}
			for _, ref := range []string{ref, ref + "/index.json"} {
				img, err := layout.Open(context.Background(), ref, layout.Options{Platform: amd64})
				if err != nil {
					t.Fatal(err)
				}
				err = img.CheckLayers()
				var missing *layout.MissingError
				if !errors.As(err, &missing) {
					t.Fatalf("got %v, want a MissingError", err)
				}
				if diff := cmp.Diff(want, missing.Blobs); diff != "" {
					t.Error(diff)
				}
				wantWords(t, err, want[0].Digest, want[0].Key, "in my image", "2 files", "kB", fmt.Sprintf("(%d bytes)", total))
				wantHint(t, err, "datalad get 'my image'")
				layers, _ := img.Layers()
				_, err = layers[2].Compressed()
				wantWords(t, err, want[1].Digest, want[1].Key, "1 file")
				wantHint(t, err, "datalad get 'my image'")
				if _, err := readLayer(layers[1]); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestMissingMetadata(t *testing.T) {
	for name, lose := range map[string]func(*site, string) string{"dropped": (*site).drop, "pointer": (*site).point} {
		for _, part := range []string{"index.json", "nested", "manifest", "config"} {
			t.Run(name+" "+part, func(t *testing.T) {
				s := newSite(t, filepath.Join(t.TempDir(), "img"))
				m := s.manifest(three)
				n := s.nested(m)
				s.index(n)
				file := map[string]string{"index.json": filepath.Join(s.dir, "index.json"), "nested": s.path(n.Digest),
					"manifest": s.path(m.Digest), "config": s.path(digestOf(three.config()))}[part]
				fi, err := os.Stat(file)
				s.must(err)
				lose(s, filepath.Join(s.dir, "oci-layout"))
				key := lose(s, file)
				for _, ref := range []string{s.dir, s.dir + "/index.json"} {
					_, err = layout.Open(context.Background(), ref, layout.Options{Platform: amd64})
					var missing *layout.MissingError
					if !errors.As(err, &missing) {
						t.Fatalf("got %v, want a MissingError", err)
					}
					b := missing.Blobs[0]
					if len(missing.Blobs) != 1 || b.Key != key || b.Size != fi.Size() || b.Path != file || missing.Dir != s.dir {
						t.Errorf("got %+v", missing)
					}
					wantWords(t, err, filepath.Base(file), key)
					wantHint(t, err, "datalad get "+s.dir)
				}
			})
		}
	}
}

// TestMissingOnce counts a layer that the manifest names twice once.
func TestMissingOnce(t *testing.T) {
	twice := sample{layers: []sampleLayer{other.layers[0], three.layers[0], other.layers[0]}}
	s := &site{t, writeOCI(t, t.TempDir(), twice)}
	s.drop(layerOCI(s.dir, other.layers[0]))
	img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
	s.must(err)
	wantWords(t, img.CheckLayers(), "1 file, 13 bytes in all")
}

// TestUnreadSiblings picks by digest and by tag beside indexes that are absent.
func TestUnreadSiblings(t *testing.T) {
	s := newSite(t, filepath.Join(t.TempDir(), "img"))
	want, gone := s.manifest(three), s.nested(s.manifest(other))
	s.index(tagged(s.nested(gone, want), "top"), tagged(gone, "gone"))
	s.drop(s.path(gone.Digest))
	img, err := layout.Open(context.Background(), s.dir, layout.Options{Tag: "top", Digest: want.Digest.String(), Platform: amd64})
	s.must(err)
	if got, _ := img.Digest(); got != want.Digest {
		t.Errorf("got %s, want %s", got, want.Digest)
	}
	_, err = layout.Open(context.Background(), s.dir, layout.Options{Tag: "gone", Platform: amd64})
	wantWords(t, err, "read index: blob "+gone.Digest.String()+" is missing")
}

func TestNotAnnexedHasNoHint(t *testing.T) {
	s := &site{t, writeOCI(t, t.TempDir(), other)}
	s.must(os.Remove(layerOCI(s.dir, other.layers[0])))
	img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
	s.must(err)
	wantHint(t, img.CheckLayers(), "")
}

func TestCloseBeforeTheEnd(t *testing.T) {
	img, err := layout.Open(context.Background(), writeOCI(t, t.TempDir(), three), layout.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	layers, _ := img.Layers()
	size, _ := layers[2].Size()
	for _, n := range []int64{0, 1, size - 1} {
		r, _ := layers[2].Compressed()
		if _, err := r.Read(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		wantWords(t, r.Close(), fmt.Sprintf("closed after %d of %d bytes", n, size))
	}
	// All bytes without the EOF are as good.
	r, _ := layers[2].Compressed()
	if n, err := r.Read(make([]byte, size)); int64(n) != size || err != nil {
		t.Errorf("read %d: %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestVariants picks among the platforms of one index.
func TestVariants(t *testing.T) {
	s := newSite(t, t.TempDir())
	var entries []v1.Descriptor
	for _, arch := range []string{"arm/v5", "arm/v6", "arm/v7", "arm64/v8", "amd64", "amd64/v3", "386", "s390x", "riscv64"} {
		entries = append(entries, s.manifest(sample{arch: arch, layers: other.layers}))
	}
	s.index(s.nested(entries...))
	for want, picks := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/amd64/v1": "linux/amd64", "linux/amd64/v2": "linux/amd64", "linux/amd64/v4": "linux/amd64/v3",
		"linux/x86_64": "linux/amd64", "linux/arm/v6": "linux/arm/v6", "linux/armhf": "linux/arm/v7", "linux/armel": "linux/arm/v6",
		"linux/arm/v5": "linux/arm/v5", "linux/arm/v8": "linux/arm/v7", "linux/arm": "linux/arm/v7", "linux/arm64": "linux/arm64/v8",
		"linux/arm64/v9.2": "linux/arm64/v8", "linux/aarch64": "linux/arm64/v8", "linux/s390x": "linux/s390x",
		"linux/arm/v4": "", "linux/ppc64le": "", "windows/amd64": "", "linux/amd64/haswell": "",
	} {
		p, err := v1.ParsePlatform(want)
		s.must(err)
		img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: p})
		if picks == "" {
			wantWords(t, err, "No matching images found in "+s.dir, "linux/arm/v5, linux/arm/v6")
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		config, _ := img.ConfigFile()
		if got := config.Platform().String(); got != picks {
			t.Errorf("%s: picked %s, want %s", want, got, picks)
		}
	}
}

// TestDepth follows as many indexes as allowed.
func TestDepth(t *testing.T) {
	s := newSite(t, t.TempDir())
	d := s.manifest(other)
	for range 8 {
		d = s.nested(d, d)
	}
	s.index(d, d)
	if _, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64}); err != nil {
		t.Error(err)
	}
	s.index(s.nested(d))
	_, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
	wantWords(t, err, "nested deeper than 8")
}

// TestSilentConfig takes a config that does not tell its platform to fit.
func TestSilentConfig(t *testing.T) {
	s := newSite(t, t.TempDir())
	config := strings.NewReplacer(`"amd64"`, `""`, `"linux"`, `""`).Replace(string(other.config()))
	s.index(with(s.manifest(other, func(m *v1.Manifest) { m.Config = s.blob(types.OCIConfigJSON, config) }),
		func(d *v1.Descriptor) { d.Platform = nil }))
	if _, err := layout.Open(context.Background(), s.dir, layout.Options{}); err != nil {
		t.Error(err)
	}
}

// TestOnePlatformPerEntry lists one manifest under two platforms.
func TestOnePlatformPerEntry(t *testing.T) {
	s := newSite(t, t.TempDir())
	d := s.manifest(other)
	arm := with(d, func(d *v1.Descriptor) { d.Platform = &v1.Platform{OS: "linux", Architecture: "arm64"} })
	s.index(arm, d, tagged(d, "again"))
	if _, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64}); err != nil {
		t.Error(err)
	}
}
