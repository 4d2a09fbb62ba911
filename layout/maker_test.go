package layout_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// The makers below write layouts, right ones and wrong ones: site is a
// directory, blobs are added one by one, and every document may be given as a
// value or as raw text.

const (
	refName    = "org.opencontainers.image.ref.name"
	dockerZstd = types.MediaType("application/vnd.docker.image.rootfs.diff.tar.zstd")
)

// sample is an image in words that every medium can store.
type sample struct {
	tag    string
	arch   string // amd64 when empty; "-" leaves the platform out of the index
	layers []sampleLayer
}

// sampleLayer is the content of a layer and how it is packed.
type sampleLayer struct {
	tar  string
	pack string // "", gzip or zstd
}

func (l sampleLayer) packed() []byte {
	var b bytes.Buffer
	switch l.pack {
	case "gzip":
		z := gzip.NewWriter(&b)
		z.Write([]byte(l.tar))
		z.Close()
	case "zstd":
		z, _ := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
		z.Write([]byte(l.tar))
		z.Close()
	default:
		b.WriteString(l.tar)
	}
	return b.Bytes()
}

func (s sample) platform() v1.Platform {
	if s.arch == "" || s.arch == "-" {
		return v1.Platform{OS: "linux", Architecture: "amd64"}
	}
	arch, variant, _ := strings.Cut(s.arch, "/")
	return v1.Platform{OS: "linux", Architecture: arch, Variant: variant}
}

func (s sample) config() []byte {
	p := s.platform()
	c := v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, RootFS: v1.RootFS{Type: "layers"}}
	c.Config.Env = []string{"TAG=" + s.tag}
	for _, l := range s.layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digestOf([]byte(l.tar)))
	}
	return marshal(c)
}

func digestOf(b []byte) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(b))
	return h
}

func marshal(v any) []byte {
	switch v := v.(type) {
	case string:
		return []byte(v)
	case []byte:
		return v
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// site is an OCI layout that is being made.
type site struct {
	t   testing.TB
	dir string
}

func newSite(t testing.TB, dir string) *site {
	t.Helper()
	s := &site{t, dir}
	s.write("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	s.must(os.MkdirAll(filepath.Join(dir, "blobs/sha256"), 0o755))
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(name string, content any) {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	s.must(os.MkdirAll(filepath.Dir(name), 0o755))
	os.Remove(name)
	s.must(os.WriteFile(name, marshal(content), 0o644))
}

func (s *site) path(h v1.Hash) string { return filepath.Join(s.dir, "blobs/sha256", h.Hex) }

func (s *site) blob(t types.MediaType, content any) v1.Descriptor {
	s.t.Helper()
	raw := marshal(content)
	d := v1.Descriptor{MediaType: t, Size: int64(len(raw)), Digest: digestOf(raw)}
	s.must(os.MkdirAll(filepath.Dir(s.path(d.Digest)), 0o755))
	s.must(os.WriteFile(s.path(d.Digest), raw, 0o644))
	return d
}

// manifest stores the layers, the config and the manifest, which edit may change.
func (s *site) manifest(img sample, edit ...func(*v1.Manifest)) v1.Descriptor {
	s.t.Helper()
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{}}
	for _, l := range img.layers {
		t := map[string]types.MediaType{"": types.OCIUncompressedLayer, "gzip": types.OCILayer, "zstd": types.OCILayerZStd}[l.pack]
		m.Layers = append(m.Layers, s.blob(t, l.packed()))
	}
	m.Config = s.blob(types.OCIConfigJSON, img.config())
	for _, e := range edit {
		e(&m)
	}
	d := s.blob(m.MediaType, m)
	if p := img.platform(); img.arch != "-" {
		d.Platform = &p
	}
	if img.tag != "" {
		d.Annotations = map[string]string{refName: img.tag}
	}
	return d
}

func indexOf(entries ...v1.Descriptor) v1.IndexManifest {
	return v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: entries}
}

// nested stores an index as a blob.
func (s *site) nested(entries ...v1.Descriptor) v1.Descriptor {
	s.t.Helper()
	return s.blob(types.OCIImageIndex, indexOf(entries...))
}

// index writes index.json.
func (s *site) index(entries ...v1.Descriptor) {
	s.t.Helper()
	s.write("index.json", indexOf(entries...))
}

// docker renames every media type of a manifest to Docker's.
func docker(m *v1.Manifest) {
	m.MediaType = types.DockerManifestSchema2
	m.Config.MediaType = types.DockerConfigJSON
	for i := range m.Layers {
		m.Layers[i].MediaType = map[types.MediaType]types.MediaType{
			types.OCIUncompressedLayer: types.DockerUncompressedLayer,
			types.OCILayer:             types.DockerLayer,
			types.OCILayerZStd:         dockerZstd,
		}[m.Layers[i].MediaType]
	}
}

func with(d v1.Descriptor, edit func(*v1.Descriptor)) v1.Descriptor {
	edit(&d)
	return d
}

func tagged(d v1.Descriptor, tag string) v1.Descriptor {
	return with(d, func(d *v1.Descriptor) { d.Annotations = map[string]string{refName: tag} })
}

// lock replaces a file by a symlink into a git-annex object store, as git
// annex add does, and returns the key and the object.
func (s *site) lock(name string) (key, object string) {
	s.t.Helper()
	content, err := os.ReadFile(name)
	s.must(err)
	key = fmt.Sprintf("SHA256E-s%d--%s.bin", len(content), digestOf(content).Hex)
	store := filepath.Join(filepath.Dir(s.dir), ".git/annex/objects/aa/bb", key)
	object = filepath.Join(store, key)
	s.must(os.MkdirAll(store, 0o755))
	s.must(os.WriteFile(object, content, 0o444))
	target, err := filepath.Rel(filepath.Dir(name), object)
	s.must(err)
	s.must(os.Remove(name))
	s.must(os.Symlink(target, name))
	return key, object
}

// drop locks a file and loses its content.
func (s *site) drop(name string) (key string) {
	s.t.Helper()
	key, object := s.lock(name)
	s.must(os.Remove(object))
	return key
}

// point replaces a file by a git-annex pointer file.
func (s *site) point(name string) (key string) {
	s.t.Helper()
	content, err := os.ReadFile(name)
	s.must(err)
	key = fmt.Sprintf("MD5E-s%d--%s.json", len(content), digestOf(content).Hex[:32])
	s.must(os.Remove(name))
	s.must(os.WriteFile(name, []byte("/annex/objects/"+key+"\n"), 0o644))
	return key
}

// files lists all paths below the layout.
func (s *site) files() []string {
	s.t.Helper()
	var files []string
	s.must(filepath.WalkDir(s.dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, name)
		}
		return err
	}))
	return files
}

// withConfig gives a manifest the config of another image.
func withConfig(s *site, img sample) func(*v1.Manifest) {
	return func(m *v1.Manifest) { m.Config = s.blob(types.OCIConfigJSON, img.config()) }
}
