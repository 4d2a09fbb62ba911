package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/layout"
)

// TestExport takes an image from every form through every kind of archive and
// back.
func TestExport(t *testing.T) {
	ctx := context.Background()
	named := three
	named.tag = "1.0"
	forms := map[string]func(*testing.T, string, ...sample) string{
		"layout": writeOCI, "docker save": writeSaved(legacyName, jsonName), "docker save, compressed": writeSaved(compressedName, jsonName),
		"docker 25": writeDocker25, "docker save by ggcr": writeSaved(ggcrName, jsonName), "archive": archived(writeSaved(skopeoName, jsonName), "zstd"),
	}
	for form, write := range forms {
		first, err := layout.Open(ctx, write(t, t.TempDir(), named), layout.Options{Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		second, err := layout.Open(ctx, write(t, t.TempDir(), named), layout.Options{Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range []string{layout.DockerArchive, layout.OCIArchive} {
			for _, pack := range []string{"", "gzip", "zstd"} {
				t.Run(strings.Join([]string{form, format, pack}, " "), func(t *testing.T) {
					o := layout.ExportOptions{Format: format, Compression: pack, Names: []string{"lab/img:1.0", "lab/img:latest"}}
					var a, b bytes.Buffer
					if err := first.Export(ctx, &a, o); err != nil {
						t.Fatal(err)
					}
					if err := second.Export(ctx, &b, o); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(a.Bytes(), b.Bytes()) {
						t.Error("the same image from another place gives other bytes")
					}
					name := filepath.Join(t.TempDir(), "x")
					writeFile(t, name, a.Bytes())
					img, err := layout.Open(ctx, name+":1.0", layout.Options{Platform: amd64})
					if err != nil {
						t.Fatal(err)
					}
					checkImage(t, img, named)
					if img, err = layout.Open(ctx, name, layout.Options{Platform: amd64}); err != nil {
						t.Fatal(err)
					}
					want := o.Names
					if format == layout.OCIArchive {
						want = want[:1]
					}
					if diff := cmp.Diff(want, img.Names()); diff != "" {
						t.Error(diff)
					}
				})
			}
		}
	}
}

// TestExportNames keeps the names that an image has, and takes that of its source.
func TestExportNames(t *testing.T) {
	ctx := context.Background()
	s := &site{t, filepath.Join(t.TempDir(), "img")}
	list := s.save(legacyName, jsonName, other)
	list[0].RepoTags = []string{"lab/a:1", "localhost:5000/a:2"}
	s.write("manifest.json", list)
	source := func(annotations map[string]string) string {
		s := newSite(t, filepath.Join(t.TempDir(), "img"))
		d := s.manifest(other)
		d.Annotations = annotations
		s.index(d)
		return s.dir
	}
	const key = "org.datalad.container.image.source"
	for ref, want := range map[string][]string{
		s.dir: list[0].RepoTags,
		source(map[string]string{refName: "1", key: "docker://debian:12"}):                                                        {"debian:12"},
		source(map[string]string{refName: "1", key: "docker://localhost:5000/lab/a:1@sha256:" + strings.Repeat("0123456789", 6)}): {"localhost:5000/lab/a:1"},
		source(map[string]string{refName: "lab/a:1"}):                                                                             {"lab/a:1"},
		source(map[string]string{refName: "1", "io.containerd.image.name": "docker.io/lab/a:1"}):                                  {"docker.io/lab/a:1"},
		source(map[string]string{refName: "1", key: "docker://localhost:5000/lab/a"}):                                             {"localhost:5000/lab/a:1"},
		source(map[string]string{key: "docker://localhost:5000/lab/a"}):                                                           nil,
		source(map[string]string{refName: "1"}):                                                                                   nil,
		source(nil):                                                                                                               nil,
	} {
		img, err := layout.Open(ctx, ref, layout.Options{Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := img.Export(ctx, &b, layout.ExportOptions{}); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "x.tar")
		writeFile(t, name, b.Bytes())
		again, err := layout.Open(ctx, name, layout.Options{Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, again.Names()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestExportLevels(t *testing.T) {
	ctx := context.Background()
	img, err := layout.Open(ctx, writeOCI(t, t.TempDir(), three), layout.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[int]bool{}
	for _, level := range []int{1, 3, 7, 19} {
		var b bytes.Buffer
		if err := img.Export(ctx, &b, layout.ExportOptions{Compression: "zstd", Level: level}); err != nil {
			t.Fatal(err)
		}
		sizes[b.Len()] = true
	}
	if len(sizes) < 2 {
		t.Errorf("the level makes no difference: %v", sizes)
	}
	for _, c := range []struct {
		o     layout.ExportOptions
		words string
	}{
		{layout.ExportOptions{Format: "tar"}, `format "tar" is neither docker-archive nor oci-archive`},
		{layout.ExportOptions{Compression: "xz"}, `compression "xz" is neither gzip nor zstd`},
		{layout.ExportOptions{Compression: "gzip", Level: 10}, "compression level 10 of gzip is not between 1 and 9"},
		{layout.ExportOptions{Compression: "zstd", Level: -1}, "not between 1 and 22"},
		{layout.ExportOptions{Level: 1}, "not compressed"},
		{layout.ExportOptions{Names: []string{"lab/a"}}, `"lab/a" is no IMAGE:TAG`},
		{layout.ExportOptions{Names: []string{"Lab/../a:1"}}, "is no IMAGE:TAG"},
	} {
		wantWords(t, img.Export(ctx, io.Discard, c.o), c.words)
	}
}

// full is a disk that is full after n bytes.
type full struct{ n int }

var errFull = errors.New("no space left on device")

func (f *full) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestExportFails has layers that are damaged or absent, and a full disk.
func TestExportFails(t *testing.T) {
	ctx := context.Background()
	for _, format := range []string{layout.DockerArchive, layout.OCIArchive} {
		for n, l := range three.layers {
			for what, c := range map[string]struct {
				spoil func(name string) error
				words []string
			}{
				"absent":  {os.Remove, []string{"is missing"}},
				"flipped": {func(name string) error { b := l.packed(); b[len(b)/2] ^= 1; return overwrite(name, b) }, []string{"its content has the digest"}},
				"cut":     {func(name string) error { return overwrite(name, l.packed()[:10]) }, []string{"10 bytes, want "}},
			} {
				t.Run(fmt.Sprint(format, " layer ", n, " ", what), func(t *testing.T) {
					ref := writeOCI(t, t.TempDir(), three)
					if err := c.spoil(layerOCI(ref, l)); err != nil {
						t.Fatal(err)
					}
					img, err := layout.Open(ctx, ref, layout.Options{Platform: amd64})
					if err != nil {
						t.Fatal(err)
					}
					err = img.Export(ctx, io.Discard, layout.ExportOptions{Format: format})
					wantWords(t, err, append(c.words, digestOf(l.packed()).String())...)
					if strings.Contains(err.Error(), "\n") {
						t.Errorf("said twice: %v", err)
					}
				})
			}
		}
		img, err := layout.Open(ctx, writeOCI(t, t.TempDir(), three), layout.Options{Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		if err := img.Export(ctx, &full{40000}, layout.ExportOptions{Format: format}); !errors.Is(err, errFull) || strings.Contains(err.Error(), "decompress") {
			t.Errorf("a full disk: %v", err)
		}
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if err := img.Export(ctx, io.Discard, layout.ExportOptions{Format: format}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

// TestVerify finds what is wrong with each blob.
func TestVerify(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, filepath.Join(t.TempDir(), "img"))
	// The config says another diff_id of the second layer than it has.
	lie := three
	lie.layers = []sampleLayer{three.layers[0], {"another tar", "zstd"}, three.layers[2]}
	s.index(s.manifest(three, withConfig(s, lie)))
	s.drop(layerOCI(s.dir, three.layers[2]))
	img, err := layout.Open(ctx, s.dir, layout.Options{Platform: amd64})
	s.must(err)
	var got []string
	for _, b := range img.Blobs() {
		err := img.Verify(ctx, b)
		if b.Missing() != (b.Err != nil) {
			t.Errorf("%s: %v", b.Digest, b.Err)
		}
		text := "right"
		switch {
		case b.Missing():
			text = "missing"
			wantWords(t, err, "is missing", b.Key)
		case err != nil:
			text = "wrong"
			wantWords(t, err, digestOf([]byte(three.layers[1].tar)).String(), b.DiffID.String())
		}
		got = append(got, b.Role+" "+text)
	}
	want := []string{"manifest right", "config right", "layer right", "layer wrong", "layer missing"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.must(overwrite(s.path(img.Blobs()[1].Digest), []byte("{}")))
	wantWords(t, img.Verify(ctx, img.Blobs()[1]), "2 bytes, want ")
}
