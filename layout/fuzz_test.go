package layout_test

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dlrun/dlrun/layout"
)

// FuzzOpen opens arbitrary documents. INDEX, MANIFEST and CONFIG in the text
// of another stand for the right descriptor of that document, so that the
// fuzzer gets past the digests.
func FuzzOpen(f *testing.F) {
	const (
		index    = `{"schemaVersion":2,"manifests":[MANIFEST]}`
		manifest = `{"schemaVersion":2,"config":CONFIG,"layers":[LAYER]}`
		config   = `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["DIFFID"]}}`
	)
	f.Add(index, `{"schemaVersion":2,"manifests":[]}`, manifest, config)
	f.Add(`{"schemaVersion":2,"manifests":[INDEX,INDEX]}`, index, manifest, config)
	f.Add(`{"schemaVersion":2,"manifests":[MANIFEST,INDEX,null,{}]}`, index, manifest, `null`)
	f.Add(index, ``, `{"schemaVersion":2,"config":CONFIG,"layers":[LAYER,LAYER]}`, config)
	f.Add(index, ``, `{"schemaVersion":2,"config":null,"layers":null,"mediaType":"x"}`, `{}`)
	f.Add(`/annex/objects/SHA256-s1--a`, ``, manifest, config)
	f.Add(`{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","platform":{"os":"unknown","architecture":"unknown"}}]}`, ``, ``, ``)
	f.Fuzz(func(t *testing.T, top, index, manifest, config string) {
		s := newSite(t, t.TempDir())
		layer := s.blob(types.OCIUncompressedLayer, "layer")
		describe := func(text string, known map[string]v1.Descriptor) string {
			for name, d := range known {
				text = strings.ReplaceAll(text, name, string(marshal(d)))
			}
			return text
		}
		known := map[string]v1.Descriptor{"LAYER": layer}
		known["CONFIG"] = s.blob(types.OCIConfigJSON, strings.ReplaceAll(config, "DIFFID", layer.Digest.String()))
		known["MANIFEST"] = s.blob(types.OCIManifestSchema1, describe(manifest, known))
		known["INDEX"] = s.blob(types.OCIImageIndex, describe(index, known))
		s.write("index.json", describe(top, known))

		img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
		if err != nil {
			if img != nil || err.Error() == "" {
				t.Fatalf("image %v with error %q", img, err)
			}
			return
		}
		checkOpened(t, img)
	})
}

// checkOpened holds an image to what it says of itself.
func checkOpened(t *testing.T, img *layout.Image) {
	t.Helper()
	raw, _ := img.RawManifest()
	if got, _ := img.Digest(); got != digestOf(raw) {
		t.Errorf("digest %s is not that of the manifest", got)
	}
	rawConfig, _ := img.RawConfigFile()
	if got, _ := img.ConfigName(); got != digestOf(rawConfig) {
		t.Errorf("image id %s is not that of the config", got)
	}
	c, _ := img.ConfigFile()
	layers, err := img.Layers()
	if err != nil || len(layers) != len(c.RootFS.DiffIDs) {
		t.Errorf("%d layers (%v), %d diff_ids", len(layers), err, len(c.RootFS.DiffIDs))
	}
	complete := true
	for _, l := range layers {
		digest, _ := l.Digest()
		content, err := readLayer(l)
		complete = complete && err == nil
		if err == nil && digestOf(content) != digest {
			t.Errorf("layer %s was read wrong", digest)
		}
	}
	if err := img.CheckLayers(); complete && err != nil {
		t.Errorf("all layers were read, but %v", err)
	}
}

// FuzzSaved opens arbitrary manifest.json and configs of a docker save. CONFIG
// stands for the name of the config, LAYER for that of a layer.
func FuzzSaved(f *testing.F) {
	const config = `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["DIFFID"]}}`
	f.Add(`[{"Config":"CONFIG","RepoTags":["lab/img:1"],"Layers":["LAYER"]}]`, config)
	f.Add(`[{"Config":"CONFIG","RepoTags":null,"Layers":["LAYER","LAYER"]},{"Config":"CONFIG","Layers":["LAYER"]}]`, config)
	f.Add(`[{"Config":"../CONFIG","Layers":["/LAYER"]}]`, config)
	f.Add(`[{"Config":"CONFIG","Layers":["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.tar.gz"]}]`, `null`)
	f.Add(`[null,{},1]`, `{"rootfs":{"diff_ids":["sha256:../x"]}}`)
	f.Add(`{"schemaVersion":2,"config":{},"layers":[]}`, config)
	f.Fuzz(func(t *testing.T, manifest, config string) {
		s := &site{t, t.TempDir()}
		l := other.layers[0]
		name, content := legacyName(l)
		s.write(name, content)
		config = strings.ReplaceAll(config, "DIFFID", digestOf(content).String())
		s.write("config", config)
		s.write("manifest.json", strings.NewReplacer("CONFIG", "config", "LAYER", name).Replace(manifest))
		img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
		if err == nil {
			checkOpened(t, img)
		} else if img != nil || err.Error() == "" {
			t.Fatalf("image %v with error %q", img, err)
		}
	})
}

// FuzzArchive opens arbitrary files, and once more compressed.
func FuzzArchive(f *testing.F) {
	saved := savedEntries("config")
	f.Add(tarOfEntries(f, saved...))
	f.Add(tarOfEntries(f, saved[0], link(tar.TypeSymlink, "config", "x/../y"), link(tar.TypeLink, "y", "z"), file("z", saved[1].content), saved[2]))
	f.Add(tarOfEntries(f, file("./index.json", `{"schemaVersion":2,"manifests":[]}`), file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)))
	f.Add(tarOfEntries(f, file("../manifest.json", "[]"), file("manifest.json", "[]")))
	f.Add(packed(tarOfEntries(f, saved...), "gzip"))
	f.Add(packed(tarOfEntries(f, saved...), "zstd"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, pack := range []string{"", "gzip"} {
			name := filepath.Join(t.TempDir(), "x.tar")
			writeFile(t, name, packed(content, pack))
			img, err := layout.Open(context.Background(), name, layout.Options{Platform: amd64})
			if err == nil {
				checkOpened(t, img)
			} else if img != nil || err.Error() == "" {
				t.Fatalf("image %v with error %q", img, err)
			}
		}
	})
}

// FuzzReference opens arbitrary references beside a layout: what opens is that layout, and what does not is an error of one line.
func FuzzReference(f *testing.F) {
	for _, ref := range []string{
		"img", "img/", "./img", "img:latest", "img:none", "img/index.json", "img/index.json:latest", "img:a:b", "img@sha256:", "img:latest@sha256:abc",
		"img@sha256:0000000000000000000000000000000000000000000000000000000000000000", "docker://x", "", ":", "@", "a:b", "img@md5:x", "img\x00", "../img",
	} {
		f.Add(ref, "", "")
	}
	f.Add("img", "latest", "sha256:0000000000000000000000000000000000000000000000000000000000000000")
	f.Fuzz(func(t *testing.T, ref, tag, digest string) {
		if strings.Contains(ref, "..") || strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, "docker") {
			return // other places, where anything may be
		}
		base := t.TempDir()
		s := newSite(t, base+"/img")
		layer := s.blob(types.OCIUncompressedLayer, "layer")
		config := s.blob(types.OCIConfigJSON, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+layer.Digest.String()+`"]}}`)
		manifest := s.blob(types.OCIManifestSchema1, `{"schemaVersion":2,"config":`+string(marshal(config))+`,"layers":[`+string(marshal(layer))+`]}`)
		manifest.Annotations = map[string]string{"org.opencontainers.image.ref.name": "latest"}
		s.write("index.json", `{"schemaVersion":2,"manifests":[`+string(marshal(manifest))+`]}`)
		t.Chdir(base)
		img, err := layout.Open(context.Background(), ref, layout.Options{Platform: amd64, Tag: tag, Digest: digest})
		if err != nil {
			if img != nil || err.Error() == "" {
				t.Errorf("image %v with error %q", img, err)
			}
			return
		}
		if got, _ := img.Digest(); got != manifest.Digest {
			t.Errorf("%q is %s", ref, got)
		}
	})
}

// FuzzPointer puts arbitrary content and links in the place of a blob: a pointer to a key of git-annex is told as one that is
// missing, with the key, and nothing else is.
func FuzzPointer(f *testing.F) {
	for _, text := range []string{
		"/annex/objects/SHA256E-s5--abc\n", "/annex/objects/SHA256E-s5--abc\r\n", "/annex/objects/SHA256--x", "/annex/objects/", "/annex/objects/a/../b\n",
		"/annex/objects/MD5E-s1-S1-C1--x.tar.gz\nmore\n", "/annex/objects/WORM-s99999999999999999999-m1--x\n", "layer", "",
	} {
		f.Add(text, "")
		f.Add("", "../../.git"+text)
	}
	f.Fuzz(func(t *testing.T, text, target string) {
		base := t.TempDir()
		s := newSite(t, base+"/img")
		layer := s.blob(types.OCIUncompressedLayer, "layer")
		config := s.blob(types.OCIConfigJSON, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+layer.Digest.String()+`"]}}`)
		manifest := s.blob(types.OCIManifestSchema1, `{"schemaVersion":2,"config":`+string(marshal(config))+`,"layers":[`+string(marshal(layer))+`]}`)
		s.write("index.json", `{"schemaVersion":2,"manifests":[`+string(marshal(manifest))+`]}`)
		blob := s.dir + "/blobs/sha256/" + layer.Digest.Hex
		if err := os.Remove(blob); err != nil {
			t.Fatal(err)
		}
		if target == "" {
			if err := os.WriteFile(blob, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		} else if os.Symlink(target, blob) != nil {
			return // no target that a link can have
		}
		img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		err = img.CheckLayers()
		var missing *layout.MissingError
		switch {
		case err == nil && target == "" && len(text) != 5:
			t.Errorf("%q stands for the blob", text)
		case errors.As(err, &missing):
			for _, b := range missing.Blobs {
				if strings.ContainsAny(b.Key, "/\n\x00") {
					t.Errorf("the key is %q", b.Key)
				}
				if target == "" && b.Key == "" {
					t.Errorf("%q is told as missing, without a key", text)
				}
			}
			if missing.Error() == "" {
				t.Error("an empty message")
			}
		}
	})
}
