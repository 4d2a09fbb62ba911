package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// savedImages are the two images of a docker save: they share their lowest
// layer, and lab/b:1 has an ENTRYPOINT and two names. The file /which tells them apart.
func savedImages() map[string]v1.Config {
	b := config
	b.Entrypoint = []string{"/bin/sh", "-c", `echo entry "$@"`, "sh"}
	return map[string]v1.Config{"lab/a:1": config, "lab/b:1": b}
}

// saved is the directory that DataLad's docker adapter makes: what `docker save`
// of Docker up to 24 writes, extracted. A layer is LAYER/layer.tar; where
// another image has it already, it is a symlink to that one.
func saved(_ context.Context, dir, _ string) error {
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var list []entry
	first := map[string]string{}
	for _, name := range []string{"lab/a:1", "lab/b:1"} {
		file := v1.ConfigFile{Architecture: architecture, OS: "linux", Config: savedImages()[name], Created: v1.Time{Time: epoch}, RootFS: v1.RootFS{Type: "layers"}}
		e := entry{RepoTags: []string{name}}
		if name == "lab/b:1" {
			e.RepoTags = append(e.RepoTags, "lab/b:latest")
		}
		for n, l := range []Layer{shell(), Entries(File("which", 0o644, name+"\n"))} {
			var tar bytes.Buffer
			if err := l(&tar); err != nil {
				return err
			}
			diffID := hexOf(tar.Bytes())
			file.RootFS.DiffIDs = append(file.RootFS.DiffIDs, v1.Hash{Algorithm: "sha256", Hex: diffID})
			id := hexOf(fmt.Appendf(nil, "%s %d", name, n))
			e.Layers = append(e.Layers, id+"/layer.tar")
			if err := writeFiles(filepath.Join(dir, id), map[string]any{"VERSION": "1.0", "json": map[string]string{"id": id}}); err != nil {
				return err
			}
			layer := filepath.Join(dir, id, "layer.tar")
			if other, ok := first[diffID]; ok {
				if err := os.Symlink("../"+other, layer); err != nil {
					return err
				}
				continue
			}
			first[diffID] = id + "/layer.tar"
			if err := os.WriteFile(layer, tar.Bytes(), 0o644); err != nil {
				return err
			}
		}
		raw, err := json.Marshal(file)
		if err != nil {
			return err
		}
		e.Config = hexOf(raw) + ".json"
		if err := os.WriteFile(filepath.Join(dir, e.Config), raw, 0o644); err != nil {
			return err
		}
		list = append(list, e)
	}
	return writeFiles(dir, map[string]any{"manifest.json": list, "repositories": map[string]any{}})
}

// saved25 is what Docker 25 and later save: an OCI layout with Docker's media
// types and plain layers, and a manifest.json over the same blobs.
func saved25(_ context.Context, dir, _ string) error {
	blobs := filepath.Join(dir, "blobs/sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	put := func(mediaType string, raw []byte) (map[string]any, error) {
		hex := hexOf(raw)
		return map[string]any{"mediaType": mediaType, "size": len(raw), "digest": "sha256:" + hex}, os.WriteFile(filepath.Join(blobs, hex), raw, 0o644)
	}
	var index, list []map[string]any
	for _, name := range []string{"lab/a:1", "lab/b:1"} {
		file := v1.ConfigFile{Architecture: architecture, OS: "linux", Config: savedImages()[name], Created: v1.Time{Time: epoch}, RootFS: v1.RootFS{Type: "layers"}}
		var layers []map[string]any
		var paths []string
		for _, l := range []Layer{shell(), Entries(File("which", 0o644, name+"\n"))} {
			var tar bytes.Buffer
			if err := l(&tar); err != nil {
				return err
			}
			d, err := put("application/vnd.docker.image.rootfs.diff.tar", tar.Bytes())
			if err != nil {
				return err
			}
			hex := hexOf(tar.Bytes())
			layers, paths = append(layers, d), append(paths, "blobs/sha256/"+hex)
			file.RootFS.DiffIDs = append(file.RootFS.DiffIDs, v1.Hash{Algorithm: "sha256", Hex: hex})
		}
		raw, err := json.Marshal(file)
		if err != nil {
			return err
		}
		config, err := put("application/vnd.docker.container.image.v1+json", raw)
		if err != nil {
			return err
		}
		const manifestType = "application/vnd.docker.distribution.manifest.v2+json"
		manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": layers})
		if err != nil {
			return err
		}
		d, err := put(manifestType, manifest)
		if err != nil {
			return err
		}
		d["annotations"] = map[string]string{"io.containerd.image.name": "docker.io/" + name, "org.opencontainers.image.ref.name": "1"}
		index = append(index, d)
		list = append(list, map[string]any{"Config": "blobs/sha256/" + hexOf(raw), "RepoTags": []string{name}, "Layers": paths})
	}
	return writeFiles(dir, map[string]any{
		"index.json":    map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": index},
		"oci-layout":    map[string]string{"imageLayoutVersion": "1.0.0"},
		"manifest.json": list,
	})
}

func hexOf(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// writeFiles makes dir and the files in it, of text or of JSON.
func writeFiles(dir string, files map[string]any) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		raw, isText := content.(string)
		if !isText {
			b, err := json.Marshal(content)
			if err != nil {
				return err
			}
			raw = string(b)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(raw), 0o644); err != nil {
			return err
		}
	}
	return nil
}
