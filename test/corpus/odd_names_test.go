package corpus

import (
	"archive/tar"
	"fmt"
	"strings"
)

// names_ are images with names that are rare.
func names_() []row {
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("deep/", 100)
	return []row{
		{name: "of 255 bytes", image: layers(tarOf(file(long, "x"), dir("d"), file("d/"+long, "y"))), want: checks(hasFile(long, "x"), hasFile("d/"+long, "y"))},
		{name: "of 2000 bytes in all", image: layers(tarOf(file(strings.Repeat(strings.Repeat("p", 99)+"/", 20)+"x", "x"))), want: checks(hasFile(strings.Repeat(strings.Repeat("p", 99)+"/", 20)+"x", "x"))},
		{name: "of 100 directories", image: layers(tarOf(file(deep+"x", "x")), tarOf(file(deep+"y", "y"))), want: checks(hasFile(deep+"x", "x"), hasFile(deep+"y", "y"))},
		{name: "long in ustar", image: layers(tarOf(file(strings.Repeat("p", 90)+"/"+strings.Repeat("n", 90), "x", format(tar.FormatUSTAR)))), want: checks(hasFile(strings.Repeat("p", 90)+"/"+strings.Repeat("n", 90), "x"))},
		{name: "long in GNU tar", image: layers(tarOf(gnuLong(tar.TypeReg, strings.Repeat("n", 200), "", "x"))), want: checks(hasFile(strings.Repeat("n", 200), "x"))},
		{name: "of exactly 100 bytes", image: layers(tarOf(file(strings.Repeat("n", 100), "x", format(tar.FormatUSTAR)))), want: checks(hasFile(strings.Repeat("n", 100), "x"))},
		{name: "not UTF-8", image: layers(tarOf(file("\xff\xfe", "x"), dir("\x80"), file("\x80/\x81", "y")), tarOf(file("\x80/\x82", "z"))), want: checks(hasFile("\xff\xfe", "x"), hasFile("\x80/\x82", "z"))},
		{name: "composed and decomposed", image: layers(tarOf(file("\u00e9", "nfc"), file("e\u0301", "nfd"))), want: checks(hasFile("\u00e9", "nfc"), hasFile("e\u0301", "nfd"))},
		{name: "in capitals and not", image: layers(tarOf(file("Case", "1"), file("case", "2"), file("CASE", "3"))), want: checks(hasFile("Case", "1"), hasFile("CASE", "3"))},
		{name: "with a newline", image: layers(tarOf(file("new\nline", "x"), dir("d\n"), file("d\n/\n", "y"))), want: checks(hasFile("new\nline", "x"), hasFile("d\n/\n", "y"))},
		{name: "with control characters", image: layers(tarOf(file("\x1b[31mred\x07\x7f", "x"), file("\t", "t"))), want: checks(hasFile("\x1b[31mred\x07\x7f", "x"))},
		{name: "with blanks", image: layers(tarOf(file(" ", "x"), file("a b ", "y"), file("  /b", "z"))), want: checks(hasFile(" ", "x"), hasFile("  /b", "z"))},
		{name: "that options of mount would not take", image: layers(tarOf(dir("a:b,c\\d=e"), file("a:b,c\\d=e/x", "x"))), want: checks(hasFile("a:b,c\\d=e/x", "x"))},
		{name: "of dots", image: layers(tarOf(file("-rf", "x"), file("...", "y"), file("..a", "z"), dir("...."))), want: checks(hasFile("...", "y"), hasFile("..a", "z"))},
		{name: "that look like a whiteout and are none", image: layers(tarOf(file("wh.x", "x"), file(".wh", "y"), file("a.wh.b", "z"), file(".whx", "w"))), want: checks(hasFile(".wh", "y"), hasFile("a.wh.b", "z"))},
		{name: "with dots and slashes", image: layers(tarOf(rawFile("./a//b/../c", "x"), rawFile("d/./e", "y"))), want: checks(hasFile("a/c", "x"), hasFile("d/e", "y"))},
		{name: "absolute", image: layers(tarOf(rawFile("/abs/f", "x"))), want: checks(hasFile("abs/f", "x"))},
		{name: "of a file that ends in a slash", image: layers(tarOf(rawFile("f/", "").written(header("f/", '\x00', "", 0)).asDir(), file("y", ""))), want: checks(hasDir("f", "0644"))},
		{name: "of 127 layers", image: manyLayers(127), want: checks(hasFile("l126", "126"), hasFile("shared/126", "x"))},
		{name: "one in 64 layers", image: func() image {
			var list []archive
			for i := range 64 {
				list = append(list, tarOf(file("same", fmt.Sprint(i)), file("d/same", fmt.Sprint(i))))
			}
			return layers(list...)
		}(), want: checks(hasFile("same", "63"))},
		{name: "missing parents", image: layers(tarOf(file("a/b/c/d", "x"))), want: checks(hasDir("a/b", "0755"), hasFile("a/b/c/d", "x"))},
		{name: "missing parents over existing ones", image: layers(tarOf(dir("a", mode(0o711)), dir("a/b", mode(0o700), at(7, 7))), tarOf(file("a/b/c", "x"))), want: checks(hasDir("a", "0711"), hasDir("a/b", "0700"))},
		{name: "parents after their children", image: layers(tarOf(file("a/b", "x"), dir("a", mode(0o700), at(5, 0)))), want: checks(hasDir("a", "0700"), hasFile("a/b", "x"))},
		{name: "a thousand in one directory", image: layers(tarOf(series(1000, func(i int) entry { return file(fmt.Sprintf("m/%04d", i), fmt.Sprint(i)) })...)), want: checks(hasFile("m/0999", "999"))},
	}
}

// asDir is e as a directory, for the oracle.
func (e entry) asDir() entry {
	e.Typeflag = tar.TypeDir
	return e
}

func manyLayers(n int) image {
	var list []archive
	for i := range n {
		list = append(list, tarOf(file(fmt.Sprint("l", i), fmt.Sprint(i)), dir("shared"), file(fmt.Sprint("shared/", i), "x")))
	}
	return layers(list...)
}

// attributes are modes, owners, times, extended attributes and kinds of files.
func attributes() []row {
	return []row{
		{name: "a directory of mode 0555 that a later layer fills", image: layers(tarOf(dir("ro", mode(0o555)), file("ro/a", "a")), tarOf(dir("ro", mode(0o555)), file("ro/b", "b"))), want: checks(hasDir("ro", "0555"), hasFile("ro/a", "a"), hasFile("ro/b", "b"))},
		{name: "a directory of mode 0555 that a later layer fills without an entry", image: layers(tarOf(dir("ro", mode(0o555)), file("ro/a", "a")), tarOf(file("ro/b", "b"))), want: checks(hasDir("ro", "0555"), hasFile("ro/b", "b"))},
		{name: "a directory of mode 0000 that a later layer fills", image: layers(tarOf(dir("no", mode(0)), file("no/a", "a")), tarOf(dir("no", mode(0)), file("no/b", "b"))), want: checks(hasDir("no", "0000"), hasFile("no/a", "a"), hasFile("no/b", "b"))},
		{name: "a directory of mode 0000 that a later layer fills without an entry", image: layers(tarOf(dir("no", mode(0)), file("no/a", "a")), tarOf(file("no/b", "b"))), want: checks(hasDir("no", "0000"), hasFile("no/b", "b"))},
		{name: "directories of mode 0000 in each other", image: layers(tarOf(dir("a", mode(0)), dir("a/b", mode(0)), file("a/b/c", "c", mode(0))), tarOf(file("a/b/d", "d", mode(0o400)))), want: checks(hasDir("a", "0000"), hasDir("a/b", "0000"), hasFile("a/b/c", "c"), hasFile("a/b/d", "d"))},
		{name: "a directory of mode 0333", image: layers(tarOf(dir("wx", mode(0o333)), file("wx/a", "a")), tarOf(file("wx/b", "b"))), want: checks(hasDir("wx", "0333"), hasFile("wx/b", "b"))},
		{name: "files of mode 0000", image: layers(tarOf(file("no", "text", mode(0)), file("ro", "text", mode(0o444)))), want: checks(has("no", "file 0000"), hasFile("no", "text"))},
		{name: "setuid, setgid and sticky", image: layers(tarOf(file("su", "x", mode(0o4755)), file("sg", "x", mode(0o2755)), file("all", "x", mode(0o7777)), dir("t", mode(0o1777)), dir("sgd", mode(0o2775)), file("sgd/f", "x"))),
			want: checks(has("su", "file 4755"), has("sg", "file 2755"), has("all", "file 7777"), hasDir("t", "1777"), hasDir("sgd", "2775"))},
		{name: "type bits in the mode", image: layers(tarOf(file("f", "x", mode(0o100644)), dir("d", mode(0o40755)))), want: checks(has("f", "file 0644"), hasDir("d", "0755"))},
		{name: "the root's own entry", image: layers(tarOf(dir(".", mode(0o711)), file("f", "x"))), want: checks(hasFile("f", "x"))},
		{name: "the root's own entry of mode 0555", image: layers(tarOf(dir(".", mode(0o555)), file("f", "x")), tarOf(file("g", "y"))), want: checks(hasFile("f", "x"), hasFile("g", "y"))},
		{name: "huge ids", image: layers(tarOf(file("a", "x", owner(65534, 65534)), file("b", "x", owner(2147483647, 2147483647)), file("c", "x", owner(4294967294, 4294967294)), file("d", "x", owner(1<<40, 1<<40)))), want: checks(hasFile("d", "x"))},
		{name: "ids in base 256", image: layers(tarOf(file("a", "x", owner(1<<30, 1<<30), format(tar.FormatGNU)))), want: checks(hasFile("a", "x"))},
		{name: "names of owners that nobody knows", image: layers(tarOf(file("a", "x", named("nobody-at-all", "no-group")), file("b", "x", named("root", "root")))), want: checks(hasFile("a", "x"))},
		{name: "times before 1970", image: layers(tarOf(file("a", "x", at(-1, 0)), file("b", "x", at(-1_000_000_000, 0)), dir("d", at(-5, 0)))), want: checks(has("a", "mtime=-1.000000000"))},
		{name: "times with nanoseconds", image: layers(tarOf(file("a", "x", at(1_500_000_000, 123_456_789)), dir("d", at(1, 1)), link("l", "a", at(2, 2)), fifo("p", at(3, 3)))),
			want: checks(has("a", "mtime=1500000000.123456789"), has("d", "mtime=1.000000001"), has("l", "mtime=2.000000002"))},
		{name: "times with nanoseconds before 1970", image: layers(tarOf(file("a", "x", at(-2, 250_000_000)))), want: checks(has("a", "mtime=-2.250000000"))},
		{name: "time zero", image: layers(tarOf(file("a", "x", at(0, 0)), dir("d", at(0, 0)))), want: checks(has("a", "mtime=0.000000000"))},
		{name: "the year 2099", image: layers(tarOf(file("a", "x", at(4_070_908_800, 0)), dir("d", at(4_070_908_800, 0)))), want: checks(has("a", "mtime=4070908800.000000000"))},
		{name: "access and change times", image: layers(tarOf(file("a", "x", record("atime", "1.5"), record("ctime", "2.5")))), want: checks(hasFile("a", "x"))},
		{name: "extended attributes", image: layers(tarOf(file("a", "x", xattr("user.one", "1"), xattr("user.bytes", "\x00\xff\n")), dir("d", xattr("user.dir", "yes")))), want: checks(has("a", "user.bytes=00ff0a"), has("d", "user.dir=796573"))},
		{name: "extended attributes on files of mode 0444", image: layers(tarOf(file("a", "x", mode(0o444), xattr("user.one", "1")))), want: checks(has("a", "user.one=31"))},
		{name: "an empty extended attribute", image: layers(tarOf(file("a", "x").written(pax(paxRecords([2]string{"SCHILY.xattr.user.e", ""}), join(header("a", tar.TypeReg, "", 1), padded("x")))))), want: checks(hasFile("a", "x"))},
		{name: "extended attributes of a directory, replaced", image: layers(tarOf(dir("d", xattr("user.old", "1"))), tarOf(dir("d", xattr("user.new", "2")))), want: checks(has("d", "user.new=32"))},
		{name: "extended attributes of a directory that a later layer implies", image: layers(tarOf(dir("d", xattr("user.x", "1"))), tarOf(file("d/f", "f"))), want: checks(has("d", "user.x=31"))},
		{name: "extended attributes that need privileges", image: layers(tarOf(file("a", "x", xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), xattr("trusted.t", "1"), xattr("security.selinux", "s"), xattr("system.posix_acl_access", "junk")))), want: checks(hasFile("a", "x"))},
		{name: "extended attributes of other unpackers", image: layers(tarOf(file("a", "x", xattr("user.rootlesscontainers", "\x08\x01\x10\x01"), xattr("user.containers.override_stat", "0:0:0755")))), want: checks(hasFile("a", "x")), unlike: true},
		{name: "extended attributes on links", image: layers(tarOf(file("a", "x"), link("l", "a", xattr("user.x", "1")))), want: checks(hasLink("l", "a"))},
		{name: "extended attributes of overlayfs", image: layers(tarOf(dir("d"), file("d/a", "a"), file("m", "m")), tarOf(dir("d", xattr("user.overlay.opaque", "y"), xattr("trusted.overlay.opaque", "y")), dir("e", xattr("user.overlay.redirect", "/d")), file("m2", "", xattr("user.overlay.metacopy", ""), xattr("user.overlay.whiteout", "y")))), want: checks(hasFile("d/a", "a"), lacks("e/a"))},
		{name: "fifos", image: layers(tarOf(fifo("p", mode(0o600)), fifo("q"), dir("d"), fifo("d/p"))), want: checks(has("p", "fifo 0600"))},
		{name: "devices", image: layers(tarOf(device(tar.TypeChar, "null", 1, 3), device(tar.TypeBlock, "sda", 8, 0), device(tar.TypeChar, "huge", 2097151, 2097151), file("y", "y"))), want: checks(has("null", "dev"), has("sda", "dev"))},
		{name: "a device that overlayfs would take for a whiteout", image: layers(tarOf(file("a", "a"), file("b", "b")), tarOf(device(tar.TypeChar, "a", 0, 0))), want: checks(has("a", "dev"), hasFile("b", "b"))},
		{name: "contiguous files", image: layers(tarOf(file("c", "text").written(join(header("c", tar.TypeCont, "", 4), padded("text"))))), want: checks(hasFile("c", "text"))},
		{name: "files of type NUL", image: layers(tarOf(file("c", "text").written(join(header("c", 0, "", 4), padded("text"))))), want: checks(hasFile("c", "text"))},
		{name: "setuid devices", image: layers(tarOf(device(tar.TypeChar, "d", 1, 1, mode(0o4666)), file("y", "y"))), want: checks(has("d", "dev"))},
		{name: "an immense empty directory tree", image: layers(tarOf(series(2000, func(i int) entry { return dir(fmt.Sprintf("t/%d/%d", i%40, i)) })...))},
	}
}
