package corpus

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar"

	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// object is a JSON object in which anything can be said.
type object = map[string]any

// layer is an archive as the image stores it, and what the image says of it.
type layer struct {
	archive
	blob   []byte
	says   object // instead of the truth in its descriptor
	diffID string // instead of the truth in the config
}

// image is what is written as an OCI layout. The functions change what would be written by itself.
type image struct {
	layers   []layer
	config   []func(object)
	manifest []func(object)
	index    []func(l *layout, index object)
	after    []func(dir string) error
}

// layers is an image of them, each compressed with gzip.
func layers(list ...archive) image { return packed(gz, ociLayer+"+gzip", list...) }

func packed(how func([]byte) []byte, mediaType string, list ...archive) image {
	var m image
	for _, a := range list {
		m.layers = append(m.layers, layer{archive: a, blob: how(a.tar), says: object{"mediaType": mediaType}})
	}
	return m
}

func plain(b []byte) []byte { return b }

// blob is an image of one layer in other bytes than its archive makes.
func blob(a archive, b []byte) image {
	return image{layers: []layer{{archive: a, blob: b, says: object{"mediaType": ociLayer + "+gzip"}}}}
}

func (m image) withConfig(change func(config object)) image {
	m.config = append(m.config, change)
	return m
}

// runs is m with a part of its config's config.
func (m image) runs(key string, value any) image {
	return m.withConfig(func(c object) { c["config"].(object)[key] = value })
}

func (m image) withManifest(change func(manifest object)) image {
	m.manifest = append(m.manifest, change)
	return m
}

func (m image) withIndex(change func(l *layout, index object)) image {
	m.index = append(m.index, change)
	return m
}

// withLayer changes what the manifest says of layer i.
func (m image) withLayer(i int, key string, value any) image {
	return m.withManifest(func(manifest object) { manifest["layers"].([]any)[i].(object)[key] = value })
}

func (m image) then(change func(dir string) error) image {
	m.after = append(m.after, change)
	return m
}

func (m image) archives() []archive {
	var list []archive
	for _, l := range m.layers {
		list = append(list, l.archive)
	}
	return list
}

// layout is one that is being written.
type layout struct{ dir string }

// add writes a blob and returns its descriptor.
func (l *layout) add(mediaType string, b []byte) object {
	if err := os.WriteFile(blobFile(l.dir, sha(b)), b, 0o644); err != nil {
		panic(err)
	}
	return object{"mediaType": mediaType, "digest": digest(sha(b)), "size": len(b)}
}

func (l *layout) addJSON(mediaType string, v any) object { return l.add(mediaType, toJSON(v)) }

func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func blobFile(dir, hex string) string { return filepath.Join(dir, "blobs/sha256", hex) }

// write makes the layout at dir.
func (m image) write(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755); err != nil {
		return err
	}
	l := &layout{dir}
	index := object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []any{l.addManifest(m)}}
	for _, change := range m.index {
		change(l, index)
	}
	for name, b := range map[string][]byte{"index.json": toJSON(index), "oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	for _, change := range m.after {
		if err := change(dir); err != nil {
			return err
		}
	}
	return nil
}

// addManifest writes layers, config and manifest of m.
func (l *layout) addManifest(m image) object {
	diffIDs, descriptors := []any{}, []any{}
	for _, layer := range m.layers {
		id := digest(sha(layer.tar))
		if layer.diffID != "" {
			id = layer.diffID
		}
		diffIDs = append(diffIDs, id)
		d := l.add("", layer.blob)
		for k, v := range layer.says {
			d[k] = v
		}
		descriptors = append(descriptors, d)
	}
	config := object{
		"architecture": arch, "os": "linux", "config": object{"Env": []any{"PATH=/usr/bin:/bin"}},
		"rootfs": object{"type": "layers", "diff_ids": diffIDs},
	}
	for _, change := range m.config {
		change(config)
	}
	manifest := object{
		"schemaVersion": 2, "mediaType": ociManifest, "layers": descriptors, "config": l.addJSON(ociConfig, config),
	}
	for _, change := range m.manifest {
		change(manifest)
	}
	mediaType, _ := manifest["mediaType"].(string)
	return l.addJSON(mediaType, manifest)
}

// layerFile is the blob of a layer of m.
func (m image) layerFile(dir string, i int) string { return blobFile(dir, sha(m.layers[i].blob)) }

// replaced is m with something else in the place of the blob of its layer.
func (m image) replaced(how func(file string) error) image {
	return m.then(func(dir string) error {
		file := m.layerFile(dir, 0)
		if err := os.Remove(file); err != nil {
			return err
		}
		return how(file)
	})
}

// check looks at the listing of what the run saw; "" when all is well.
type check func(lines map[string]string) string

func checks(list ...check) []check { return list }

func has(name, text string) check {
	return func(lines map[string]string) string {
		if l, ok := lines["/"+name]; !ok || !strings.Contains(l+" ", " "+text+" ") {
			return fmt.Sprintf("%s: %q, want %s", name, l, text)
		}
		return ""
	}
}

func hasFile(name, content string) check { return has(name, "sha256="+sha([]byte(content))) }
func hasDir(name, mode string) check     { return has(name, "dir "+mode) }
func hasLink(name, target string) check  { return has(name, fmt.Sprintf("link %q", target)) }

func lacks(name string) check {
	return func(lines map[string]string) string {
		if l, ok := lines["/"+name]; ok {
			return fmt.Sprintf("%s: %q, want none", name, l)
		}
		return ""
	}
}

// together says that names are links to one file.
func together(first string, others ...string) check {
	return func(lines map[string]string) string {
		for _, name := range append(others, first) {
			if !strings.Contains(lines["/"+name], fmt.Sprintf("group=%q", "/"+first)) {
				return fmt.Sprintf("%s is no link of %s: %q", name, first, lines["/"+name])
			}
		}
		return ""
	}
}
