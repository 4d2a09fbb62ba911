package test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/rogpeppe/go-internal/testscript"
)

// lastLayer IMAGE: $HEX is the digest of the last layer's blob, $KEY its annex key, $DIFFID the digest of its tar.
func lastLayer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lastlayer IMAGE")
	}
	index, err := layout.ImageIndexFromPath(ts.MkAbs(args[0]))
	ts.Check(err)
	manifest, err := index.IndexManifest()
	ts.Check(err)
	img, err := index.Image(manifest.Manifests[0].Digest)
	ts.Check(err)
	m, err := img.Manifest()
	ts.Check(err)
	config, err := img.ConfigFile()
	ts.Check(err)
	last := m.Layers[len(m.Layers)-1]
	ts.Setenv("HEX", last.Digest.Hex)
	ts.Setenv("KEY", fmt.Sprintf("SHA256-s%d--%s", last.Size, last.Digest.Hex))
	ts.Setenv("DIFFID", config.RootFS.DiffIDs[len(m.Layers)-1].Hex)
}

// spoil corrupt|rm|mend HEX: at the registry of this session the blob is something else of the same size, or gone, or right
// again.
func spoil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: spoil corrupt|rm|mend HEX")
	}
	hex := args[1]
	file := filepath.Join(ts.Getenv("WORK"), ".registry/data/docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
	kept := file + ".kept"
	ts.Check(undropped(func() error {
		if args[0] == "mend" {
			return os.Rename(kept, file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.Rename(file, kept); err != nil || args[0] == "rm" {
			return err
		}
		content[len(content)/2] ^= 0xff
		return os.WriteFile(file, content, 0o644)
	}))
}
