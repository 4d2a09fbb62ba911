package corpus

import (
	"archive/tar"
	"fmt"
	"strings"
)

// escapes are layers that try to leave the root. Most are harmless once names are taken as names in the root.
func escapes() []row {
	up := strings.Repeat("../", 12)
	there := strings.TrimPrefix(outside, "/") // outside, as a name in the root
	kept := hasFile(there+"/x", "planted")
	refusedName := func(name, entry string) row {
		return row{name: name, image: layers(tree(), tarOf(file("y", "y"), rawFile(entry, ""))), refused: []string{"invalid whiteout name"}}
	}
	rows := []row{
		{name: "dots", image: layers(tarOf(rawFile(up+there+"/x", "planted"))), want: checks(kept)},
		{name: "dots in the middle", image: layers(tarOf(rawFile("a/"+up+there+"/x", "planted"))), want: checks(kept)},
		{name: "dots in pax", image: layers(tarOf(file(up+there+"/x", "planted").written(pax(paxRecords([2]string{"path", up + there + "/x"}), join(header("x", tar.TypeReg, "", 7), padded("planted")))))), want: checks(kept)},
		{name: "dots in a long GNU name", image: layers(tarOf(gnuLong(tar.TypeReg, up+there+"/x", "", "planted"))), want: checks(kept)},
		{name: "an absolute name", image: layers(tarOf(rawFile(outside+"/x", "planted"))), want: checks(kept)},
		{name: "many slashes", image: layers(tarOf(rawFile("////"+outside+"/x", "planted"))), want: checks(kept)},
		{name: "an absolute link", image: layers(tarOf(link("l", outside), file("l/x", "planted"))), want: checks(kept)},
		{name: "a relative link", image: layers(tarOf(link("l", up+there), file("l/x", "planted"))), want: checks(kept)},
		{name: "a link and another link", image: layers(tarOf(link("a", "/"), link("b", "a"+outside), file("b/x", "planted"))), want: checks(kept)},
		{name: "a link in a lower layer", image: layers(tarOf(link("l", outside)), tarOf(file("l/x", "planted"))), want: checks(kept)},
		{name: "a relative link in a lower layer", image: layers(tarOf(link("l", up+there)), tarOf(file("l/x", "planted"))), want: checks(kept)},
		{name: "links through two layers", image: layers(tarOf(link("a", "b/c")), tarOf(dir("b"), link("b/c", outside)), tarOf(file("a/x", "planted"))), want: checks(kept)},
		{name: "a link in place of a directory", image: layers(tarOf(dir("d"), file("d/y", "y"), link("d", outside), file("d/x", "planted"))), want: checks(kept, hasLink("d", outside))},
		{name: "a link in place of a directory, entries across", image: layers(tarOf(dir("d"), dir("d/e"), link("d/e", outside), file("d/e/x", "planted"), dir("d/e"), file("d/e/y", "y"))), want: checks(hasFile("d/e/y", "y"))},
		{name: "to /proc/self/root", image: layers(tarOf(link("l", "/proc/self/root"+outside), file("l/x", "planted"))), want: nil, unlike: true},
		{name: "to /proc/self/cwd", image: layers(tarOf(link("l", "/proc/self/cwd"), file("l/x", "planted"))), unlike: true},
		{name: "to /proc/self/fd", image: layers(tarOf(append([]entry{file("y", "y")}, series(30, func(i int) entry { return link(fmt.Sprint("l", i), fmt.Sprint("/proc/self/fd/", i)) })...)...),
			tarOf(series(30, func(i int) entry { return file(fmt.Sprintf("l%d/x", i), "planted") })...)), unlike: true},
		{name: "a link of its own directory", image: layers(tarOf(dir("a"), link("a/up", ".."), file("a/up/a/up/x", "planted"))), want: checks(hasFile("x", "planted"))},
		{name: "a whiteout through a link", image: layers(tarOf(link("l", outside), file("y", "y")), tarOf(rawFile("l/.wh.secret", ""), rawFile("l/.wh.dir", "")))},
		{name: "an opaque marker through a link", image: layers(tarOf(link("l", outside), file("y", "y")), tarOf(rawFile("l/.wh..wh..opq", "")))},
		{name: "a whiteout through dots", image: layers(tarOf(file("y", "y")), tarOf(rawFile(up+there+"/.wh.secret", "")))},
		{name: "a whiteout of an absolute name", image: layers(tarOf(file("y", "y")), tarOf(rawFile(outside+"/.wh.secret", "")))},
		{name: "a hard link by dots", image: layers(tarOf(file("y", "y"), hard("h", up+there+"/secret"))), refused: []string{`"h"`, "no layer holds"}},
		{name: "a hard link by an absolute name", image: layers(tarOf(file("y", "y"), hard("h", outside+"/secret"))), refused: []string{`"h"`, "no layer holds"}},
		{name: "a hard link through a link", image: layers(tarOf(link("l", outside), hard("h", "l/secret"))), refused: []string{`"h"`, "no layer holds"}},
		{name: "a hard link through a link of a lower layer", image: layers(tarOf(link("l", outside)), tarOf(hard("h", "l/secret"))), refused: []string{"h"}},
		{name: "a hard link over a link", image: layers(tarOf(link("l", outside+"/secret"), hard("h", "l"), file("h", "overwritten"))), want: checks(hasFile("h", "overwritten"))},
		{name: "a hard link whose directory becomes a link to outside", image: layers(tarOf(file("l", "planted")), tarOf(dir("a"), hard("a/x", "l"), link("a", outside))), want: checks(hasLink("a", outside))},
		{name: "a hard link twice, whose directory becomes a link to outside", image: layers(tarOf(file("l", "planted")), tarOf(dir("a"), hard("a/secret", "l"), hard("a/secret", "l"), link("a", outside))), want: checks(hasLink("a", outside))},
		{name: "a hard link whose directory's directory becomes a link upwards", image: layers(tarOf(file("l", "planted")), tarOf(hard("a/b/x", "l"), link("a", up))), want: checks(hasLink("a", up))},
		{name: "a hard link whose directory becomes another", image: layers(tarOf(file("l", "x"), file("b/y", "y")), tarOf(hard("a/x", "l"), file("a", ""), dir("a"), hard("b/z", "l"))), want: checks(hasDir("a", "0755"), lacks("a/x"), hasFile("b/z", "x"))},
		{name: "writing through a hard link to a link", image: layers(tarOf(link("l", outside+"/secret"), hard("h", "l")), tarOf(file("h", "overwritten"))), want: checks(hasFile("h", "overwritten"))},
		{name: "a file over a link to outside", image: layers(tarOf(link("l", outside+"/secret"), file("l", "overwritten"))), want: checks(hasFile("l", "overwritten"))},
		{name: "a directory over a link to outside", image: layers(tarOf(link("l", outside), dir("l", mode(0)))), want: checks(hasDir("l", "0000"))},
		{name: "a mode through a link", image: layers(tarOf(link("l", outside+"/secret", mode(0))), tarOf(file("y", "y"))), want: checks(hasLink("l", outside+"/secret"))},
		{name: "a fifo through a link", image: layers(tarOf(link("l", outside), fifo("l/p"))), want: checks(has(there+"/p", "fifo"))},
		{name: "a device through a link", image: layers(tarOf(link("l", outside), device(tar.TypeChar, "l/d", 1, 3))), want: checks(has(there+"/d", "dev"))},
		{name: "an implied directory through a link", image: layers(tarOf(link("l", outside)), tarOf(file("l/a/b/x", "planted"))), want: checks(hasFile(there+"/a/b/x", "planted"))},
		{name: "the parent as a directory", image: layers(tarOf(dir("../"), dir("../../"), file("y", "y"))), want: checks(hasFile("y", "y"))},
		{name: "the parent with another mode", image: layers(tarOf(dir("..", mode(0o777)), file("y", "y"))), want: checks(hasFile("y", "y"))},
		refusedName("a whiteout of the parent", ".wh..."),
		refusedName("a whiteout of the directory", ".wh.."),
		refusedName("a whiteout of no name", ".wh."),
		refusedName("a whiteout of the parent, deeper", "d/.wh..."),
		refusedName("a whiteout of the parent, twice up", "d/../.wh..."),
		refusedName("a whiteout of the parent, from a directory that is missing", "none/.wh..."),
		refusedName("a whiteout of the parent, outside", "../.wh..."),
		refusedName("a whiteout of the parent, absolute", "/.wh..."),
		refusedName("a whiteout of the parent, as a directory", ".wh.../"),
		{name: "something below a whiteout", image: layers(tree(), tarOf(rawFile(".wh.d/x", "planted"))), refused: []string{"below a whiteout"}},
		{name: "a NUL in a name", image: layers(tarOf(file("y", ""), file("x", "").written(pax(paxRecords([2]string{"path", "a\x00b"}), header("x", tar.TypeReg, "", 0))))), refused: []string{"invalid"}},
		{name: "a NUL in a target", image: layers(tarOf(file("y", ""), file("x", "").written(pax(paxRecords([2]string{"linkpath", "a\x00b"}), header("x", tar.TypeSymlink, "", 0))))), refused: []string{"invalid"}},
		{name: "an empty name", image: layers(tarOf(file("y", ""), rawFile("", ""))), refused: []string{"empty"}},
		{name: "a component of 256 bytes", image: layers(tarOf(file(strings.Repeat("n", 256), ""))), refused: []string{"256 bytes"}},
		{name: "a name of 5000 bytes", image: layers(tarOf(file(strings.Repeat("n/", 2500)+"x", ""))), refused: []string{"5001 bytes"}},
		{name: "a target of 5000 bytes", image: layers(tarOf(link("l", strings.Repeat("n/", 2500)))), refused: []string{"5000 bytes"}},
		{name: "an empty target", image: layers(tarOf(file("y", ""), link("l", "x").written(header("l", tar.TypeSymlink, "", 0)))), refused: []string{"link target"}},
		{name: "300 directories deep", image: layers(tarOf(file(strings.Repeat("d/", 300)+"x", ""))), refused: []string{"256 directories below each other", "--limit depth="}},
		{name: "a loop of links on the way", image: layers(tarOf(link("a", "b"), link("b", "a"), file("a/x", ""))), refused: []string{`"a/x"`}},
		{name: "a loop of links on the way in a lower layer", image: layers(tarOf(link("a", "b"), link("b", "a")), tarOf(file("a/x", ""))), refused: []string{"a"}},
		{name: "a link to itself on the way", image: layers(tarOf(link("a", "a/a"), file("a/x", ""))), refused: []string{`"a/x"`}},
		{name: "a hard link to a directory", image: layers(tarOf(dir("d"), hard("h", "d"))), refused: []string{"directory"}},
		{name: "a hard link to the root", image: layers(tarOf(file("y", ""), hard("h", "/"))), refused: []string{"directory"}},
		{name: "a hard link of the root", image: layers(tarOf(file("y", ""), hard("./", "y").written(header("./", tar.TypeLink, "y", 0)))), refused: []string{"root"}},
		{name: "a hard link to nothing", image: layers(tarOf(file("y", ""), hard("h", "none"))), refused: []string{`"none"`}},
		{name: "a hard link to what comes later", image: layers(tarOf(hard("h", "later"), file("later", "x"))), want: checks(together("h", "later")), unlike: true},
		{name: "a hard link to a directory of a lower layer", image: layers(tarOf(dir("d")), tarOf(hard("h", "d"))), refused: []string{"directory"}},
		{name: "the root as a link", image: layers(tarOf(link("./", outside).written(header("./", tar.TypeSymlink, outside, 0)), file("x", ""))), refused: []string{"root"}},
		{name: "the root as a link, by a dot", image: layers(tarOf(link(".", outside), file("x", ""))), refused: []string{"root"}},
		{name: "the root as a link, by a slash", image: layers(tarOf(link("/", outside).written(header("/", tar.TypeSymlink, outside, 0)))), refused: []string{"root"}},
		{name: "the root as a link, by dots", image: layers(tarOf(link("..", outside).written(header("..", tar.TypeSymlink, outside, 0)))), refused: []string{"root"}},
		{name: "the root as a file", image: layers(tarOf(rawFile(".", "x"))), refused: []string{"root"}},
		{name: "the root as a fifo", image: layers(tarOf(fifo("./").written(header("./", tar.TypeFifo, "", 0)))), refused: []string{"root"}},
		{name: "the root as a device", image: layers(tarOf(device(tar.TypeChar, "./", 1, 3).written(header("./", tar.TypeChar, "", 0)))), refused: []string{"root"}},
		{name: "the root of a second layer as a link", image: layers(tree(), tarOf(link("./", outside).written(header("./", tar.TypeSymlink, outside, 0)))), refused: []string{"root"}},
		{name: "attributes that overlayfs would obey", image: layers(tarOf(dir("d"), file("d/a", "a")), tarOf(dir("d", xattr("user.overlay.redirect", outside)), file("f", "", xattr("user.overlay.metacopy", "\x00"), xattr("user.overlay.redirect", outside+"/secret")))), want: checks(hasFile("d/a", "a"), hasFile("f", ""))},
	}
	return rows
}

// lies are images whose descriptors, counts or archives say what is not so.
func lies() []row {
	a := tree(file("big", strings.Repeat("content", 20_000)))
	whole := layers(a)
	blobOf := whole.layers[0].blob
	zstWhole := packed(zst, ociLayer+"+zstd", a)
	plainWhole := packed(plain, ociLayer, a)
	sum := digest(sha(blobOf))
	as := func(b []byte) image { return whole.replaced(content(b)) }
	index := func(key string, value any) image {
		return whole.withIndex(func(_ *layout, i object) { i["manifests"].([]any)[0].(object)[key] = value })
	}
	diffIDs := func(ids ...any) image {
		return whole.withConfig(func(c object) { c["rootfs"].(object)["diff_ids"] = ids })
	}
	damagedTar := func(change func([]byte) []byte) image { return layers(a.with(change)) }
	return []row{
		{name: "two layers, the second one with the diff_id of the first", image: layers(a, tarOf(file("other", "x"))).withConfig(func(c object) {
			ids := c["rootfs"].(object)["diff_ids"].([]any)
			ids[1] = ids[0]
		}), refused: []string{"the image config says"}},
		{name: "a bit of the blob", image: as(flip(blobOf, 100)), refused: []string{sum}},
		{name: "the last bit of the blob", image: as(flip(blobOf, -1)), refused: []string{sum}},
		{name: "the first bit of the blob", image: as(flip(blobOf, 0)), refused: []string{sum}},
		{name: "a bit of the gzip trailer", image: as(flip(blobOf, -6)), refused: []string{sum}},
		{name: "a bit of a zstd blob", image: zstWhole.replaced(content(flip(zstWhole.layers[0].blob, 30))), refused: []string{"sha256:"}},
		{name: "a bit of a plain blob", image: plainWhole.replaced(content(flip(plainWhole.layers[0].blob, 5000))), refused: []string{"sha256:"}},
		{name: "a bit of a name in a plain blob", image: plainWhole.replaced(content(flip(plainWhole.layers[0].blob, 0))), refused: []string{"sha256:"}},
		{name: "a blob cut off", image: as(blobOf[:len(blobOf)/2]), refused: []string{sum, "bytes"}},
		{name: "a blob of one byte less", image: as(blobOf[:len(blobOf)-1]), refused: []string{sum, "bytes"}},
		{name: "a blob of one byte more", image: as(append(append([]byte{}, blobOf...), 0)), refused: []string{sum, "bytes"}},
		{name: "an empty blob", image: as(nil), refused: []string{sum}},
		{name: "another layer's blob", image: as(gz(tarOf(file("evil", "x")).tar)), refused: []string{sum}},
		{name: "another layer's blob of the same size", image: plainWhole.replaced(content(tree(file("big", strings.Repeat("CONTENT", 20_000))).tar)), refused: []string{"sha256:"}},
		{name: "no blob", image: whole.replaced(func(string) error { return nil }), refused: []string{sum}},
		{name: "a size too small", image: whole.withLayer(0, "size", len(blobOf)-1), refused: []string{"bytes"}},
		{name: "a size too large", image: whole.withLayer(0, "size", len(blobOf)+1), refused: []string{"bytes"}},
		{name: "a size of zero", image: whole.withLayer(0, "size", 0), refused: []string{"bytes"}},
		{name: "a negative size", image: whole.withLayer(0, "size", -1), refused: []string{"negative"}},
		{name: "a size beyond 63 bits", image: whole.withLayer(0, "size", 1e30), refused: []string{"manifest"}},
		{name: "a size of an exbibyte", image: whole.withLayer(0, "size", int64(1)<<60), refused: []string{"bytes"}},
		{name: "a size in words", image: whole.withLayer(0, "size", "12"), refused: []string{"manifest"}},
		{name: "a wrong diff_id", image: diffIDs(digest(sha([]byte("other")))), refused: []string{sha(a.tar), sha([]byte("other"))}},
		{name: "the digest as diff_id", image: diffIDs(sum), refused: []string{sha(a.tar)}},
		{name: "no diff_ids", image: diffIDs(), refused: []string{"0 diff_ids", "1 layers"}},
		{name: "more diff_ids than layers", image: diffIDs(digest(sha(a.tar)), digest(sha(a.tar))), refused: []string{"2 diff_ids", "1 layers"}},
		{name: "fewer diff_ids than layers", image: layers(a, tarOf(file("x", "x"))).withConfig(func(c object) { c["rootfs"].(object)["diff_ids"] = []any{digest(sha(a.tar))} }), refused: []string{"1 diff_ids", "2 layers"}},
		{name: "no rootfs", image: whole.withConfig(func(c object) { delete(c, "rootfs") }), refused: []string{"diff_ids"}},
		{name: "a diff_id that is a path", image: diffIDs("sha256:../../../../../../.." + outside), refused: []string{"config"}},
		{name: "a diff_id of another algorithm", image: diffIDs("sha512:" + strings.Repeat("a", 128)), refused: []string{"sha512"}},
		{name: "a diff_id in capitals", image: diffIDs("sha256:" + strings.ToUpper(sha(a.tar))), refused: []string{"config"}},
		{name: "an empty diff_id", image: diffIDs(""), refused: []string{"hash"}},
		{name: "a null diff_id", image: diffIDs(nil), refused: []string{"hash"}},
		{name: "a number for a diff_id", image: diffIDs(7), refused: []string{"config"}},
		{name: "a digest that is a path", image: whole.withLayer(0, "digest", "sha256:../../../../../../.."+outside+"/secret"), refused: []string{"manifest"}},
		{name: "a digest that is an absolute path", image: whole.withLayer(0, "digest", outside+"/secret"), refused: []string{"manifest"}},
		{name: "a digest with a path for an algorithm", image: whole.withLayer(0, "digest", "../.."+outside+":"+strings.Repeat("a", 64)), refused: []string{"manifest"}},
		{name: "a digest of another algorithm", image: whole.withLayer(0, "digest", "md5:"+strings.Repeat("a", 32)), refused: []string{"md5"}},
		{name: "a digest that is too short", image: whole.withLayer(0, "digest", "sha256:abcd"), refused: []string{"manifest"}},
		{name: "no digest", image: whole.withManifest(func(m object) { delete(m["layers"].([]any)[0].(object), "digest") }), refused: []string{"digest"}},
		{name: "a null layer", image: whole.withManifest(func(m object) { m["layers"] = []any{nil} }), refused: []string{"layer"}},
		{name: "the config's digest", image: whole.withManifest(func(m object) { m["config"].(object)["digest"] = digest(sha([]byte("x"))) }), refused: []string{sha([]byte("x"))}},
		{name: "the config's digest a path", image: whole.withManifest(func(m object) { m["config"].(object)["digest"] = "sha256:../../" + outside }), refused: []string{"manifest"}},
		{name: "the config's size", image: whole.withManifest(func(m object) { m["config"].(object)["size"] = 3 }), refused: []string{"bytes"}},
		{name: "the config's content", image: whole.then(func(dir string) error { return spoilBlob(dir, "diff_ids") }), refused: []string{"sha256:"}},
		{name: "the manifest's content", image: whole.then(func(dir string) error { return spoilBlob(dir, `"layers"`) }), refused: []string{"sha256:"}},
		{name: "the manifest's digest", image: index("digest", digest(sha([]byte("x")))), refused: []string{sha([]byte("x"))}},
		{name: "the manifest's digest a path", image: index("digest", "sha256:../../../../../../.."+outside+"/secret"), refused: []string{"index"}},
		{name: "the manifest's digest missing", image: index("digest", ""), refused: []string{"hash"}},
		{name: "the manifest's size", image: index("size", 7), refused: []string{"bytes"}},
		{name: "the manifest's size negative", image: index("size", -7), refused: []string{"negative"}},
		{name: "embedded data of another digest", image: whole.withIndex(func(l *layout, i object) {
			d := i["manifests"].([]any)[0].(object)
			embed(d, l)
			d["digest"] = digest(sha([]byte("x")))
		}), refused: []string{sha([]byte("x"))}},
		{name: "a tar header's checksum", image: damagedTar(func(b []byte) []byte { return flip(b, 3) }), refused: []string{"tar"}},
		{name: "no archive at all", image: layers(archive{tar: []byte(strings.Repeat("no tar at all ", 500))}), refused: []string{"tar"}},
		{name: "an archive cut off in a file", image: damagedTar(func(b []byte) []byte { return b[:len(b)/2] }), refused: []string{"unexpected EOF"}},
		{name: "an archive cut off in a header", image: damagedTar(func(b []byte) []byte { return b[:700] }), refused: []string{"unexpected EOF"}},
		{name: "a file larger than its archive", image: layers(archive{tar: join(header("f", tar.TypeReg, "", 1<<30), padded("x"))}), refused: []string{"unexpected EOF"}},
		{name: "a negative size in the archive", image: layers(archive{tar: func() []byte {
			b := header("f", tar.TypeReg, "", 0)
			copy(b[124:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf0")
			return join(checksum(b), make([]byte, 1024))
		}()}), refused: []string{"tar"}},
		{name: "a negative size in pax", image: layers(archive{tar: join(pax(paxRecords([2]string{"size", "-5"}), header("f", tar.TypeReg, "", 0)), make([]byte, 1024))}), refused: []string{"tar"}},
		{name: "a size beyond 63 bits in pax", image: layers(archive{tar: join(pax(paxRecords([2]string{"size", "99999999999999999999"}), header("f", tar.TypeReg, "", 0)), make([]byte, 1024))}), refused: []string{"tar"}},
		{name: "pax records without a length", image: layers(archive{tar: join(pax("x path=y\n", header("f", tar.TypeReg, "", 0)), make([]byte, 1024))}), refused: []string{"tar"}},
		{name: "a pax record longer than its header", image: layers(archive{tar: join(pax("999999 path=y\n", header("f", tar.TypeReg, "", 0)), make([]byte, 1024))}), refused: []string{"tar"}},
		{name: "a sparse map that overlaps", image: layers(archive{tar: join(pax(paxRecords([2]string{"GNU.sparse.major", "1"}, [2]string{"GNU.sparse.minor", "0"}, [2]string{"GNU.sparse.name", "s"}, [2]string{"GNU.sparse.realsize", "1000"}),
			join(header("s", tar.TypeReg, "", 512+20), padded("2\n0\n10\n5\n10\n"), padded("01234567890123456789"))), make([]byte, 1024))}), refused: []string{"tar"}},
		{name: "a sparse map beyond the end", image: layers(archive{tar: join(pax(paxRecords([2]string{"GNU.sparse.major", "1"}, [2]string{"GNU.sparse.minor", "0"}, [2]string{"GNU.sparse.name", "s"}, [2]string{"GNU.sparse.realsize", "10"}),
			join(header("s", tar.TypeReg, "", 512+20), padded("1\n5\n20\n"), padded("01234567890123456789"))), make([]byte, 1024))}), refused: []string{"tar"}},
		{name: "gzip with a wrong checksum that the digest knows", image: blob(a, flip(blobOf, -6)), refused: []string{"checksum"}},
		{name: "gzip cut off, as the digest knows", image: blob(a, blobOf[:len(blobOf)/2]), refused: []string{"EOF"}},
		{name: "gzip of nothing but a header", image: blob(a, blobOf[:10]), refused: []string{"EOF"}},
		{name: "gzip with reserved flags", image: blob(a, func() []byte { b := append([]byte{}, blobOf...); b[3] = 0xe0; return b }()), refused: []string{sum[:6]}},
		{name: "zstd cut off, as the digest knows", image: blob(a, zst(a.tar)[:60]), refused: []string{"EOF"}},
		{name: "zstd with a wrong checksum", image: blob(a, flip(zst(a.tar), -1)), refused: []string{"CRC"}},
		{name: "zstd with a dictionary that nobody has", image: blob(a, join([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 0x07, 0x01, 0x01, 0, 0})), refused: []string{"dictionary"}},
		{name: "zstd of reserved blocks", image: blob(a, []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 7, 0, 0, 0, 0}), refused: []string{"sha256:"}},
		{name: "a compression that nobody reads", image: blob(a, []byte("BZh91AY&SY"+strings.Repeat("x", 2000))), refused: []string{"tar"}},
		{name: "xz", image: blob(a, []byte("\xfd7zXZ\x00\x00\x04"+strings.Repeat("x", 2000))), refused: []string{"tar"}},
		{name: "an entry of an unknown type", image: layers(tarOf(file("x", "").written(header("x", 'Z', "", 0)))), refused: []string{"unknown type", `"x"`}},
		{name: "an entry of a multi-volume archive", image: layers(tarOf(file("x", "").written(header("x", 'M', "", 0)))), refused: []string{"unknown type"}},
	}
}
