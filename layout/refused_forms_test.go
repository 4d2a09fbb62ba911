package layout_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dlrun/dlrun/layout"
)

// TestRefusedSaved is what may be wrong with manifest.json of a docker save.
func TestRefusedSaved(t *testing.T) {
	const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	config := jsonName(digestOf(other.config()).Hex)
	edit := func(change func(e *savedEntry)) func(*site) {
		return func(s *site) {
			list := s.save(legacyName, jsonName, other)
			change(&list[0])
			s.write("manifest.json", list)
		}
	}
	list := func(text string) func(*site) { return func(s *site) { s.write("manifest.json", text) } }
	inPlace := func(put func(name string) error) func(*site) {
		return func(s *site) {
			s.save(legacyName, jsonName, other)
			name := filepath.Join(s.dir, config)
			os.Remove(name)
			s.must(put(name))
		}
	}
	for _, c := range []struct {
		name  string
		make  func(*site)
		words []string
	}{
		{"no images", list("[]"), []string{"No matching images found in "}},
		{"null", list("[null]"), []string{`the file ""`}},
		{"no JSON", list("["), []string{"manifest.json is not the list of a docker save"}},
		{"a tail", list("[]]"), []string{"manifest.json is not the list of a docker save"}},
		{"numbers", list("[1]"), []string{"manifest.json is not the list of a docker save"}},
		{"names are numbers", list(`[{"Config":1}]`), []string{"manifest.json is not the list of a docker save"}},
		{"neither list nor manifest", list(`{"a":1}`), []string{"manifest.json: schemaVersion is 0"}},
		{"empty", list(""), []string{"manifest.json: "}},
		{"huge", list("[" + strings.Repeat(" ", 5<<20)), []string{"more than 4194304 bytes"}},
		{"config outside", edit(func(e *savedEntry) { e.Config = "../img/" + config }), []string{`the file "../img/` + config + `", which is not below it`}},
		{"config absolute", edit(func(e *savedEntry) { e.Config = "/etc/passwd" }), []string{`"/etc/passwd"`, "not below it"}},
		{"config in a detour", edit(func(e *savedEntry) { e.Config = "a/../../img/" + config }), []string{"not below it"}},
		{"layer outside", edit(func(e *savedEntry) { e.Layers[0] = "../../etc/passwd" }), []string{`"../../etc/passwd"`, "not below it"}},
		{"layer empty", edit(func(e *savedEntry) { e.Layers[0] = "" }), []string{`the file ""`}},
		{"config is gone", edit(func(e *savedEntry) { e.Config = hex + ".json" }), []string{"read config", hex, "is missing"}},
		{"another config", func(s *site) {
			s.save(legacyName, jsonName, other)
			s.write(config, three.config())
		}, []string{"config ", config, "its content has the digest " + digestOf(three.config()).String()}},
		{"config is a fifo", inPlace(func(n string) error { return syscall.Mkfifo(n, 0o600) }), []string{"read config", "is a fifo"}},
		{"config is a device", inPlace(func(n string) error { return os.Symlink("/dev/zero", n) }), []string{"is a device"}},
		{"config in a loop", inPlace(func(n string) error { return os.Symlink(n, n) }), []string{"too many levels"}},
		{"config is huge", edit(func(e *savedEntry) { e.Config = "big" }), []string{"big is not an image config: it has more than 4194304 bytes"}},
		{"config is no JSON", edit(func(e *savedEntry) { e.Config = "text" }), []string{"config ", "text", "invalid character"}},
		{"fewer layers", edit(func(e *savedEntry) { e.Layers = nil }), []string{"1 diff_ids, manifest.json 0 layers"}},
		{"more layers", edit(func(e *savedEntry) { e.Layers = append(e.Layers, e.Layers[0]) }), []string{"1 diff_ids, manifest.json 2 layers"}},
		{"too many", func(s *site) {
			var images []savedEntry
			for i := range 300 {
				c := sample{tag: fmt.Sprint(i)}.config()
				images = append(images, savedEntry{Config: jsonName(digestOf(c).Hex)})
				s.write(images[i].Config, c)
			}
			s.write("manifest.json", images)
		}, []string{"Multiple images found in ", "more than 256"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &site{t, filepath.Join(t.TempDir(), "img")}
			s.write("big", strings.Repeat(" ", 17<<20))
			s.write("text", "words")
			c.make(s)
			_, err := layout.Open(context.Background(), s.dir, layout.Options{Platform: amd64})
			wantWords(t, err, c.words...)
		})
	}
}

// entry is a member of a tar that is made by hand.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func tarOfEntries(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// savedEntries is a docker save of other as members.
func savedEntries(configName string) []entry {
	manifest, _ := json.Marshal([]savedEntry{{configName, []string{"lab/img:1"}, []string{"l/layer.tar"}}})
	return []entry{file("manifest.json", string(manifest)), file(configName, string(other.config())), file("l/layer.tar", other.layers[0].tar)}
}

// TestArchives is what may be odd or wrong with an archive. An empty list of
// words is no error.
func TestArchives(t *testing.T) {
	config := jsonName(digestOf(other.config()).Hex)
	base := savedEntries(config)
	manifest, configFile, layer := base[0], base[1], base[2]
	tarOf := func(entries ...entry) func(*testing.T) []byte {
		return func(t *testing.T) []byte { return tarOfEntries(t, entries...) }
	}
	cut := func(n int) func(*testing.T) []byte {
		return func(t *testing.T) []byte { b := tarOfEntries(t, base...); return b[:len(b)-n] }
	}
	many := make([]entry, 20001)
	for i := range many {
		many[i] = link(tar.TypeSymlink, "x", "y")
	}
	global := entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "git archive makes these"}}, ""}
	for _, c := range []struct {
		name  string
		make  func(*testing.T) []byte
		words []string
	}{
		{"as it should be", tarOf(base...), nil},
		{"in any order", tarOf(layer, configFile, manifest), nil},
		{"a global header", tarOf(append([]entry{global}, base...)...), nil},
		{"dots in names", tarOf(link(tar.TypeDir, "./", ""), file("./manifest.json", manifest.content), file("x/../"+config, configFile.content), layer), nil},
		{"what is not needed may be odd", tarOf(append(base, link(tar.TypeSymlink, "out", "../../etc/passwd"), link(tar.TypeFifo, "fifo", ""), file("twice", "1"), file("twice", "2"))...), nil},
		{"symlinks", tarOf(manifest, link(tar.TypeSymlink, config, "x/../y/config"), link(tar.TypeSymlink, "y/config", "../real"), file("real", configFile.content), layer), nil},
		{"hard links", tarOf(manifest, link(tar.TypeLink, config, "./real"), file("real", configFile.content), layer), nil},
		{"no end", cut(1024), nil},

		{"empty", tarOf(), []string{"is not an image", "no index.json", "no manifest.json"}},
		{"a layer", tarOf(file("etc/passwd", "root")), []string{"is not an image", "no manifest.json"}},
		{"truncated", cut(1024 + 512 + 100), []string{"read archive ", "unexpected EOF"}},
		{"a header cut", func(t *testing.T) []byte { return tarOfEntries(t, base...)[:1024+100] }, []string{"read archive ", "unexpected EOF"}},
		{"garbage", func(t *testing.T) []byte {
			return append(tarOfEntries(t, manifest)[:1024], bytes.Repeat([]byte("x"), 2048)...)
		}, []string{"read archive ", "invalid tar header"}},
		{"a name that leads out", tarOf(append(base, file("../manifest.json", "[]"))...), []string{`member "../manifest.json" leads out of the archive`}},
		{"a name that leads out later", tarOf(append(base, file("a/../../manifest.json", "[]"))...), []string{"leads out of the archive"}},
		{"an absolute name", tarOf(append(base, file("/manifest.json", "[]"))...), []string{`member "/manifest.json" leads out of the archive`}},
		{"manifest.json twice", tarOf(append(base, file("manifest.json", "[]"))...), []string{"manifest.json is in the archive more than once"}},
		{"manifest.json twice, spelled otherwise", tarOf(append(base, file("./x/../manifest.json", "[]"))...), []string{"more than once"}},
		{"config twice", tarOf(append(base, link(tar.TypeSymlink, config, "l/layer.tar"))...), []string{config + " is in the archive more than once"}},
		{"config is missing", tarOf(manifest, layer), []string{"read config", config, "is missing in "}},
		{"a symlink out", tarOf(manifest, link(tar.TypeSymlink, config, "../../etc/passwd"), layer), []string{"is a link out of the archive", "../../etc/passwd"}},
		{"a symlink to the root", tarOf(manifest, link(tar.TypeSymlink, config, "/etc/passwd"), layer), []string{"is a link out of the archive"}},
		{"a hard link out", tarOf(manifest, link(tar.TypeLink, config, "../x"), layer), []string{"is a link out of the archive"}},
		{"a hard link to the root", tarOf(manifest, link(tar.TypeLink, config, "/etc/passwd"), layer), []string{"is a link out of the archive"}},
		{"links in a loop", tarOf(manifest, link(tar.TypeSymlink, config, "b"), link(tar.TypeSymlink, "b", config), layer), []string{"too many levels of symbolic links"}},
		{"a dangling link", tarOf(manifest, link(tar.TypeSymlink, config, "b"), layer), []string{":b is missing in "}},
		{"a fifo", tarOf(manifest, link(tar.TypeFifo, config, ""), layer), []string{config + " is a fifo"}},
		{"a directory", tarOf(manifest, link(tar.TypeDir, config+"/", ""), layer), []string{config + " is a directory"}},
		{"a device", tarOf(manifest, link(tar.TypeChar, config, ""), layer), []string{config + " is a device"}},
		{"too many members", tarOf(append(base, many...)...), []string{"more than 20000 members"}},
		{"a long name", tarOf(append(base, file(strings.Repeat("n", 5000), ""))...), []string{"more than 1024 bytes"}},
		{"a long link", tarOf(append(base, link(tar.TypeSymlink, "x", strings.Repeat("n", 5000)))...), []string{"more than 1024 bytes"}},
		{"a huge header", func(t *testing.T) []byte {
			b := tarOfEntries(t, file("pax", strings.Repeat("x", 2<<20)))
			b[156] = tar.TypeXHeader
			rehash(b[:512])
			return append(b[:len(b)-1024], tarOfEntries(t, base...)...)
		}, []string{"read archive ", "header field too long"}},
		{"a member beyond the end", func(t *testing.T) []byte {
			b := tarOfEntries(t, base...)
			var h bytes.Buffer
			tar.NewWriter(&h).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "x", Size: 1 << 50, Format: tar.FormatGNU})
			return append(b[:len(b)-1024], h.Bytes()...)
		}, []string{"read archive ", "unexpected EOF"}},
	} {
		for _, pack := range []string{"", "gzip", "zstd"} {
			t.Run(strings.TrimSpace(c.name+" "+pack), func(t *testing.T) {
				name := filepath.Join(t.TempDir(), "x.tar")
				writeFile(t, name, packed(c.make(t), pack))
				img, err := layout.Open(context.Background(), name, layout.Options{Platform: amd64})
				if c.words != nil {
					wantWords(t, err, append(c.words, name)...)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				layers, _ := img.Layers()
				got, err := readLayer(layers[0])
				if err != nil || string(got) != other.layers[0].tar {
					t.Errorf("layer %q: %v", got, err)
				}
			})
		}
	}
}

// TestSparseMembers has tar store the config without its holes, in both of its ways.
func TestSparseMembers(t *testing.T) {
	for _, format := range []string{"gnu", "pax"} {
		dir := t.TempDir()
		config := jsonName(digestOf(other.config()).Hex)
		for _, e := range savedEntries(config) {
			os.MkdirAll(filepath.Dir(filepath.Join(dir, "in", e.Name)), 0o755)
			writeFile(t, filepath.Join(dir, "in", e.Name), []byte(e.content))
		}
		if err := os.Truncate(filepath.Join(dir, "in", config), 1<<20); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "x.tar")
		if out, err := exec.Command("tar", "-C", filepath.Join(dir, "in"), "--sparse", "--format="+format, "-cf", name, ".").CombinedOutput(); err != nil {
			t.Fatalf("tar: %v: %s", err, out)
		}
		_, err := layout.Open(context.Background(), name, layout.Options{Platform: amd64})
		wantWords(t, err, config+" is stored as a sparse file")
	}
}

// TestOldTar reads an archive from before POSIX, which has no magic.
func TestOldTar(t *testing.T) {
	b := tarOfEntries(t, savedEntries("config")...)
	for at := 0; at < len(b) && b[at] != 0; {
		var size int
		fmt.Sscanf(string(b[at+124:at+135]), "%o", &size)
		copy(b[at+257:at+512], make([]byte, 255))
		rehash(b[at : at+512])
		at += 512 + (size+511)/512*512
	}
	name := filepath.Join(t.TempDir(), "x.tar")
	writeFile(t, name, b)
	if _, err := layout.Open(context.Background(), name, layout.Options{Platform: amd64}); err != nil {
		t.Error(err)
	}
}

// rehash mends the checksum of a header.
func rehash(header []byte) {
	copy(header[148:], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// TestPackedDamage has the compressed stream end early, or go wrong.
func TestPackedDamage(t *testing.T) {
	for _, pack := range []string{"gzip", "zstd"} {
		whole := packed(tarOfEntries(t, savedEntries("config")...), pack)
		for what, content := range map[string][]byte{
			"cut":     whole[:len(whole)/3],
			"flipped": append(append(bytes.Clone(whole[:len(whole)/3]), ^whole[len(whole)/3]), whole[len(whole)/3+1:]...),
			"head":    whole[:5],
		} {
			name := filepath.Join(t.TempDir(), "x.tar")
			writeFile(t, name, content)
			_, err := layout.Open(context.Background(), name, layout.Options{Platform: amd64})
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: %v", pack, what, err)
			}
		}
	}
}

// TestMissingArchive is an archive in git-annex whose content is elsewhere.
func TestMissingArchive(t *testing.T) {
	for name, lose := range map[string]func(*site, string) string{"dropped": (*site).drop, "pointer": (*site).point} {
		t.Run(name, func(t *testing.T) {
			s := &site{t, t.TempDir()}
			s.write("my image.tar", tarOfEntries(t, savedEntries("config")...))
			name := filepath.Join(s.dir, "my image.tar")
			key := lose(s, name)
			_, err := layout.Open(context.Background(), name, layout.Options{Platform: amd64})
			wantWords(t, err, "my image.tar is missing", key, "1 file")
			wantHint(t, err, "datalad get '"+name+"'")
		})
	}
}

// TestSpoolIsGone leaves nothing in $TMPDIR, and puts nothing there before a
// layer is read.
func TestSpoolIsGone(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	big := sample{layers: []sampleLayer{{strings.Repeat("0123456789abcdef", 1<<17), ""}}}
	ref := archived(writeSaved(legacyName, jsonName), "zstd")(t, t.TempDir(), big)
	used := func() int64 {
		var st syscall.Statfs_t
		if err := syscall.Statfs(tmp, &st); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(tmp)
		if err != nil || len(entries) > 0 {
			t.Errorf("left in $TMPDIR: %v %v", entries, err)
		}
		return int64(len(entries))
	}
	img, err := layout.Open(context.Background(), ref, layout.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	used()
	checkImage(t, img, big)
	used()
	t.Setenv("TMPDIR", filepath.Join(tmp, "nowhere"))
	if img, err = layout.Open(context.Background(), ref, layout.Options{Platform: amd64}); err != nil {
		t.Fatal(err)
	}
	layers, _ := img.Layers()
	_, err = layers[0].Compressed()
	wantWords(t, err, "$TMPDIR", "nowhere")
}
