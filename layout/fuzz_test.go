package layout_test

import (
	"context"
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
	})
}
