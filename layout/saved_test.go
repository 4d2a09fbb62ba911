package layout_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/dlrun/dlrun/layout"
)

// savedEntry is an image in manifest.json of a docker save.
type savedEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// saver names the file of a layer in a docker save, and its content.
type saver func(l sampleLayer) (name string, content []byte)

// Docker up to 24 names the directory of a layer by an id of its own making.
func legacyName(l sampleLayer) (string, []byte) {
	return digestOf([]byte("legacy id of "+l.tar)).Hex + "/layer.tar", []byte(l.tar)
}

func skopeoName(l sampleLayer) (string, []byte) {
	return digestOf([]byte(l.tar)).Hex + ".tar", []byte(l.tar)
}

// compressedName is a layer that is compressed, and nothing tells.
func compressedName(l sampleLayer) (string, []byte) {
	return digestOf([]byte("legacy id of "+l.tar)).Hex + "/layer.tar", l.packed()
}

// ggcrName is the one of go-containerregistry, crane and kaniko.
func ggcrName(l sampleLayer) (string, []byte) {
	return digestOf(l.packed()).Hex + ".tar.gz", l.packed()
}

// writeSaved makes the directory of a docker save. A layer that is there
// already is a symlink to the first, as Docker has it.
func writeSaved(name saver, configName func(hex string) string) func(t *testing.T, dir string, images ...sample) string {
	return func(t *testing.T, dir string, images ...sample) string {
		s := &site{t, filepath.Join(dir, "img")}
		s.save(name, configName, images...)
		return s.dir
	}
}

func jsonName(hex string) string { return hex + ".json" }

func (s *site) save(name saver, configName func(hex string) string, images ...sample) []savedEntry {
	s.t.Helper()
	list := []savedEntry{}
	first := map[string]string{}
	for n, img := range images {
		e := savedEntry{Config: configName(digestOf(img.config()).Hex)}
		if img.tag != "" {
			e.RepoTags = []string{"lab/img:" + img.tag}
		}
		s.write(e.Config, img.config())
		for i, l := range img.layers {
			file, content := name(l)
			if seen, ok := first[file]; ok && strings.HasSuffix(file, "/layer.tar") {
				file = fmt.Sprintf("%064d/layer.tar", 1000*n+i)
				s.must(os.MkdirAll(filepath.Dir(filepath.Join(s.dir, file)), 0o755))
				s.must(os.Symlink("../"+seen, filepath.Join(s.dir, file)))
			} else {
				first[file] = file
				s.write(file, content)
			}
			e.Layers = append(e.Layers, file)
		}
		list = append(list, e)
	}
	s.write("manifest.json", list)
	s.write("repositories", "{}")
	return list
}

// writeDocker25 is what Docker 25 and later save: an OCI layout with a
// manifest.json that names the same blobs.
func writeDocker25(t *testing.T, dir string, images ...sample) string {
	s := newSite(t, filepath.Join(dir, "img"))
	var entries []v1.Descriptor
	list := []savedEntry{}
	for _, img := range images {
		e := savedEntry{Config: "blobs/sha256/" + digestOf(img.config()).Hex}
		d := s.manifest(img, docker)
		if img.tag != "" {
			e.RepoTags = []string{"lab/img:" + img.tag}
			d.Annotations = map[string]string{refName: img.tag, "io.containerd.image.name": "docker.io/lab/img:" + img.tag}
		}
		for _, l := range img.layers {
			e.Layers = append(e.Layers, "blobs/sha256/"+digestOf(l.packed()).Hex)
		}
		entries, list = append(entries, d), append(list, e)
	}
	s.index(entries...)
	s.write("manifest.json", list)
	return s.dir
}

func writeSkopeoDir(t *testing.T, dir string, images ...sample) string {
	layout := &site{t, writeOCI(t, t.TempDir(), images...)}
	s := &site{t, filepath.Join(dir, "img")}
	s.write("version", "Directory Transport Version: 1.1\n")
	d := layout.manifest(images[0], docker)
	for _, name := range layout.files() {
		content, err := os.ReadFile(name)
		s.must(err)
		if hex := filepath.Base(name); hex == d.Digest.Hex {
			s.write("manifest.json", content)
		} else if len(hex) == 64 {
			s.write(hex, content)
		}
	}
	return s.dir
}

// archived packs what write makes into a tar, compressed or not.
func archived(write func(*testing.T, string, ...sample) string, pack string) func(*testing.T, string, ...sample) string {
	return func(t *testing.T, dir string, images ...sample) string {
		name := filepath.Join(dir, "img.tar")
		writeFile(t, name, packed(tarOf(t, write(t, t.TempDir(), images...)), pack))
		return name
	}
}

func writeFile(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// tarOf is a tar of a directory as `tar -C DIR -c .` makes it.
func tarOf(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if d.Type() == fs.ModeSymlink {
			if link, err = os.Readlink(name); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(fi, link)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		if h.Name = "./" + rel; d.IsDir() {
			h.Name += "/"
		}
		if err := w.WriteHeader(h); err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packed(content []byte, pack string) []byte {
	var b bytes.Buffer
	switch pack {
	case "gzip": // in two members, with padding, as concatenated files on tape
		for _, part := range [][]byte{content[:len(content)/2], content[len(content)/2:]} {
			z := gzip.NewWriter(&b)
			z.Write(part)
			z.Close()
		}
		b.Write(make([]byte, 512))
	case "zstd":
		z, _ := zstd.NewWriter(&b)
		z.Write(content)
		z.Close()
	default:
		return content
	}
	return b.Bytes()
}

// TestForms runs the suite on every form but the OCI directory, and on all of
// them in archives.
func TestForms(t *testing.T) {
	legacy := writeSaved(legacyName, jsonName)
	skopeo := writeSaved(skopeoName, jsonName)
	ggcr := writeSaved(ggcrName, func(hex string) string { return "sha256:" + hex })
	annexed := func(write func(*testing.T, string, ...sample) string) func(*testing.T, string, ...sample) string {
		return func(t *testing.T, dir string, images ...sample) string {
			s := &site{t, write(t, dir, images...)}
			for _, name := range s.files() {
				if fi, err := os.Lstat(name); err == nil && fi.Mode().IsRegular() {
					s.lock(name)
				}
			}
			return s.dir
		}
	}
	in := func(name saver) func(string, sampleLayer) string {
		return func(ref string, l sampleLayer) string {
			file, _ := name(l)
			return filepath.Join(ref, file)
		}
	}
	openers := map[string]opener{
		"docker save":             {write: legacy, layer: in(legacyName), plain: true},
		"docker save, annexed":    {write: annexed(legacy), layer: in(legacyName), plain: true},
		"docker save by skopeo":   {write: skopeo, layer: in(skopeoName), plain: true},
		"docker save, compressed": {write: writeSaved(compressedName, jsonName)},
		"docker save by ggcr":     {write: ggcr},
		"docker save, bare names": {write: writeSaved(legacyName, func(hex string) string { return "config-" + hex[:8] })},
		"docker 25":               {write: writeDocker25, layer: layerOCI},
		"docker 25, annexed":      {write: annexed(writeDocker25)},
		"docker 25, index astray": {write: func(t *testing.T, dir string, images ...sample) string {
			s := &site{t, writeDocker25(t, dir, images...)}
			s.drop(filepath.Join(s.dir, "index.json"))
			return s.dir
		}},
		"skopeo dir":          {write: writeSkopeoDir, single: true, layer: func(ref string, l sampleLayer) string { return filepath.Join(ref, digestOf(l.packed()).Hex) }},
		"skopeo dir, annexed": {write: annexed(writeSkopeoDir), single: true},
		"skopeo dir archived": {write: archived(writeSkopeoDir, ""), single: true},
		"docker 25 archived":  {write: archived(writeDocker25, "gzip")},
		"ggcr archived":       {write: archived(ggcr, "")},
		"annexed archive": {write: func(t *testing.T, dir string, images ...sample) string {
			ref := archived(legacy, "")(t, dir, images...)
			(&site{t, ref}).lock(ref)
			return ref
		}},
	}
	for _, pack := range []string{"", "gzip", "zstd"} {
		openers["docker archive "+pack] = opener{write: archived(legacy, pack)}
		openers["docker archive of skopeo "+pack] = opener{write: archived(skopeo, pack)}
		openers["oci archive "+pack] = opener{write: archived(writeOCI, pack)}
	}
	for name, o := range openers {
		t.Run(name, func(t *testing.T) { testOpener(t, o) })
	}
}

// TestSameImage gives one image in every form: the id, the diff_ids and the
// digest of the manifest that is made up are the same.
func TestSameImage(t *testing.T) {
	digests := map[v1.Hash][]string{}
	for name, write := range map[string]func(*testing.T, string, ...sample) string{
		"directory": writeSaved(legacyName, jsonName),
		"skopeo":    writeSaved(skopeoName, jsonName),
		"archive":   archived(writeSaved(legacyName, jsonName), "zstd"),
	} {
		img, err := layout.Open(context.Background(), write(t, t.TempDir(), three), layout.Options{Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		d, _ := img.Digest()
		digests[d] = append(digests[d], name)
	}
	if len(digests) != 1 {
		t.Errorf("one image has the digests %v", digests)
	}
}

// TestAdapterPicks is how users of DataLad's docker adapter pick.
func TestAdapterPicks(t *testing.T) {
	ctx := context.Background()
	s := &site{t, filepath.Join(t.TempDir(), "img")}
	list := s.save(legacyName, jsonName, three, other)
	list[0].RepoTags = []string{"lab/a:1", "registry.example.org:5000/lab/a:1", "lab/a:latest"}
	list[1].RepoTags = []string{"lab/b:1"}
	s.write("manifest.json", list)
	ids := map[string]v1.Hash{"three": digestOf(three.config()), "other": digestOf(other.config())}
	for _, c := range []struct {
		o    layout.Options
		want string // "" is an error
		err  string
	}{
		{layout.Options{RepoTag: "lab/a:1"}, "three", ""},
		{layout.Options{RepoTag: "lab/b:1"}, "other", ""},
		{layout.Options{RepoTag: "registry.example.org:5000/lab/a:1"}, "three", ""},
		{layout.Options{RepoTag: "b:1"}, "other", ""},
		{layout.Options{Tag: "latest"}, "three", ""},
		{layout.Options{Config: ids["other"].Hex[:6]}, "other", ""},
		{layout.Options{Config: ids["other"].Hex}, "other", ""},
		{layout.Options{Config: ids["three"].String()}, "three", ""},
		{layout.Options{Config: list[1].Config}, "other", ""},
		{layout.Options{RepoTag: "lab/a:1", Config: ids["three"].Hex[:2]}, "three", ""},
		{layout.Options{}, "", "Multiple images found in " + s.dir + "; disambiguate with --repo-tag or --config"},
		{layout.Options{Tag: "1"}, "", "Multiple images found in " + s.dir + "; disambiguate with --repo-tag or --config"},
		{layout.Options{RepoTag: "lab/c:1"}, "", "No matching images found in " + s.dir},
		{layout.Options{RepoTag: "lab/a"}, "", "No matching images found in " + s.dir},
		{layout.Options{Config: "zz"}, "", "No matching images found in " + s.dir},
		{layout.Options{RepoTag: "lab/b:1", Config: ids["three"].Hex}, "", "No matching images found in " + s.dir},
	} {
		for _, ref := range []string{s.dir, s.dir + "/manifest.json"} {
			c.o.Platform = amd64
			img, err := layout.Open(ctx, ref, c.o)
			if c.want == "" {
				wantWords(t, err, c.err)
				continue
			}
			if err != nil {
				t.Errorf("%+v: %v", c.o, err)
				continue
			}
			if got, _ := img.ConfigName(); got != ids[c.want] {
				t.Errorf("%+v: got %s, want %s", c.o, got, c.want)
			}
		}
	}
	img, err := layout.Open(ctx, s.dir, layout.Options{Config: ids["three"].Hex, Platform: amd64})
	s.must(err)
	if diff := cmp.Diff(list[0].RepoTags, img.Names()); diff != "" {
		t.Error(diff)
	}
	// The config of an image that is not asked for may be elsewhere.
	key := s.drop(filepath.Join(s.dir, list[0].Config))
	if _, err := layout.Open(ctx, s.dir, layout.Options{RepoTag: "lab/b:1", Platform: amd64}); err != nil {
		t.Error(err)
	}
	_, err = layout.Open(ctx, s.dir, layout.Options{RepoTag: "lab/a:1", Platform: amd64})
	wantWords(t, err, key, list[0].Config)
	wantHint(t, err, "datalad get "+s.dir)
}

// TestDocker25Picks picks by the names and the config as manifest.json has them,
// also where the index does not know the name.
func TestDocker25Picks(t *testing.T) {
	s := &site{t, writeDocker25(t, t.TempDir(), three, other)}
	id := digestOf(other.config())
	for _, o := range []layout.Options{
		{RepoTag: "lab/img:2.0"}, {RepoTag: "docker.io/lab/img:2.0"}, {Config: "blobs/sha256/" + id.Hex[:8]}, {Config: id.Hex[:8]},
	} {
		o.Platform = amd64
		img, err := layout.Open(context.Background(), s.dir, o)
		s.must(err)
		if got, _ := img.ConfigName(); got != id {
			t.Errorf("%+v: got %s", o, got)
		}
		if mediaType, _ := img.MediaType(); mediaType != types.DockerManifestSchema2 {
			t.Errorf("%+v: not by the index: %s", o, mediaType)
		}
	}
	s.index(s.manifest(three), s.manifest(other, docker)) // without names
	img, err := layout.Open(context.Background(), s.dir, layout.Options{RepoTag: "lab/img:2.0", Platform: amd64})
	s.must(err)
	if got, _ := img.ConfigName(); got != id {
		t.Errorf("got %s", got)
	}
	checkImage(t, img, other)
}

// TestSavedWarmStart removes all that a start from a warm cache must not need.
func TestSavedWarmStart(t *testing.T) {
	for name, how := range map[string]saver{"legacy": legacyName, "compressed": compressedName, "ggcr": ggcrName} {
		t.Run(name, func(t *testing.T) {
			s := &site{t, filepath.Join(t.TempDir(), "img")}
			s.save(how, jsonName, three)
			for _, l := range three.layers {
				file, _ := how(l)
				file = filepath.Join(s.dir, file)
				s.must(os.Remove(file))
				s.must(syscall.Mkfifo(file, 0o600))
			}
			if _, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSavedMissing loses layers of a docker save; the second is reached by a
// symlink beside it.
func TestSavedMissing(t *testing.T) {
	twice := sample{tag: "1", layers: []sampleLayer{three.layers[0], three.layers[1], three.layers[0]}}
	for name, lose := range map[string]func(*site, string) string{"dropped": (*site).drop, "pointer": (*site).point} {
		t.Run(name, func(t *testing.T) {
			s := &site{t, filepath.Join(t.TempDir(), "img")}
			list := s.save(legacyName, jsonName, twice)
			whole, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
			s.must(err)
			file, content := legacyName(twice.layers[0])
			key := lose(s, filepath.Join(s.dir, file))
			img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
			s.must(err)
			err = img.CheckLayers()
			var missing *layout.MissingError
			if !errors.As(err, &missing) {
				t.Fatalf("got %v, want a MissingError", err)
			}
			want := []layout.MissingBlob{{Digest: digestOf(content).String(), Path: filepath.Join(s.dir, file), Key: key, Size: int64(len(content))}}
			if diff := cmp.Diff(want, missing.Blobs); diff != "" {
				t.Error(diff)
			}
			wantHint(t, err, "datalad get "+s.dir)
			layers, _ := img.Layers()
			_, err = layers[2].Compressed()
			wantWords(t, err, key, "1 file")
			// The key knows the size, so the manifest is the same.
			a, _ := whole.Digest()
			if b, _ := img.Digest(); a != b {
				t.Errorf("digest %s, with all layers %s", b, a)
			}
			s.drop(filepath.Join(s.dir, list[0].Config))
			_, err = layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
			wantHint(t, err, "datalad get "+s.dir)
		})
	}
}

// TestMeasured gives layers that are compressed, which nothing tells, their sizes.
func TestMeasured(t *testing.T) {
	ctx := context.Background()
	img, err := layout.Open(ctx, writeSaved(compressedName, jsonName)(t, t.TempDir(), three), layout.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	measured, err := img.Measured(ctx)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, measured, three)
	manifest, _ := measured.Manifest()
	layers, _ := measured.Layers()
	for n, l := range three.layers {
		size, _ := layers[n].Size()
		if want := int64(len(l.tar)); size != want || manifest.Layers[n].Size != want {
			t.Errorf("layer %d: %d bytes, in the manifest %d, want %d", n, size, manifest.Layers[n].Size, want)
		}
	}
	plain, err := layout.Open(ctx, writeSaved(legacyName, jsonName)(t, t.TempDir(), three), layout.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	a, _ := plain.Digest()
	if b, _ := measured.Digest(); a != b {
		t.Errorf("digest %s, that of plain layers is %s", b, a)
	}
	if same, err := plain.Measured(ctx); err != nil || same != plain {
		t.Errorf("plain layers were measured anew: %v", err)
	}
	r, _ := layers[0].Compressed()
	io.ReadFull(r, make([]byte, 10))
	wantWords(t, r.Close(), "before its end, not verified")
}

// TestSkopeoAll is an index of skopeo copy --all.
func TestSkopeoAll(t *testing.T) {
	from := newSite(t, t.TempDir())
	s := &site{t, filepath.Join(t.TempDir(), "img")}
	entries := []v1.Descriptor{from.manifest(three), from.manifest(foreign)}
	s.write("manifest.json", indexOf(entries...))
	for _, name := range from.files() {
		content, err := os.ReadFile(name)
		s.must(err)
		hex := filepath.Base(name)
		if hex == entries[0].Digest.Hex || hex == entries[1].Digest.Hex {
			hex += ".manifest.json"
		}
		s.write(hex, content)
	}
	for want, p := range map[*sample]*v1.Platform{&three: amd64, &foreign: {OS: "linux", Architecture: "arm64"}} {
		img, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: p})
		s.must(err)
		checkImage(t, img, *want)
	}
}
