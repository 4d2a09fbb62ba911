package layout_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/layout/registry"
)

// serve is a registry that has the blobs of a layout, and what index.json tags.
func serve(t *testing.T, s *site) (*registry.Client, string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/lab/img/"), "/")
		var index v1.IndexManifest
		raw, _ := os.ReadFile(filepath.Join(s.dir, "index.json"))
		json.Unmarshal(raw, &index)
		for _, e := range index.Manifests {
			if e.Annotations[refName] == name {
				name = e.Digest.String()
			}
		}
		blob, err := os.ReadFile(filepath.Join(s.dir, "blobs/sha256", strings.TrimPrefix(name, "sha256:")))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(blob)
	}))
	t.Cleanup(server.Close)
	client, err := registry.New(registry.Options{Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return client, "docker://" + server.Listener.Addr().String() + "/lab/img"
}

func TestRegistryMedium(t *testing.T) {
	s := newSite(t, filepath.Join(t.TempDir(), "img"))
	s.index(s.manifest(three), tagged(s.manifest(other, docker), "2.0"), tagged(s.nested(s.manifest(foreign), s.manifest(three)), "all"))
	client, name := serve(t, s)
	cache := filepath.Join(t.TempDir(), "cache")
	o := layout.Options{Registry: client, Caches: []string{"/proc/nosuch", cache}, Platform: amd64}
	for tag, want := range map[string]sample{"1.0": three, "2.0": other, "all": three} {
		img, err := layout.Open(t.Context(), name+":"+tag, o)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, img, want)
		if img.Tag() != tag || img.CheckLayers() != nil {
			t.Errorf("tag %q, layers %v", img.Tag(), img.CheckLayers())
		}
		// From here on the network is not needed, but for layers.
		img, err = layout.Open(t.Context(), name+":"+tag, layout.Options{Caches: []string{cache}, Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		wantWords(t, img.CheckLayers(), "is missing in "+name)
	}
	arm, err := layout.Open(t.Context(), name+":all", layout.Options{Registry: client, Platform: &v1.Platform{Architecture: "aarch64"}})
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, arm, foreign)

	// What is kept and has been spoilt is fetched again.
	documents, err := filepath.Glob(cache + "/documents/*")
	if err != nil || len(documents) == 0 {
		t.Fatal(documents, err)
	}
	for _, d := range documents {
		s.must(os.WriteFile(d, []byte("{}"), 0o600))
	}
	if _, err := layout.Open(t.Context(), name+":all", o); err != nil {
		t.Error(err)
	}
	for tag, words := range map[string]string{":nosuch": "404", "@sha256:" + strings.Repeat("0", 64): "404"} {
		_, err := layout.Open(t.Context(), name+tag, o)
		wantWords(t, err, words)
	}
	_, err = layout.Open(t.Context(), name+":1.0", layout.Options{Registry: client, RepoTag: "x:1"})
	wantWords(t, err, "--repo-tag picks one of a directory")
	_, err = layout.Open(t.Context(), name+":1.0", layout.Options{Registry: client, Tag: "2"})
	wantWords(t, err, "--tag picks one of a directory")
}

// TestSave saves from every form, and finds the same image with the same blobs.
func TestSave(t *testing.T) {
	for form, write := range map[string]func(t *testing.T, dir string, images ...sample) string{
		"layout": writeOCI,
		"docker types": func(t *testing.T, dir string, images ...sample) string {
			s := newSite(t, filepath.Join(dir, "img"))
			s.index(s.manifest(images[0], docker))
			return s.dir
		},
		"nested": func(t *testing.T, dir string, images ...sample) string {
			s := newSite(t, filepath.Join(dir, "img"))
			s.index(tagged(s.nested(s.nested(s.manifest(images[0], docker)), s.manifest(foreign)), images[0].tag))
			return s.dir
		},
	} {
		t.Run(form, func(t *testing.T) {
			img := openIn(t, write(t, t.TempDir(), three))
			dir := filepath.Join(t.TempDir(), "a", "b")
			saved, err := layout.Save(t.Context(), img, dir, layout.SaveOptions{Source: "docker://lab.io/img:1.0"})
			if err != nil {
				t.Fatal(err)
			}
			again := openIn(t, dir)
			checkImage(t, again, three)
			crane, err := ggcrlayout.ImageIndexFromPath(dir) // as crane reads it
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Index(crane, validate.Fast); err != nil {
				t.Error(err)
			}
			if again.Tag() != "1.0" || saved.Tag != "1.0" || again.Sources()[0] != "docker://lab.io/img:1.0" {
				t.Errorf("tags %q and %q, sources %v", again.Tag(), saved.Tag, again.Sources())
			}
			was, _ := img.Digest()
			if got, _ := again.Digest(); got != saved.Digest || form == "layout" && got != was {
				t.Errorf("digest %s, saved %s, was %s", got, saved.Digest, was)
			}
			if got, _ := again.MediaType(); got != types.OCIManifestSchema1 {
				t.Errorf("media type %s", got)
			}
			// The digest at the source still picks it.
			if _, err := layout.Open(t.Context(), dir, layout.Options{Platform: amd64, Digest: was.String()}); err != nil {
				t.Error(err)
			}
			// A copy of it is the same.
			copied := filepath.Join(t.TempDir(), "copy")
			if _, err := layout.Save(t.Context(), again, copied, layout.SaveOptions{}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(contents(t, dir), contents(t, copied)); diff != "" {
				t.Error(diff)
			}
			if got := len(contents(t, filepath.Dir(dir))); got != len(contents(t, dir)) {
				t.Error("something is left beside it")
			}
		})
	}
}

// TestSaveNotHalf lets a save fail in the last layer.
func TestSaveNotHalf(t *testing.T) {
	ref := writeOCI(t, t.TempDir(), three)
	img := openIn(t, ref)
	blob := layerOCI(ref, three.layers[2])
	if err := os.WriteFile(blob, []byte(strings.Repeat("wrong! ", 5000)), 0o644); err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	empty := filepath.Join(base, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(base, "new"), filepath.Join(base, "x/y/z"), empty} {
		_, err := layout.Save(t.Context(), img, dir, layout.SaveOptions{})
		wantWords(t, err, "save "+dir, "its content has the digest")
		if left := contents(t, base); len(left) != 0 {
			t.Errorf("%s: left %v", dir, left)
		}
		if _, err := os.Stat(filepath.Join(base, "x")); err == nil {
			t.Error("x is left")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := layout.Save(ctx, img, filepath.Join(base, "new"), layout.SaveOptions{}); err == nil {
		t.Error("saved by who was cancelled")
	}
}

// TestSaveOverAttempt goes on with what a killed process has left, whatever that is.
func TestSaveOverAttempt(t *testing.T) {
	img := openIn(t, writeOCI(t, t.TempDir(), three))
	base := t.TempDir()
	stage := filepath.Join(base, ".dir.dlrun-save")
	name := func(l sampleLayer) string { return filepath.Join(stage, "blobs/sha256", digestOf(l.packed()).Hex) }
	s := &site{t, stage}
	s.must(os.MkdirAll(filepath.Join(stage, "blobs/sha256"), 0o755))
	s.must(os.WriteFile(name(three.layers[0])+".part", three.layers[0].packed()[:100], 0o600))
	s.must(os.WriteFile(name(three.layers[1]), []byte("wrong"), 0o600))
	s.must(os.Symlink("/etc/passwd", name(three.layers[2])+".part"))
	s.must(os.WriteFile(filepath.Join(stage, "stray"), nil, 0o600))
	s.must(os.WriteFile(filepath.Join(stage, "blobs/sha256/other.part"), nil, 0o600))
	dir := filepath.Join(base, "dir")
	if _, err := layout.Save(t.Context(), img, dir, layout.SaveOptions{}); err != nil {
		t.Fatal(err)
	}
	checkImage(t, openIn(t, dir), three)
	files := contents(t, base)
	for path := range files {
		fi, err := os.Lstat(filepath.Join(base, path))
		if err != nil || fi.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", path, fi.Mode(), err)
		}
	}
	if len(files) != 3+2+3 {
		t.Errorf("%d files", len(files))
	}
}

// TestKeptDigests lets the annotations of a saved layout lie.
func TestKeptDigests(t *testing.T) {
	const manifestKey, indexKey = "io.github.dlrun.source.manifest", "io.github.dlrun.source.index"
	for name, c := range map[string]struct {
		notes func(s *site) (notes map[string]string, ask v1.Hash)
		words string
	}{
		"another manifest": {func(s *site) (map[string]string, v1.Hash) {
			d := s.manifest(other, docker)
			return map[string]string{manifestKey: d.Digest.String()}, d.Digest
		}, "is not the one that it is said to be made from"},
		"another index": {func(s *site) (map[string]string, v1.Hash) {
			d := s.nested(s.manifest(other))
			return map[string]string{indexKey: d.Digest.String()}, d.Digest
		}, "does not name the manifest"},
		"an index that names itself": {func(s *site) (map[string]string, v1.Hash) {
			d := s.nested(s.nested(s.nested()))
			return map[string]string{indexKey: d.Digest.String()}, d.Digest
		}, "does not name the manifest"},
		"nothing there": {func(s *site) (map[string]string, v1.Hash) {
			h := digestOf([]byte("nothing"))
			return map[string]string{manifestKey: h.String()}, h
		}, "is missing"},
		"no manifest": {func(s *site) (map[string]string, v1.Hash) {
			d := s.blob(types.DockerManifestSchema2, "text")
			return map[string]string{manifestKey: d.Digest.String()}, d.Digest
		}, "original manifest"},
		"no digest": {func(s *site) (map[string]string, v1.Hash) {
			d := s.nested(s.manifest(three))
			return map[string]string{manifestKey: "../../x", indexKey: d.Digest.String()}, d.Digest
		}, "annotation " + manifestKey},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, filepath.Join(t.TempDir(), "img"))
			notes, ask := c.notes(s)
			s.index(with(s.manifest(three), func(d *v1.Descriptor) { d.Annotations = notes }))
			_, err := layout.Open(t.Context(), s.dir, layout.Options{Platform: amd64, Digest: ask.String()})
			wantWords(t, err, c.words)
			openIn(t, s.dir) // without a pin nothing is claimed
		})
	}
}

func openIn(t *testing.T, ref string) *layout.Image {
	t.Helper()
	img, err := layout.Open(t.Context(), ref, layout.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// contents are the files below a directory, by path.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	s := &site{t, dir}
	list := s.files()
	slices.Sort(list)
	for _, name := range list {
		raw, err := os.ReadFile(name)
		s.must(err)
		rel, err := filepath.Rel(dir, name)
		s.must(err)
		files[rel] = string(raw)
	}
	return files
}
