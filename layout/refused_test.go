package layout_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dlrun/dlrun/layout"
)

// TestRefused is the list of what may be wrong with a layout, and the words
// that say so.
func TestRefused(t *testing.T) {
	const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	inIndex := func(entry string) string { return `{"schemaVersion":2,"manifests":[` + entry + `]}` }
	editJSON := func(from, to string) func(*site) string {
		return func(s *site) string {
			m := s.manifest(other)
			raw, _ := os.ReadFile(s.path(m.Digest))
			edited := strings.Replace(string(raw), from, to, 1)
			if edited == string(raw) {
				s.t.Fatalf("%s is not in %s", from, raw)
			}
			s.index(s.blob(types.OCIManifestSchema1, edited))
			return s.dir
		}
	}
	index := func(content string) func(*site) string {
		return func(s *site) string { s.write("index.json", content); return s.dir }
	}
	config := func(edit func(config string) string) func(*site) string {
		return func(s *site) string {
			c := edit(string(other.config()))
			s.index(with(s.manifest(other, func(m *v1.Manifest) { m.Config = s.blob(types.OCIConfigJSON, c) }),
				func(d *v1.Descriptor) { d.Platform = nil }))
			return s.dir
		}
	}
	entry := func(edit func(*v1.Descriptor)) func(*site) string {
		return func(s *site) string { s.index(with(s.manifest(other), edit)); return s.dir }
	}
	good := func(s *site) string { s.index(s.manifest(other)); return s.dir }
	inPlace := func(part string, put func(name string) error) func(*site) string {
		return func(s *site) string {
			m := s.manifest(other)
			s.index(m)
			name := map[string]string{"index.json": filepath.Join(s.dir, "index.json"), "manifest": s.path(m.Digest),
				"config": s.path(digestOf(other.config()))}[part]
			os.Remove(name)
			s.must(put(name))
			return s.dir
		}
	}

	for _, c := range []struct {
		name  string
		make  func(*site) (ref string)
		o     layout.Options
		words []string
	}{
		{"nothing there", func(s *site) string { return s.dir + "/nosuch" }, layout.Options{}, []string{"nosuch", "OCI layout directory or its index.json", "no such file"}},
		{"nothing there, tag", func(s *site) string { return s.dir + "/nosuch:1" }, layout.Options{}, []string{"nosuch:1", "no such file"}},
		{"empty reference", func(s *site) string { return "" }, layout.Options{}, []string{"no image"}},
		{"registry without the network", func(s *site) string { return "docker://debian" }, layout.Options{}, []string{"docker://docker.io/library/debian:latest", "not in the cache", "no network"}},
		{"no index.json", func(s *site) string { return s.dir }, layout.Options{}, []string{"is not an image: it has no index.json", "no manifest.json"}},
		{"SIF", func(s *site) string {
			s.write("x.sif", strings.Repeat("#", 32)+"SIF_MAGIC")
			return s.dir + "/x.sif"
		}, layout.Options{}, []string{"a SIF image", "not read"}},
		{"xz", func(s *site) string { s.write("x.xz", "\xfd7zXZ\x00"); return s.dir + "/x.xz" }, layout.Options{}, []string{"compressed by xz, which is not read"}},
		{"bzip2", func(s *site) string { s.write("x.bz2", "BZh9"); return s.dir + "/x.bz2" }, layout.Options{}, []string{"compressed by bzip2"}},
		{"squashfs", func(s *site) string { s.write("x.sqfs", "hsqs"); return s.dir + "/x.sqfs" }, layout.Options{}, []string{"a squashfs image"}},
		{"no blobs", func(s *site) string {
			ref := good(s)
			s.must(os.RemoveAll(s.dir + "/blobs"))
			return ref
		}, layout.Options{}, []string{"index.json is not in an OCI layout", "no blobs directory"}},
		{"layout version", func(s *site) string { s.write("oci-layout", `{"imageLayoutVersion":"2.0.0"}`); return good(s) }, layout.Options{}, []string{"oci-layout", `"2.0.0"`, "1.0.0"}},
		{"layout version lacking", func(s *site) string { s.write("oci-layout", `{}`); return good(s) }, layout.Options{}, []string{"oci-layout", `""`}},
		{"layout version garbled", func(s *site) string { s.write("oci-layout", `1.0.0`); return good(s) }, layout.Options{}, []string{"oci-layout"}},

		{"fifo as argument", func(s *site) string { s.must(syscall.Mkfifo(s.dir+"/f", 0o600)); return s.dir + "/f" }, layout.Options{}, []string{"f is a fifo"}},
		{"index is a fifo", inPlace("index.json", func(n string) error { return syscall.Mkfifo(n, 0o600) }), layout.Options{}, []string{"index.json is a fifo"}},
		{"index is a directory", inPlace("index.json", func(n string) error { return os.Mkdir(n, 0o700) }), layout.Options{}, []string{"index.json is a directory"}},
		{"index is a device", inPlace("index.json", func(n string) error { return os.Symlink("/dev/zero", n) }), layout.Options{}, []string{"index.json is a device"}},
		{"index dangles", inPlace("index.json", func(n string) error { return os.Symlink("nosuch", n) }), layout.Options{}, []string{"index.json: no such file"}},
		{"index in a loop", inPlace("index.json", func(n string) error { return os.Symlink(n, n) }), layout.Options{}, []string{"too many levels"}},
		{"manifest is a fifo", inPlace("manifest", func(n string) error { return syscall.Mkfifo(n, 0o600) }), layout.Options{}, []string{"read manifest", "is a fifo"}},
		{"config is a fifo", inPlace("config", func(n string) error { return syscall.Mkfifo(n, 0o600) }), layout.Options{}, []string{"read config", "is a fifo"}},
		{"manifest is gone", inPlace("manifest", func(n string) error { return nil }), layout.Options{}, []string{"read manifest", "is missing"}},
		{"manifest is empty", inPlace("manifest", func(n string) error { return os.WriteFile(n, nil, 0o600) }), layout.Options{}, []string{"read manifest", "0 bytes, want "}},
		{"a text like a pointer", inPlace("manifest", func(n string) error { return os.WriteFile(n, []byte("/annex/objects/x\n"), 0o600) }), layout.Options{}, []string{"17 bytes, want "}},
		{"config of another content", inPlace("config", func(n string) error {
			return os.WriteFile(n, []byte(strings.ToUpper(string(other.config()))), 0o600)
		}), layout.Options{}, []string{"read config", digestOf(other.config()).String(), digestOf([]byte(strings.ToUpper(string(other.config())))).String()}},

		{"index is empty", index(""), layout.Options{}, []string{"index.json is not an image index"}},
		{"index is no JSON", index("{"), layout.Options{}, []string{"index.json is not an image index"}},
		{"index is null", index("null"), layout.Options{}, []string{"schemaVersion is 0"}},
		{"index has a tail", index(inIndex("") + "{}"), layout.Options{}, []string{"after top-level value"}},
		{"index is huge", index(strings.Repeat(" ", 5<<20)), layout.Options{}, []string{"more than 4194304 bytes"}},
		{"index is schema 1", index(`{"schemaVersion":1,"fsLayers":[]}`), layout.Options{}, []string{"schemaVersion is 1: it is of the time before OCI"}},
		{"index is neither", index(`{"schemaVersion":2}`), layout.Options{}, []string{"neither"}},
		{"index is both", index(`{"schemaVersion":2,"manifests":[],"layers":[]}`), layout.Options{}, []string{"of an index and of a manifest"}},
		{"index is a manifest", index(`{"schemaVersion":2,"layers":[],"config":{}}`), layout.Options{}, []string{"an image manifest, not an image index"}},
		{"index says manifest", index(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}`), layout.Options{}, []string{"its media type is"}},
		{"index holds nothing", index(inIndex("")), layout.Options{}, []string{"No matching images found in "}},
		{"index holds null", index(`{"schemaVersion":2,"manifests":null}`), layout.Options{}, []string{"No matching images found in "}},
		{"only unknown types", entry(func(d *v1.Descriptor) { d.MediaType = "application/x" }), layout.Options{}, []string{"No matching images found in "}},

		{"digest with a path", index(inIndex(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:../../../../etc/passwd"}`)), layout.Options{}, []string{"non-hex character"}},
		{"algorithm with a path", index(inIndex(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"../..:` + hex + `"}`)), layout.Options{}, []string{"unsupported hash"}},
		{"digest in capitals", index(inIndex(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:` + strings.ToUpper(hex) + `"}`)), layout.Options{}, []string{"non-hex character"}},
		{"digest too short", index(inIndex(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:` + hex[1:] + `"}`)), layout.Options{}, []string{"wrong number of hex digits"}},
		{"sha512", index(inIndex(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha512:` + hex + hex + `"}`)), layout.Options{}, []string{"only sha256 is supported"}},
		{"digest of a path that exists", func(s *site) string {
			m := s.manifest(three)
			s.index(m)
			s.must(os.Rename(s.dir, s.dir+":1.0"))
			return s.dir + ":1.0@sha256:" + hex
		}, layout.Options{}, []string{"img:1.0: no index or manifest sha256:" + hex}},
		{"no digest", index(inIndex(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1}`)), layout.Options{}, []string{"digest is missing"}},
		{"layer with a path", editJSON(`"digest":"sha256:`, `"digest":"sha256:../`), layout.Options{}, []string{"non-hex character"}},
		{"layer sha512", func(s *site) string {
			s.index(s.manifest(other, func(m *v1.Manifest) { m.Layers[0].Digest = v1.Hash{Algorithm: "sha512", Hex: hex + hex} }))
			return s.dir
		}, layout.Options{}, []string{"layer 1", "only sha256 is supported"}},

		{"size too small", entry(func(d *v1.Descriptor) { d.Size-- }), layout.Options{}, []string{"read manifest", "bytes, want "}},
		{"size too large", entry(func(d *v1.Descriptor) { d.Size++ }), layout.Options{}, []string{"read manifest", "bytes, want "}},
		{"size negative", entry(func(d *v1.Descriptor) { d.Size = -1 }), layout.Options{}, []string{"size -1 is negative"}},
		{"size beyond the limit", entry(func(d *v1.Descriptor) { d.Size = 4<<20 + 1 }), layout.Options{}, []string{"4194305", "at most 4194304"}},
		{"config beyond the limit", func(s *site) string {
			s.index(s.manifest(other, func(m *v1.Manifest) { m.Config.Size = 1 << 40 }))
			return s.dir
		}, layout.Options{}, []string{"read config", "1099511627776", "at most 4194304"}},
		{"embedded data of another content", func(s *site) string {
			m := s.manifest(other)
			s.must(os.Remove(s.path(m.Digest)))
			s.index(with(m, func(d *v1.Descriptor) { d.Data = []byte(strings.Repeat("x", int(d.Size))) }))
			return s.dir
		}, layout.Options{}, []string{"is missing"}},

		{"manifest is both", editJSON(`"layers":`, `"manifests":[],"layers":`), layout.Options{}, []string{"manifest sha256:", "of an index and of a manifest"}},
		{"manifest says index", editJSON(string(types.OCIManifestSchema1), string(types.OCIImageIndex)), layout.Options{}, []string{"its media type is"}},
		{"manifest is an index", func(s *site) string {
			s.index(s.blob(types.OCIManifestSchema1, `{"schemaVersion":2,"manifests":[]}`))
			return s.dir
		}, layout.Options{}, []string{"its media type is"}},
		{"nested index is a manifest", func(s *site) string {
			s.index(with(s.manifest(other), func(d *v1.Descriptor) { d.MediaType = types.OCIImageIndex }))
			return s.dir
		}, layout.Options{}, []string{"its media type is"}},
		{"manifest is no JSON", func(s *site) string { s.index(s.blob(types.OCIManifestSchema1, "[")); return s.dir }, layout.Options{}, []string{"manifest sha256:", "JSON"}},
		{"an artifact", editJSON(string(types.OCIConfigJSON), string(types.OCIEmptyJSON)), layout.Options{}, []string{"not a container image", "vnd.oci.empty"}},
		{"encrypted layer", editJSON("v1.tar\"", "v1.tar+encrypted\""), layout.Options{}, []string{"layer 1", "+encrypted", "not supported"}},

		{"config is no JSON", config(func(string) string { return "]" }), layout.Options{}, []string{"config sha256:"}},
		{"config is null", config(func(string) string { return "null" }), layout.Options{}, []string{"config sha256:", "null"}},
		{"fewer diff_ids", config(func(c string) string {
			return strings.Replace(c, `["`+digestOf([]byte(other.layers[0].tar)).String()+`"]`, "[]", 1)
		}), layout.Options{}, []string{"0 diff_ids, the manifest 1 layers"}},
		{"more diff_ids", config(func(c string) string {
			id := `"` + digestOf([]byte(other.layers[0].tar)).String() + `"`
			return strings.Replace(c, id, id+","+id, 1)
		}), layout.Options{}, []string{"2 diff_ids, the manifest 1 layers"}},
		{"no rootfs", config(func(c string) string { return `{}` }), layout.Options{}, []string{"0 diff_ids"}},
		{"diff_id with a path", config(func(c string) string { return strings.Replace(c, `["sha256:`, `["sha256:../`, 1) }), layout.Options{}, []string{"non-hex character"}},
		{"diff_id sha512", config(func(c string) string {
			return strings.Replace(c, digestOf([]byte(other.layers[0].tar)).String(), "sha512:"+hex+hex, 1)
		}), layout.Options{}, []string{"diff_id 1", "only sha256"}},
		{"config of another platform", config(func(c string) string { return strings.Replace(c, "amd64", "s390x", 1) }), layout.Options{}, []string{"is for linux/s390x, wanted linux/amd64"}},

		{"digest not there", good, layout.Options{Digest: "sha256:" + hex}, []string{"No matching images found in ", hex}},
		{"digest of the config", good, layout.Options{Digest: digestOf(other.config()).String()}, []string{"No matching images found in "}},
		{"digest garbled", good, layout.Options{Digest: "sha256:12"}, []string{`digest "sha256:12"`, "wrong number"}},
		{"digest sha512", good, layout.Options{Digest: "sha512:" + hex + hex}, []string{"only sha256"}},
		{"digest garbled in the reference", func(s *site) string { return good(s) + "@sha256:12" }, layout.Options{}, []string{`digest "sha256:12"`}},
		{"digest and option", func(s *site) string { return good(s) + "@sha256:" + hex }, layout.Options{Digest: "sha256:" + hex[:63] + "0"}, []string{"the reference names the digest", "the option"}},
		{"tag and option", func(s *site) string { return good(s) + ":2.0" }, layout.Options{Tag: "3"}, []string{"the reference names the tag 2.0, the option 3"}},
		{"tag of another digest", func(s *site) string {
			m := s.manifest(three)
			s.index(s.manifest(other), m)
			return s.dir + ":2.0@" + m.Digest.String()
		}, layout.Options{}, []string{"No matching images found in "}},
		{"no tags at all", func(s *site) string {
			s.index(s.manifest(sample{layers: other.layers}))
			return s.dir + ":latest"
		}, layout.Options{}, []string{`no tag "latest"`, "no tag at all"}},
		{"many images", func(s *site) string {
			var entries []v1.Descriptor
			for i := range 30 {
				entries = append(entries, s.manifest(sample{tag: fmt.Sprintf("t%02d", i), arch: "-"}))
			}
			s.index(entries...)
			return s.dir
		}, layout.Options{}, []string{"Multiple images found in ", "t00 (sha256:", "t09", "and 20 more"}},

		{"billion laughs", func(s *site) string {
			d := s.manifest(other)
			for range 32 {
				d = s.nested(d, d)
			}
			s.index(d, d)
			return s.dir
		}, layout.Options{}, []string{"nested deeper than 8"}},
		{"broad", func(s *site) string {
			var entries []v1.Descriptor
			for i := range 300 {
				entries = append(entries, s.nested(v1.Descriptor{MediaType: "x", Size: int64(i), Digest: v1.Hash{Algorithm: "sha256", Hex: hex}}))
			}
			s.index(entries...)
			return s.dir
		}, layout.Options{}, []string{"more than 256 indexes"}},
		{"long", func(s *site) string {
			s.index(s.nested(tooMany(s.manifest(other))...), s.nested(tooMany(s.manifest(three))...))
			return s.dir
		}, layout.Options{}, []string{"more than 20000 entries"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, filepath.Join(t.TempDir(), "img"))
			c.o.Platform = amd64
			_, err := layout.Open(context.Background(), c.make(s), c.o)
			wantWords(t, err, c.words...)
		})
	}
}

// tooMany is 10001 entries of one manifest: two such indexes are too many.
func tooMany(d v1.Descriptor) []v1.Descriptor {
	d.Annotations = nil
	entries := make([]v1.Descriptor, 10001)
	for i := range entries {
		entries[i] = d
	}
	return entries
}
