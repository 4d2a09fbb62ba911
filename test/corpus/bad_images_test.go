package corpus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// spoilBlob flips a bit in the document of a layout that holds text, and keeps its size.
func spoilBlob(dir, text string) error {
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil {
		return err
	}
	for _, f := range blobs {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if i := bytes.Index(b, []byte("sha256:")); i >= 0 && b[0] == '{' && bytes.Contains(b, []byte(text)) {
			b[i+20] ^= 1
			return os.WriteFile(f, b, 0o644)
		}
	}
	return errors.New("no such document")
}

// confusions are documents that two readers may read in two ways, or that are none.
func confusions() []row {
	base := layers(tree())
	entries := func(i object) []any { return i["manifests"].([]any) }
	raw := func(text string) image {
		return base.then(func(dir string) error { return os.WriteFile(filepath.Join(dir, "index.json"), []byte(text), 0o644) })
	}
	manifest := func(text string, mediaType string) image {
		return base.withIndex(func(l *layout, i object) { i["manifests"] = []any{l.add(mediaType, []byte(text))} })
	}
	config := func(text string) image {
		return base.withIndex(func(l *layout, i object) {
			d := l.addManifest(base.withManifest(func(m object) { m["config"] = l.add(ociConfig, []byte(text)) }))
			i["manifests"] = []any{d}
		})
	}
	return []row{
		{name: "an index that is a manifest too", image: base.withIndex(func(l *layout, i object) {
			d := l.addJSON(ociIndex, object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries(i), "config": object{}, "layers": []any{}})
			i["manifests"] = []any{d}
		}), refused: []string{"manifest"}},
		{name: "a manifest that is an index too", image: base.withManifest(func(m object) { m["manifests"] = []any{} }), refused: []string{"index"}},
		{name: "a top index that is a manifest too", image: base.withIndex(func(_ *layout, i object) { i["layers"] = []any{} }), refused: []string{"index"}},
		{name: "an index called a manifest", image: base.withIndex(func(l *layout, i object) {
			i["manifests"] = []any{l.addJSON(ociManifest, object{"schemaVersion": 2, "manifests": entries(i)})}
		}), refused: []string{"media type"}},
		{name: "a manifest called an index", image: base.withIndex(func(_ *layout, i object) { entries(i)[0].(object)["mediaType"] = ociIndex }), refused: []string{"media type"}},
		{name: "a manifest that calls itself an index", image: base.withIndex(func(l *layout, i object) {
			d := l.addManifest(base.withManifest(func(m object) { m["mediaType"] = ociIndex }))
			d["mediaType"] = ociManifest
			i["manifests"] = []any{d}
		}), refused: []string{"media type"}},
		{name: "an OCI manifest called Docker's list", image: base.withIndex(func(_ *layout, i object) { entries(i)[0].(object)["mediaType"] = dockerList }), refused: []string{"media type"}},
		{name: "no media type in the descriptor", image: base.withIndex(func(_ *layout, i object) { delete(entries(i)[0].(object), "mediaType") }), refused: []string{"No matching images"}},
		{name: "an unknown media type in the descriptor", image: base.withIndex(func(_ *layout, i object) { entries(i)[0].(object)["mediaType"] = "text/plain" }), refused: []string{"No matching images"}},
		{name: "a config of another type", image: base.withManifest(func(m object) { m["config"].(object)["mediaType"] = "application/vnd.example+json" }), refused: []string{"config"}},
		{name: "an empty descriptor's config", image: base.withManifest(func(m object) { m["config"].(object)["mediaType"] = "application/vnd.oci.empty.v1+json" }), refused: []string{"config"}},
		{name: "a layer of another type", image: base.withLayer(0, "mediaType", "application/vnd.example.layer"), refused: []string{"layer 1"}},
		{name: "a layer that is a manifest", image: base.withLayer(0, "mediaType", ociManifest), refused: []string{"layer 1"}},
		{name: "an encrypted layer", image: base.withLayer(0, "mediaType", ociLayer+"+gzip+encrypted"), refused: []string{"layer 1"}},
		{name: "a layer without a type", image: base.withLayer(0, "mediaType", ""), refused: []string{"layer 1"}},
		{name: "Docker schema 1", image: manifest(`{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[{"blobSum":"sha256:00"}],"history":[]}`, "application/vnd.docker.distribution.manifest.v1+json"), refused: []string{"No matching images"}},
		{name: "Docker schema 1 called OCI", image: manifest(`{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[{"blobSum":"sha256:00"}],"history":[]}`, ociManifest), refused: []string{"schemaVersion"}},
		{name: "an artifact manifest", image: manifest(`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[]}`, ociManifest), refused: []string{"manifest"}},
		{name: "no index.json", image: base.then(func(dir string) error { return os.Remove(dir + "/index.json") }), refused: []string{"index.json"}},
		{name: "no blobs", image: base.then(func(dir string) error { return os.RemoveAll(dir + "/blobs") }), refused: []string{"blobs"}},
		{name: "an empty index.json", image: raw(""), refused: []string{"index"}},
		{name: "an index.json of null", image: raw("null"), refused: []string{"index"}},
		{name: "an index.json of an array", image: raw("[]"), refused: []string{"index"}},
		{name: "an index.json of a number", image: raw("1"), refused: []string{"index"}},
		{name: "an index.json of zeros", image: raw(strings.Repeat("\x00", 5000)), refused: []string{"index"}},
		{name: "an index.json without entries", image: raw(`{"schemaVersion":2,"manifests":[]}`), refused: []string{"No matching images"}},
		{name: "an index.json with null entries", image: raw(`{"schemaVersion":2,"manifests":[null,{},null]}`), refused: []string{"No matching images"}},
		{name: "an index.json of schema 1", image: raw(`{"schemaVersion":1,"manifests":[]}`), refused: []string{"schemaVersion"}},
		{name: "an index.json with junk after it", image: raw(`{"schemaVersion":2,"manifests":[]} x`), refused: []string{"index"}},
		{name: "an index.json that is nested 100 000 deep", image: raw(`{"schemaVersion":2,"manifests":` + strings.Repeat("[", 100_000)), refused: []string{"index"}},
		{name: "an index.json that is another format", image: raw("SIFMAGIC"), refused: []string{"index"}},
		{name: "another layout version", image: base.then(func(dir string) error {
			return os.WriteFile(dir+"/oci-layout", []byte(`{"imageLayoutVersion":"2.0.0"}`), 0o644)
		}), refused: []string{"imageLayoutVersion"}},
		{name: "a manifest that is no JSON", image: manifest("nothing", ociManifest), refused: []string{"manifest"}},
		{name: "a manifest of null", image: manifest("null", ociManifest), refused: []string{"manifest"}},
		{name: "a manifest of nothing but a schema version", image: manifest(`{"schemaVersion":2}`, ociManifest), refused: []string{"manifest"}},
		{name: "a manifest without a config", image: manifest(`{"schemaVersion":2,"layers":[]}`, ociManifest), refused: []string{"config"}},
		{name: "a config that is no JSON", image: config("nothing"), refused: []string{"config"}},
		{name: "a config of null", image: config("null"), refused: []string{"config"}},
		{name: "a config of an array", image: config("[]"), refused: []string{"config"}},
		{name: "a config of wrong types", image: config(`{"rootfs":[],"config":7}`), refused: []string{"config"}},
		{name: "another platform alone", image: base.withConfig(func(c object) { c["architecture"] = "s390x" }), refused: []string{"s390x"}},
		{name: "another system alone", image: base.withConfig(func(c object) { c["os"] = "windows" }), refused: []string{"windows"}},
		{name: "two images", image: base.withIndex(func(l *layout, i object) {
			i["manifests"] = append(entries(i), l.addManifest(layers(tarOf(file("x", "x")))))
		}), refused: []string{"Multiple images"}},
		{name: "an index that names itself", image: base.withIndex(func(l *layout, i object) {
			// A digest cannot be known before; a blob that says what it is not is the nearest thing.
			d := l.addJSON(ociIndex, object{"schemaVersion": 2, "manifests": []any{}})
			file := blobFile(l.dir, d["digest"].(string)[7:])
			if err := os.WriteFile(file, toJSON(object{"schemaVersion": 2, "manifests": []any{d}}), 0o644); err != nil {
				panic(err)
			}
			i["manifests"] = []any{d}
		}), refused: []string{"bytes"}},
	}
}

// bombs are small images that would take room, memory or time without end.
func bombs() []row {
	base := layers(tree())
	entries := func(i object) []any { return i["manifests"].([]any) }
	// deep are indexes in each other, each with width entries.
	deep := func(depth, width int) image {
		return base.withIndex(func(l *layout, i object) {
			for range depth {
				var again []any
				for range width {
					again = append(again, entries(i)...)
				}
				i["manifests"] = []any{l.addJSON(ociIndex, object{"schemaVersion": 2, "manifests": again})}
			}
		})
	}
	absent := archive{tar: header("z", '0', "", 1<<33-1)}
	file8 := func(name string, size int64) archive { return archive{tar: header(name, '0', "", size)} }
	return []row{
		{name: "sparse, 1 TiB in 3 KiB", image: layers(tarOf(file("s", "").written(sparsePax("s", 1<<40, "x")))), refused: []string{"limit", "bytes", "--limit"}},
		{name: "sparse, 1 TiB in the old format", image: layers(tarOf(file("s", "").written(sparseOld("s", 8<<30-1, "x", 1)), file("t", "").written(sparseOld("t", 8<<30-1, "x", 1)), file("u", "").written(sparseOld("u", 8<<30-1, "x", 1)))), refused: []string{"limit", "bytes"}},
		{name: "sparse, many of them", image: layers(tarOf(series(5000, func(i int) entry { return file(fmt.Sprint(i), "").written(sparsePax(fmt.Sprint(i), 1<<30, "x")) })...)), refused: []string{"limit", "bytes"}},
		{name: "sparse, a map of a million pieces", image: layers(archive{tar: func() []byte {
			var m strings.Builder
			fmt.Fprintf(&m, "1000000\n")
			for i := range 1_000_000 {
				fmt.Fprintf(&m, "%d\n0\n", i)
			}
			data := padded(m.String())
			return join(pax(paxRecords([2]string{"GNU.sparse.major", "1"}, [2]string{"GNU.sparse.minor", "0"}, [2]string{"GNU.sparse.name", "s"}, [2]string{"GNU.sparse.realsize", "1000000"}),
				join(header("s", '0', "", int64(len(data))), data)), make([]byte, 1024))
		}()}), refused: []string{"tar"}},
		{name: "a file of 8 GiB that is not there", image: layers(absent), refused: []string{"EOF"}},
		{name: "gzip, 1 TiB of zeros after the archive", flags: []string{"--limit", "inflate=256MiB", "--limit", "ratio=1"}, lazy: func() image { return blob(tree(), join(gz(tree().tar), gzZeros(64<<30))) }, refused: []string{"limit", "bytes"}},
		{name: "gzip, a file of zeros", flags: []string{"--limit", "inflate=256MiB", "--limit", "ratio=1"}, lazy: func() image { return blob(tree(), join(gz(file8("z", 1<<40).tar), gzZeros(64<<30))) }, refused: []string{"limit", "bytes"}},
		{name: "zstd, a file of zeros", flags: []string{"--limit", "inflate=256MiB", "--limit", "ratio=1"}, lazy: func() image { return blob(tree(), join(zst(file8("z", 1<<40).tar), zstZeros(64<<30))) }, refused: []string{"limit", "bytes"}},
		{name: "zstd, files of zeros", flags: []string{"--limit", "inflate=3GiB"}, lazy: func() image {
			var b []byte
			for i := range 64 {
				b = join(b, zst(file8(fmt.Sprint(i), 1<<30).tar), zstZeros(1<<30))
			}
			return blob(tree(), b)
		}, refused: []string{"limit", "bytes"}},
		{name: "zstd, zeros after the archive", lazy: func() image { return blob(tree(), join(zst(tree().tar), zstZeros(64<<30))) }, refused: []string{"limit", "bytes"}},
		{name: "zstd, a window of 2 GiB", image: blob(tree(), zstWindow(31)), refused: []string{"window"}},
		{name: "zstd, a window of 128 GiB", image: blob(tree(), zstWindow(41)), refused: []string{"window"}},
		{name: "zstd, a window of 2 GiB in a later frame", image: blob(tree(), join(zst(tree().tar), zstWindow(31))), refused: []string{"window"}},
		{name: "gzip in gzip", image: blob(tree(), gz(gz(tree().tar))), refused: []string{"tar"}},
		{name: "a million empty members", lazy: func() image { return blob(tree(), join(bytes.Repeat(gz(nil), 1_000_000), gz(tree().tar))) }, unlike: true},
		{name: "a million entries in 6 MB", flags: []string{"--limit", "entries=20k"}, lazy: func() image { return packed(zst, ociLayer+"+zstd", archive{tar: emptyFiles(1_000_000)}) }, refused: []string{"limit", "entries", "--limit"}},
		{name: "a million directories", flags: []string{"--limit", "entries=20k"}, lazy: func() image { return packed(zst, ociLayer+"+zstd", archive{tar: emptyDirs(400_000)}) }, refused: []string{"limit"}},
		{name: "whiteouts without end", lazy: func() image { return packed(zst, ociLayer+"+zstd", archive{tar: emptyWhiteouts(1_000_000)}) }, refused: []string{"limit"}},
		{name: "one name a million times", lazy: func() image {
			return packed(zst, ociLayer+"+zstd", archive{tar: bytes.Repeat(header("same", '0', "", 0), 1_000_000)})
		}, refused: []string{"limit", "entries"}},
		{name: "one pax header of a gibibyte", image: layers(archive{tar: join(header("pax", 'x', "", 1<<30), make([]byte, 4096))}), refused: []string{"tar"}},
		{name: "one name of a gibibyte", image: layers(archive{tar: join(header("././@LongLink", 'L', "", 1<<30), make([]byte, 4096))}), refused: []string{"tar"}},
		{name: "attributes of a megabyte on each file", image: layers(tarOf(series(30, func(i int) entry {
			return file(fmt.Sprint(i), "").written(pax(paxRecords([2]string{"SCHILY.xattr.user.big", strings.Repeat("x", 900_000)}, [2]string{"path", fmt.Sprint(i)}), header("x", '0', "", 0)))
		})...)), refused: []string{"entry"}},
		{name: "links that take long to follow", image: layers(tarOf(append(series(38, func(i int) entry { return link(fmt.Sprint("l", i), fmt.Sprintf("l%d/l%d/l%d", i+1, i+1, i+1)) }), file("l0/x", ""))...))},
		{name: "an index of billion laughs", image: deep(32, 2), refused: []string{"deeper"}},
		{name: "an index of a million laughs", image: deep(8, 12), want: checks(hasFile("f", "f"))},
		{name: "indexes 100 deep", image: deep(100, 1), refused: []string{"deeper"}},
		{name: "an index of 50 000 entries", image: base.withIndex(func(_ *layout, i object) {
			var many []any
			for n := range 50_000 {
				many = append(many, object{"digest": digest(fmt.Sprintf("%064x", n)), "size": 1, "mediaType": "x"})
			}
			i["manifests"] = many
		}), refused: []string{"index"}},
		{name: "an index of 20 001 small entries", image: base.withIndex(func(_ *layout, i object) {
			many := make([]any, 20_001)
			for n := range many {
				many[n] = object{}
			}
			i["manifests"] = many
		}), refused: []string{"20000 entries"}},
		{name: "300 indexes", image: base.withIndex(func(l *layout, i object) {
			var many []any
			for n := range 300 {
				many = append(many, l.addJSON(ociIndex, object{"schemaVersion": 2, "manifests": []any{}, "annotations": object{"n": fmt.Sprint(n)}}))
			}
			i["manifests"] = many
		}), refused: []string{"256 indexes"}},
		{name: "an index.json of 5 MB", image: base.withIndex(func(_ *layout, i object) { i["annotations"] = object{"x": strings.Repeat("x", 5<<20)} }), refused: []string{"index.json", "4194304 bytes", "--limit"}},
		{name: "an index.json of a tebibyte", image: base.then(func(dir string) error { return sized(1 << 40)(dir + "/index.json") }), refused: []string{"index.json"}},
		{name: "a manifest of 5 MB", image: base.withManifest(func(m object) { m["annotations"] = object{"x": strings.Repeat("x", 5<<20)} }), refused: []string{"manifest", "--limit"}},
		{name: "a config of 5 MB", image: base.withConfig(func(c object) { c["comment"] = strings.Repeat("x", 5<<20) }), refused: []string{"config", "--limit"}},
		{name: "15 000 layers", image: base.withManifest(func(m object) { m["layers"] = repeat(m["layers"].([]any)[0], 15_000) }).
			withConfig(func(c object) { r := c["rootfs"].(object); r["diff_ids"] = repeat(r["diff_ids"].([]any)[0], 15_000) }), refused: []string{"layers", "--limit"}},
		{name: "a blob of a tebibyte, as it says", image: base.replaced(sized(1<<40)).withLayer(0, "size", int64(1)<<40), refused: []string{"no space", "free"}},
		{name: "a manifest of a tebibyte, as it says", image: base.withIndex(func(_ *layout, i object) { entries(i)[0].(object)["size"] = int64(1) << 40 }), refused: []string{"manifest"}},
	}
}

func repeat(v any, n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// emptyFiles is an archive of n files of no content.
func emptyFiles(n int) []byte {
	return many(n, func(i int) []byte { return header(fmt.Sprintf("%d/%d", i/1000, i), '0', "", 0) })
}
func emptyDirs(n int) []byte {
	return many(n, func(i int) []byte { return header(fmt.Sprintf("%d/", i), '5', "", 0) })
}
func emptyWhiteouts(n int) []byte {
	return many(n, func(i int) []byte { return header(fmt.Sprintf(".wh.%d", i), '0', "", 0) })
}

func many(n int, nth func(i int) []byte) []byte {
	b := make([]byte, 0, (n+2)*512)
	for i := range n {
		b = append(b, nth(i)...)
	}
	return append(b, make([]byte, 1024)...)
}

// specials are layouts in which something is no file.
func specials() []row {
	base := layers(tree())
	var rows []row
	document := func(name string) func(how func(string) error) image {
		return func(how func(string) error) image {
			return base.then(func(dir string) error {
				file := filepath.Join(dir, name)
				if name == "manifest" || name == "config" {
					text := map[string]string{"manifest": `"layers"`, "config": "diff_ids"}[name]
					blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
					if err != nil {
						return err
					}
					for _, f := range blobs {
						if b, err := os.ReadFile(f); err == nil && b[0] == '{' && bytes.Contains(b, []byte(text)) {
							file = f
						}
					}
				}
				if err := os.Remove(file); err != nil {
					return err
				}
				return how(file)
			})
		}
	}
	for _, place := range []struct {
		name string
		put  func(func(string) error) image
	}{{"blob", base.replaced}, {"index.json", document("index.json")}, {"manifest", document("manifest")}, {"config", document("config")}} {
		for _, kind := range []struct {
			name string
			how  func(string) error
		}{
			{"a fifo", asFifo}, {"a directory", asDir}, {"a socket", asSocket},
			{"a link to /dev/zero", linkTo("/dev/zero")}, {"a link to /dev/null", linkTo("/dev/null")}, {"a link to a terminal", linkTo("/dev/tty")},
			{"a link to nothing", linkTo("/nowhere/at/all")}, {"a link to itself", func(f string) error { return os.Symlink(filepath.Base(f), f) }},
			{"a link to a fifo", func(f string) error { return errors.Join(asFifo(filepath.Dir(f)+"/.fifo"), os.Symlink(".fifo", f)) }},
			{"a link to a file outside", linkTo(outside + "/secret")}, {"a link to /proc/self/mem", linkTo("/proc/self/mem")}, {"a link to /proc/self/environ", linkTo("/proc/self/environ")},
			{"an annex pointer", content([]byte("/annex/objects/SHA256E-s1000--" + sha(nil) + "\n"))},
		} {
			rows = append(rows, row{name: kind.name + " in place of the " + place.name, image: place.put(kind.how), refused: []string{"dlrun: "}})
		}
	}
	return append(rows,
		row{name: "oci-layout a fifo", image: base.then(func(dir string) error { return errors.Join(os.Remove(dir+"/oci-layout"), asFifo(dir+"/oci-layout")) }), want: checks(hasFile("f", "f"))},
		row{name: "oci-layout a link to /dev/zero", image: base.then(func(dir string) error {
			return errors.Join(os.Remove(dir+"/oci-layout"), os.Symlink("/dev/zero", dir+"/oci-layout"))
		}), want: checks(hasFile("f", "f"))},
		row{name: "blobs a link to outside", image: base.then(func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/blobs"), os.Symlink(outside, dir+"/blobs"))
		}), refused: []string{"sha256:"}},
		row{name: "blobs a link to /", image: base.then(func(dir string) error { return errors.Join(os.RemoveAll(dir+"/blobs"), os.Symlink("/", dir+"/blobs")) }), refused: []string{"sha256:"}},
	)
}
