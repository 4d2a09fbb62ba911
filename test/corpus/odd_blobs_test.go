package corpus

import (
	"archive/tar"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// formats are forms of tar.
func formats() []row {
	text := strings.Repeat("text", 300)
	withFormat := func(f tar.Format) image {
		return layers(tarOf(dir("d", format(f)), file("d/f", "x", format(f)), link("l", "d/f", format(f)), hard("h", "d/f", format(f))))
	}
	sparse := func(raw []byte, size int, text string) image {
		return layers(tarOf(file("s", sparseBody(size, text)).written(raw), file("after", "x")))
	}
	return []row{
		{name: "ustar", image: withFormat(tar.FormatUSTAR), want: checks(hasFile("d/f", "x"))},
		{name: "GNU", image: withFormat(tar.FormatGNU), want: checks(hasFile("d/f", "x"))},
		{name: "pax", image: withFormat(tar.FormatPAX), want: checks(hasFile("d/f", "x"))},
		{name: "V7", image: layers(tarOf(file("f", "x").written(join(checksum(append(append([]byte{}, header("f", 0, "", 1)[:257]...), make([]byte, 255)...)), padded("x"))))), want: checks(hasFile("f", "x"))},
		{name: "a pax global header", image: layers(tarOf(global(map[string]string{"comment": "1234567890"}), file("f", "x"))), want: checks(hasFile("f", "x"))},
		{name: "a pax global header between entries", image: layers(tarOf(file("e", "y"), global(map[string]string{"comment": "c", "SCHILY.xattr.user.x": "1"}), file("f", "x"))), want: checks(hasFile("f", "x"))},
		{name: "pax records that nobody knows", image: layers(tarOf(file("f", "x", record("VENDOR.thing", "y"), record("LIBARCHIVE.creationtime", "1")))), want: checks(hasFile("f", "x"))},
		{name: "a pax path that overrules the header's", image: layers(tarOf(file("real", "x").written(pax(paxRecords([2]string{"path", "real"}), join(header("other", tar.TypeReg, "", 1), padded("x")))))), want: checks(hasFile("real", "x"), lacks("other"))},
		{name: "a pax size that overrules the header's", image: layers(tarOf(file("f", "text").written(pax(paxRecords([2]string{"size", "4"}), join(header("f", tar.TypeReg, "", 0), padded("text")))), file("g", "y"))), want: checks(hasFile("f", "text"), hasFile("g", "y"))},
		{name: "sparse, pax 1.0", image: sparse(sparsePax("s", 300_000, text), 300_000, text), want: checks(hasFile("after", "x"))},
		{name: "sparse, pax 0.1", image: sparse(sparsePax0("s", 300_000, text), 300_000, text), want: checks(hasFile("after", "x"))},
		{name: "sparse, old GNU", image: sparse(sparseOld("s", 300_000, text, 1), 300_000, text), want: checks(hasFile("after", "x"))},
		{name: "sparse, old GNU, in 60 pieces", image: sparse(sparseOld("s", 300_000, text, 60), 300_000, text), want: checks(hasFile("after", "x"))},
		{name: "sparse, one hole of 1 GiB", image: layers(tarOf(file("s", "").written(sparsePax("s", 1<<30, "end")), file("after", "x"))), want: checks(has("s", "size=1073741824"), hasFile("after", "x")), unlike: true},
		{name: "sparse, nothing but a hole", image: layers(tarOf(file("s", strings.Repeat("\x00", 100_000)).written(sparsePax("s", 100_000, "")), file("after", "x")))},
		{name: "zeros that are no holes in the archive", image: layers(tarOf(file("z", strings.Repeat("\x00", 400_000)+"x"+strings.Repeat("\x00", 70_000)), file("y", strings.Repeat("\x00", 4096))))},
		{name: "an empty archive", image: layers(tree(), tarOf()), want: checks(hasFile("f", "f"))},
		{name: "empty archives everywhere", image: layers(tarOf(), tree(), tarOf(), tarOf()), want: checks(hasFile("f", "f"))},
		{name: "a layer of no bytes at all", image: packed(gz, ociLayer+"+gzip", tree(), archive{}), want: checks(hasFile("f", "f"))},
		{name: "a layer of no bytes, not compressed", image: packed(plain, ociLayer, tree(), archive{}), want: checks(hasFile("f", "f"))},
		{name: "no end of the archive", image: layers(tree().with(func(b []byte) []byte { return b[:len(b)-1024] })), want: checks(hasFile("f", "f"))},
		{name: "half an end of the archive", image: layers(tree().with(func(b []byte) []byte { return b[:len(b)-512] })), want: checks(hasFile("f", "f"))},
		{name: "zeros after the end", image: layers(tree().with(func(b []byte) []byte { return append(b, make([]byte, 20<<10)...) })), want: checks(hasFile("f", "f"))},
		{name: "junk after the end", image: layers(tree().with(func(b []byte) []byte { return append(b, "this is no tar any more"...) })), want: checks(hasFile("f", "f"))},
		{name: "another archive after the end", image: layers(tree().with(func(b []byte) []byte { return append(b, tarOf(file("ignored", "x")).tar...) })), want: checks(hasFile("f", "f"), lacks("ignored"))},
		{name: "one layer twice", image: layers(tree(), tarOf(whiteout("f"), file("n", "n")), tree()), want: checks(hasFile("f", "f"), hasFile("n", "n"))},
		{name: "one layer twice in a row", image: layers(tree(), tree()), want: checks(hasFile("f", "f"))},
		{name: "one layer in two compressions", image: func() image {
			m := layers(tree(), tarOf(file("f", "over")))
			m.layers = append(m.layers, packed(zst, ociLayer+"+zstd", tree()).layers...)
			return m
		}(), want: checks(hasFile("f", "f"))},
		{name: "no layers", image: layers(), unlike: true},
		{name: "127 layers", image: manyLayers(127), want: checks(hasFile("l0", "0"), hasFile("l126", "126"))},
		{name: "300 layers", image: manyLayers(300), want: checks(hasFile("l299", "299"))},
		{name: "600 layers, which overlayfs does not take", image: manyLayers(600), want: checks(hasFile("l599", "599"))},
	}
}

// blobs are ways to compress.
func blobs() []row {
	big := tarOf(file("big", strings.Repeat("0123456789abcdef", 40_000)), file("f", "f"))
	how := func(f func([]byte) []byte) image { return packed(f, ociLayer+"+gzip", big) }
	after := func(f func([]byte) []byte, more []byte) image {
		return how(func(b []byte) []byte { return join(f(b), more) })
	}
	want := checks(hasFile("f", "f"))
	return []row{
		{name: "not compressed", image: packed(plain, ociLayer, big), want: want},
		{name: "gzip", image: how(gz), want: want},
		{name: "gzip, stored", image: how(gzStored), want: want},
		{name: "gzip, with a name, a comment and an extra field", image: how(gzNamed), want: want},
		{name: "gzip, flushed now and then", image: how(gzFlushed), want: want},
		{name: "gzip, two members", image: how(func(b []byte) []byte { return inPieces(2, gz, b) }), want: want},
		{name: "gzip, a hundred members", image: how(func(b []byte) []byte { return inPieces(100, gz, b) }), want: want},
		{name: "gzip, empty members", image: how(func(b []byte) []byte { return join(gz(nil), gz(nil), gz(b), gz(nil)) }), want: want},
		{name: "gzip, trailing zeros", image: after(gz, make([]byte, 5000)), want: want},
		{name: "gzip, one trailing zero", image: after(gz, []byte{0}), want: want},
		{name: "gzip, trailing junk", image: after(gz, []byte("junk")), want: want},
		{name: "zstd", image: packed(zst, ociLayer+"+zstd", big), want: want},
		{name: "zstd, without the size of the content", image: packed(func(b []byte) []byte { return zstStream(b) }, ociLayer+"+zstd", big), want: want},
		{name: "zstd, several frames", image: packed(func(b []byte) []byte { return inPieces(7, zst, b) }, ociLayer+"+zstd", big), want: want},
		{name: "zstd, frames with and without sizes", image: packed(func(b []byte) []byte {
			return join(zst(b[:1000]), zstStream(b[1000:5000]), zst(nil), zst(b[5000:]))
		}, ociLayer+"+zstd", big), want: want},
		{name: "zstd, a skippable frame first", image: packed(func(b []byte) []byte { return join(skippable(400), zst(b)) }, ociLayer+"+zstd", big), want: want},
		{name: "zstd, skippable frames all over", image: packed(func(b []byte) []byte {
			return join(skippable(4), zst(b[:512]), skippable(0), skippable(8000), zst(b[512:]), skippable(16))
		}, ociLayer+"+zstd", big), want: want},
		{name: "zstd, the best compression", image: packed(func(b []byte) []byte { return zstStream(b, zstd.WithEncoderLevel(zstd.SpeedBestCompression)) }, ociLayer+"+zstd", big), want: want},
		{name: "zstd, a window of 64 MiB", image: packed(func(b []byte) []byte { return zstStream(b, zstd.WithWindowSize(64<<20)) }, ociLayer+"+zstd", big), want: want},
		{name: "gzip by another media type", image: packed(gz, ociLayer, big), want: want},
		{name: "zstd by another media type", image: packed(zst, ociLayer+"+gzip", big), want: want},
		{name: "not compressed, by another media type", image: packed(plain, ociLayer+"+gzip", big), want: want},
		{name: "each layer in its own way", image: func() image {
			m := packed(plain, ociLayer, tree())
			m.layers = append(m.layers, packed(gz, ociLayer+"+gzip", tarOf(file("g", "g"))).layers...)
			m.layers = append(m.layers, packed(zst, ociLayer+"+zstd", tarOf(file("z", "z"))).layers...)
			return m
		}(), want: checks(hasFile("f", "f"), hasFile("g", "g"), hasFile("z", "z"))},
		{name: "non-distributable", image: packed(gz, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", big), want: want},
		{name: "Docker's foreign layer, present", image: packed(gz, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", big).withLayer(0, "urls", []any{"http://127.0.0.1:9/x"}), want: want},
	}
}

// documents are forms of index, manifest and config.
func documents() []row {
	base := layers(tree())
	want := checks(hasFile("f", "f"))
	// other is an image that must not be picked.
	other := layers(tarOf(file("wrong", "x")))
	platform := func(os, arch string) object { return object{"os": os, "architecture": arch} }
	entries := func(i object) []any { return i["manifests"].([]any) }
	nested := func(m image, depth int) image {
		return m.withIndex(func(l *layout, i object) {
			for range depth {
				i["manifests"] = []any{l.addJSON(ociIndex, object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": entries(i)})}
			}
		})
	}
	beside := func(platformOf object, m image) func(l *layout, i object) {
		return func(l *layout, i object) {
			d := l.addManifest(m)
			if platformOf != nil {
				d["platform"] = platformOf
				entries(i)[0].(object)["platform"] = platform("linux", arch)
			}
			i["manifests"] = append([]any{d}, entries(i)...)
		}
	}
	docker := func(m image) image {
		m = m.withManifest(func(o object) {
			o["mediaType"] = dockerManifest
			o["config"].(object)["mediaType"] = dockerConfig
			for _, l := range o["layers"].([]any) {
				l.(object)["mediaType"] = dockerLayer
			}
		})
		return m
	}
	foreign := "arm64"
	if arch == foreign {
		foreign = "amd64"
	}
	return []row{
		{name: "no media types in the documents", image: base.withManifest(func(o object) { o["mediaType"] = ociManifest }).withIndex(func(_ *layout, i object) { delete(i, "mediaType") }), want: want},
		{name: "no media type in the manifest", image: base.withIndex(func(l *layout, i object) {
			d := l.addManifest(base.withManifest(func(o object) { delete(o, "mediaType") }))
			d["mediaType"] = ociManifest
			i["manifests"] = []any{d}
		}), want: want},
		{name: "Docker's media types", image: docker(base), want: want},
		{name: "Docker's media types and list", image: docker(base).withIndex(func(l *layout, i object) {
			i["manifests"] = []any{l.addJSON(dockerList, object{"schemaVersion": 2, "mediaType": dockerList, "manifests": entries(i)})}
		}), want: want},
		{name: "OCI manifest with Docker's layers", image: base.withLayer(0, "mediaType", dockerLayer), want: want},
		{name: "an index in the index", image: nested(base, 1), want: want},
		{name: "indexes eight deep", image: nested(base, 8), want: want},
		{name: "another platform beside", image: base.withIndex(beside(platform("linux", foreign), other)), want: want},
		{name: "another system beside", image: base.withIndex(beside(platform("windows", arch), other)), want: want},
		{name: "an attestation beside", image: base.withIndex(func(l *layout, i object) {
			d := l.addManifest(other)
			d["platform"] = platform("unknown", "unknown")
			d["annotations"] = object{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": entries(i)[0].(object)["digest"]}
			i["manifests"] = append(entries(i), d)
		}), want: want},
		{name: "attestations in a nested index, as BuildKit writes them", image: nested(base.withIndex(func(l *layout, i object) {
			entries(i)[0].(object)["platform"] = platform("linux", arch)
			d := l.addManifest(other)
			d["platform"] = platform("unknown", "unknown")
			i["manifests"] = append(entries(i), d)
		}), 1), want: want},
		{name: "one image under two tags", image: base.withIndex(func(_ *layout, i object) {
			again := object{}
			for k, v := range entries(i)[0].(object) {
				again[k] = v
			}
			again["annotations"] = object{"org.opencontainers.image.ref.name": "again"}
			i["manifests"] = append(entries(i), again)
		}), want: want},
		{name: "entries of unknown types beside", image: base.withIndex(func(l *layout, i object) {
			i["manifests"] = append([]any{l.addJSON("application/vnd.example.thing+json", object{"a": 1})}, entries(i)...)
		}), want: want},
		{name: "an artifact's subject and type", image: base.withManifest(func(o object) {
			o["subject"] = object{"mediaType": ociManifest, "digest": digest(sha(nil)), "size": 2}
			o["annotations"] = object{"a": "b"}
		}), want: want},
		{name: "fields that nobody knows", image: base.withManifest(func(o object) { o["future"] = object{"x": []any{1, "two", nil}} }).withConfig(func(c object) { c["future"] = 1 }), want: want},
		{name: "the manifest embedded", image: base.withIndex(func(l *layout, i object) {
			embed(entries(i)[0].(object), l)
		}), want: want},
		{name: "a config without a platform", image: base.withConfig(func(c object) { delete(c, "os"); delete(c, "architecture") }), want: want},
		{name: "a config with a history of empty layers", image: base.withConfig(func(c object) {
			c["history"] = []any{object{"created_by": "x"}, object{"empty_layer": true}, object{"empty_layer": true}}
		}), want: want},
		{name: "a config without config", image: base.withConfig(func(c object) { delete(c, "config") }), want: want},
		{name: "a config with null config", image: base.withConfig(func(c object) { c["config"] = nil }), want: want},
		{name: "a large config", image: base.withConfig(func(c object) { c["comment"] = strings.Repeat("x", 1<<20) }), want: want},
		{name: "many labels", image: base.withConfig(func(c object) {
			labels := object{}
			for i := range 5000 {
				labels[strings.Repeat("l", i%50)+string(rune('a'+i%26))] = strings.Repeat("v", 50)
			}
			c["config"].(object)["Labels"] = labels
		}), want: want},
		{name: "no oci-layout file", image: base.then(func(dir string) error { return removeFile(dir + "/oci-layout") }), want: want},
		{name: "a blob that nobody names", image: base.withIndex(func(l *layout, _ object) { l.add("x", []byte("orphan")) }), want: want},
		{name: "links in place of all files", image: base.then(linked), want: want},
		{name: "links over links", image: base.then(linked).then(linked), want: want},
	}
}
