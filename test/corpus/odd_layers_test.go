package corpus

import (
	"archive/tar"
	"fmt"
	"strings"
)

// whiteouts are images in which layers hide what lies below them.
func whiteouts() []row {
	below := tree()
	two := func(upper ...entry) image { return layers(below, tarOf(upper...)) }
	return []row{
		{name: "of a file", image: two(whiteout("f")), want: checks(lacks("f"), hasFile("d/a", "a"))},
		{name: "of a directory", image: two(whiteout("d")), want: checks(lacks("d"), lacks("d/a"))},
		{name: "of a link", image: two(whiteout("l")), want: checks(lacks("l"), hasFile("d/a", "a"))},
		{name: "of nothing", image: two(whiteout("none"), whiteout("d/none"), file("new", "n")), want: checks(lacks("none"), hasFile("new", "n"))},
		{name: "deep down without parents", image: two(whiteout("d/s/b")), want: checks(lacks("d/s/b"), hasDir("d", "0750"), hasDir("d/s", "0755"))},
		{name: "of what is in a directory that is new", image: two(whiteout("new/x")), want: checks(hasDir("new", "0755"))},
		{name: "of a directory after one in it", image: two(whiteout("d/a"), whiteout("d")), want: checks(lacks("d")), unlike: true},
		{name: "of a directory before one in it", image: two(whiteout("d"), whiteout("d/s/b")), want: checks(lacks("d")), unlike: true},
		{name: "as a directory entry", image: two(dir(".wh.d"), file("x", "")), want: checks(lacks("d"))},
		{name: "as a link", image: two(link(".wh.f", "/dev/null"), file("x", "")), want: checks(lacks("f"))},
		{name: "as a device", image: two(device(tar.TypeChar, ".wh.f", 0, 0), file("x", "")), want: checks(lacks("f"))},
		{name: "with content", image: two(file(".wh.f", "not empty")), want: checks(lacks("f"))},
		{name: "twice", image: two(whiteout("f"), whiteout("f")), want: checks(lacks("f"))},
		{name: "written with dots and slashes", image: two(rawFile("./d//.wh.a", "")), want: checks(lacks("d/a"), hasFile("d/s/b", "b"))},
		{name: "of a name that is not UTF-8", image: layers(tarOf(file("x\xff", "x"), file("y", "y")), tarOf(whiteout("x\xff"))), want: checks(lacks("x\xff"))},
		{name: "of a long name", image: layers(tarOf(file(strings.Repeat("n", 251), "x"), file("y", "y")), tarOf(whiteout(strings.Repeat("n", 251)))),
			want: checks(lacks(strings.Repeat("n", 251)))},
		{name: "of a name with a newline", image: layers(tarOf(file("a\nb", "x"), file("y", "y")), tarOf(whiteout("a\nb"))), want: checks(lacks("a\nb"))},
		{name: "of what begins with .wh", image: layers(tarOf(file(".whatever", "x"), file("y", "")), tarOf(whiteout(".whatever"))), want: checks(lacks(".whatever"))},
		{name: "before the file is made again", image: two(whiteout("f"), file("f", "new")), want: checks(hasFile("f", "new"))},
		{name: "after the file is made again", image: two(file("f", "new"), whiteout("f")), want: checks(hasFile("f", "new"))},
		{name: "before the directory is made again", image: two(whiteout("d"), dir("d", mode(0o700)), file("d/n", "n")), want: checks(hasDir("d", "0700"), hasFile("d/n", "n"), lacks("d/a"))},
		{name: "after the directory is made again", image: two(dir("d", mode(0o700)), file("d/n", "n"), whiteout("d")), want: checks(hasDir("d", "0700"), hasFile("d/n", "n"), lacks("d/a"))},
		{name: "between the entries of the directory", image: two(dir("d"), whiteout("d"), file("d/n", "n")), want: checks(hasFile("d/n", "n"), lacks("d/s"))},
		{name: "then a file below it without its directory", image: two(whiteout("d"), file("d/n", "n")), want: checks(hasDir("d", "0755"), hasFile("d/n", "n"), lacks("d/a"))},
		{name: "then a link in place of the directory", image: two(whiteout("d"), link("d", "f")), want: checks(hasLink("d", "f"))},
		{name: "then a directory in place of the file", image: two(whiteout("f"), dir("f"), file("f/x", "x")), want: checks(hasFile("f/x", "x"))},
		{name: "of one of two links", image: layers(tarOf(file("a", "x"), hard("b", "a")), tarOf(whiteout("a"))), want: checks(lacks("a"), hasFile("b", "x"))},
		{name: "of what a link leads to", image: layers(tarOf(file("t", "x"), link("s", "t")), tarOf(whiteout("t"))), want: checks(lacks("t"), hasLink("s", "t"))},
		{name: "in a middle layer", image: layers(below, tarOf(whiteout("d")), tarOf(file("x", "x"))), want: checks(lacks("d"))},
		{name: "and back again", image: layers(below, tarOf(whiteout("d")), tarOf(dir("d", mode(0o711)), file("d/c", "c"))), want: checks(hasDir("d", "0711"), lacks("d/a"), hasFile("d/c", "c"))},
		{name: "and back again without an entry for the directory", image: layers(below, tarOf(whiteout("d")), tarOf(file("d/c", "c"))), want: checks(hasDir("d", "0755"), lacks("d/a"))},
		{name: "of what an opaque directory brought", image: layers(below, tarOf(opaque("d"), file("d/n", "n")), tarOf(whiteout("d/n"))), want: checks(lacks("d/n"), lacks("d/a"))},
		{name: "of all that there is", image: layers(tarOf(file("a", "a"), file("b", "b")), tarOf(whiteout("a"), whiteout("b")), tarOf(file("c", "c"))), want: checks(lacks("a"), hasFile("c", "c"))},
		{name: "in the lowest layer", image: layers(tarOf(whiteout("x"), opaque("y"), file("y/z", "z"))), want: checks(hasFile("y/z", "z"))},
		{name: "of hundreds", image: layers(tarOf(append(series(400, func(i int) entry { return file(fmt.Sprintf("m/%d", i), "x") }), dir("m"))...),
			tarOf(series(399, func(i int) entry { return whiteout(fmt.Sprintf("m/%d", i)) })...)), want: checks(hasFile("m/399", "x"), lacks("m/0"))},
		{name: "in a directory that keeps its owner out", image: layers(tarOf(dir("no", mode(0)), file("no/a", "a"), file("no/b", "b")), tarOf(whiteout("no/a"))),
			want: checks(hasDir("no", "0000"), lacks("no/a"), hasFile("no/b", "b"))},
		{name: "of a directory that keeps its owner out", image: layers(tarOf(dir("no", mode(0)), file("no/a", "a"), file("b", "b")), tarOf(whiteout("no"))), want: checks(lacks("no"))},

		{name: "opaque before its siblings", image: two(dir("d"), opaque("d"), file("d/n", "n")), want: checks(lacks("d/a"), lacks("d/s"), hasFile("d/n", "n"))},
		{name: "opaque after its siblings", image: two(dir("d"), file("d/n", "n"), opaque("d")), want: checks(lacks("d/a"), lacks("d/s"), hasFile("d/n", "n"))},
		{name: "opaque between its siblings", image: two(file("d/n", "n"), opaque("d"), file("d/o", "o"), dir("d")), want: checks(lacks("d/a"), hasFile("d/n", "n"), hasFile("d/o", "o"))},
		{name: "opaque after what lies deeper", image: two(file("d/s/n", "n"), opaque("d")), want: checks(lacks("d/s/b"), hasFile("d/s/n", "n"))},
		{name: "opaque without its directory", image: two(opaque("d")), want: checks(hasDir("d", "0750"), lacks("d/a"))},
		{name: "opaque where nothing was", image: two(opaque("new"), file("new/n", "n")), want: checks(hasFile("new/n", "n"))},
		{name: "opaque where a file was", image: two(opaque("f"), file("f/n", "n")), want: checks(hasFile("f/n", "n"))},
		{name: "opaque deep down", image: two(opaque("d/s"), file("d/s/n", "n")), want: checks(hasFile("d/a", "a"), lacks("d/s/b"), hasFile("d/s/n", "n"))},
		{name: "opaque twice", image: two(opaque("d"), file("d/n", "n"), opaque("d")), want: checks(hasFile("d/n", "n"), lacks("d/a"))},
		{name: "opaque and a whiteout in it", image: two(opaque("d"), whiteout("d/a"), file("d/n", "n"), whiteout("d/none")), want: checks(lacks("d/a"), lacks("d/none"), hasFile("d/n", "n"))},
		{name: "opaque and a whiteout of it", image: two(opaque("d"), whiteout("d"), file("d/n", "n")), want: checks(lacks("d/a"), hasFile("d/n", "n"))},
		{name: "opaque in two layers", image: layers(below, tarOf(opaque("d"), file("d/n", "n")), tarOf(opaque("d"), file("d/o", "o"))), want: checks(lacks("d/n"), hasFile("d/o", "o"))},
		{name: "opaque in a middle layer", image: layers(below, tarOf(opaque("d"), file("d/n", "n")), tarOf(file("d/o", "o"))), want: checks(lacks("d/a"), hasFile("d/n", "n"), hasFile("d/o", "o"))},
		{name: "opaque root", image: layers(below, tarOf(opaque("."), file("n", "n")), tarOf(file("o", "o"))), want: checks(lacks("d"), lacks("f"), hasFile("n", "n"), hasFile("o", "o"))},
		{name: "opaque over a link", image: layers(tarOf(dir("t"), file("t/a", "a"), link("s", "t")), tarOf(whiteout("s"), dir("s"), opaque("s"), file("s/n", "n"))), want: checks(hasFile("t/a", "a"), hasFile("s/n", "n"))},
		{name: "the book-keeping of AUFS", image: two(dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", ""), dir(".wh..wh.orph"), file("d/.wh..wh.x", "")),
			want: checks(hasFile("f", "f"), lacks(".wh..wh.aufs"), lacks(".wh..wh.plnk"))},
	}
}

// types are images in which one thing takes the place of another.
func types() []row {
	var rows []row
	kinds := []struct {
		name string
		make func(name string) []entry
	}{
		{"a file", func(n string) []entry { return []entry{file(n, "a file")} }},
		{"a directory", func(n string) []entry { return []entry{dir(n), file(n+"/in", "in")} }},
		{"an empty directory", func(n string) []entry { return []entry{dir(n, mode(0o700))} }},
		{"a link to a directory", func(n string) []entry { return []entry{dir("t"), file("t/kept", "k"), link(n, "t")} }},
		{"a dangling link", func(n string) []entry { return []entry{link(n, "nowhere")} }},
		{"a fifo", func(n string) []entry { return []entry{fifo(n)} }},
		{"a device", func(n string) []entry { return []entry{device(tar.TypeChar, n, 1, 3)} }},
		{"a hard link", func(n string) []entry { return []entry{file("h", "linked"), hard(n, "h")} }},
	}
	for i, a := range kinds {
		for j, b := range kinds {
			if i == j {
				continue
			}
			rows = append(rows,
				row{name: b.name + " over " + a.name, image: layers(tarOf(append(a.make("x"), file("y", "y"))...), tarOf(b.make("x")...))},
				row{name: b.name + " over " + a.name + " in one layer", image: layers(tarOf(append(append(a.make("x"), b.make("x")...), file("y", "y"))...))})
		}
	}
	return append(rows,
		row{name: "a directory, a file, a directory", image: layers(tarOf(dir("a"), file("a/low", "l")), tarOf(dir("a"), file("a/mid", "m"), file("a", "f"), dir("a", mode(0o711)), file("a/n", "n"))),
			want: checks(hasDir("a", "0711"), lacks("a/low"), lacks("a/mid"), hasFile("a/n", "n"))},
		row{name: "a file below a file", image: layers(tarOf(file("a", "f"), file("a/b", "b"))), want: checks(hasFile("a/b", "b"))},
		row{name: "a file below a file of a lower layer", image: layers(tarOf(file("a", "f")), tarOf(file("a/b", "b"))), want: checks(hasFile("a/b", "b"))},
		row{name: "back and forth over five layers", image: layers(tarOf(file("a", "1")), tarOf(dir("a"), file("a/b", "2")), tarOf(link("a", "x")), tarOf(fifo("a")), tarOf(file("a", "5"))),
			want: checks(hasFile("a", "5"))},
		row{name: "the last of several entries counts", image: layers(tarOf(file("f", "1", mode(0o600)), file("f", "2", mode(0o640)), dir("d", mode(0o700)), file("d/x", "x"), dir("d", mode(0o711)), file("f", "3"))),
			want: checks(hasFile("f", "3"), has("f", "file 0644"), hasDir("d", "0711"), hasFile("d/x", "x"))},
		row{name: "the last entry of one with links", image: layers(tarOf(file("f", "1"), hard("g", "f"), file("f", "2"))), want: checks(hasFile("f", "2"), hasFile("g", "1"))},
	)
}

// links are hard and symbolic links, within a layer and across.
func links() []row {
	return []row{
		{name: "hard", image: layers(tarOf(file("a", "x"), hard("b", "a"), hard("c", "b"), dir("d"), hard("d/e", "./a"))), want: checks(together("a", "b", "c", "d/e"))},
		{name: "hard to a hard link into a lower layer, whose name is taken later", image: layers(tarOf(file("c", "old")), tarOf(hard("b", "c"), hard("e", "b"), file("b", "new"))), want: checks(hasFile("e", "old"), hasFile("b", "new"))},
		{name: "hard to a hard link whose name becomes a link", image: layers(tarOf(file("c", "old")), tarOf(hard("b", "c"), hard("e", "b"), link("b", "/x"))), want: checks(hasFile("e", "old"), hasLink("b", "/x"))},
		{name: "hard to a hard link whose directory is taken", image: layers(tarOf(file("c", "old")), tarOf(hard("d/b", "c"), hard("e", "d/b"), file("d", "new"))), want: checks(hasFile("e", "old"), hasFile("d", "new"))},
		{name: "hard to an absolute name", image: layers(tarOf(file("a", "x"), hard("b", "/a"))), want: checks(together("a", "b"))},
		{name: "hard to a symbolic link", image: layers(tarOf(file("a", "x"), link("s", "a"), hard("t", "s"))), want: checks(hasLink("t", "a"))},
		{name: "hard to a dangling link", image: layers(tarOf(link("s", "/nowhere"), hard("t", "s"))), want: checks(hasLink("t", "/nowhere"))},
		{name: "hard to a fifo", image: layers(tarOf(fifo("p"), hard("q", "p"), file("y", ""))), want: checks(has("q", "fifo"))},
		{name: "hard to itself", image: layers(tarOf(file("a", "x"), hard("a", "a"))), want: checks(hasFile("a", "x"))},
		{name: "hard over a file", image: layers(tarOf(file("a", "x"), file("b", "y"), hard("b", "a"))), want: checks(together("a", "b"))},
		{name: "hard through a link to a directory", image: layers(tarOf(dir("d"), file("d/a", "x"), link("l", "d"), hard("l/b", "l/a"))), want: checks(together("d/a", "d/b"))},
		{name: "hard with a size", image: layers(tarOf(file("a", "x"), hard("b", "a").written(header("b", tar.TypeLink, "a", 0)))), want: checks(together("a", "b"))},
		{name: "hard and setuid", image: layers(tarOf(file("a", "x", mode(0o4755)), hard("b", "a"))), want: checks(has("b", "file 4755"))},
		{name: "hard across layers", image: layers(tarOf(dir("d"), file("d/a", "x"), file("k", "k")), tarOf(hard("b", "d/a"))), want: checks(together("b", "d/a"))},
		{name: "hard across three layers", image: layers(tarOf(file("a", "x")), tarOf(file("y", "y")), tarOf(hard("b", "a"), hard("c", "b"))), want: checks(together("a", "b", "c"))},
		{name: "hard across layers to a symbolic link", image: layers(tarOf(file("a", "x"), link("s", "a")), tarOf(hard("t", "s"))), want: checks(hasLink("t", "a"))},
		{name: "hard across layers through a link", image: layers(tarOf(dir("d"), file("d/a", "x"), link("l", "d")), tarOf(hard("b", "l/a"))), want: checks(together("b", "d/a"))},
		{name: "hard across layers, the target then replaced", image: layers(tarOf(file("a", "x")), tarOf(hard("b", "a")), tarOf(file("a", "y"))), want: checks(hasFile("b", "x"), hasFile("a", "y"))},
		{name: "hard across layers, the target replaced in the same layer", image: layers(tarOf(file("a", "x")), tarOf(hard("b", "a"), file("a", "y"))), want: checks(hasFile("b", "x"), hasFile("a", "y"))},
		{name: "hard across layers, the target replaced before in the same layer", image: layers(tarOf(file("a", "x")), tarOf(file("a", "y"), hard("b", "a"))), want: checks(hasFile("b", "y"))},
		{name: "hard across layers to a link of the same layer", image: layers(tarOf(file("a", "x"), file("b", "old")), tarOf(hard("b", "a"), hard("c", "b"))), want: checks(together("a", "b", "c"))},
		{name: "hard across layers through a link of the same layer", image: layers(tarOf(dir("d"), file("d/a", "x")), tarOf(link("l", "d"), hard("b", "l/a"))), want: checks(together("b", "d/a"))},
		{name: "hard across layers, twice", image: layers(tarOf(file("a", "x"), file("c", "z")), tarOf(hard("b", "c"), hard("b", "a"), hard("b", "b"))), want: checks(together("a", "b"), hasFile("c", "z"))},
		{name: "hard across layers to itself", image: layers(tarOf(file("a", "x"), hard("b", "a")), tarOf(hard("a", "a"), hard("b", "a"), file("y", "y"))), want: checks(together("a", "b"))},
		{name: "hard across layers in a directory that keeps its owner out", image: layers(tarOf(dir("no", mode(0o500)), file("no/a", "x")), tarOf(hard("no/b", "no/a"))), want: checks(together("no/a", "no/b"), hasDir("no", "0500"))},
		{name: "hard across layers, then a whiteout of the target", image: layers(tarOf(file("a", "x")), tarOf(hard("b", "a")), tarOf(whiteout("a"))), want: checks(hasFile("b", "x"), lacks("a"))},
		{name: "hard, one of them changed above", image: layers(tarOf(file("a", "x"), hard("b", "a")), tarOf(file("b", "y"))), want: checks(hasFile("a", "x"), hasFile("b", "y"))},
		{name: "hard, a thousand of them", image: layers(tarOf(append([]entry{file("a", "x")}, series(1000, func(i int) entry { return hard(fmt.Sprint("l", i), "a") })...)...)), want: checks(together("a", "l999"))},
		{name: "to a directory, and a file below it", image: layers(tarOf(dir("usr"), dir("usr/lib"), link("lib", "usr/lib"), file("lib/x", "x"))), want: checks(hasFile("usr/lib/x", "x"), hasLink("lib", "usr/lib"))},
		{name: "dangling, of a lower layer, then something below it", image: layers(tarOf(link("l", "made/here"), file("made", "x")), tarOf(file("l/x", "x"), file("y", "y"))), want: checks(hasFile("made/here/x", "x"))},
		{name: "to a directory of a lower layer", image: layers(tarOf(dir("usr"), dir("usr/lib"), link("lib", "usr/lib")), tarOf(file("lib/x", "x"))), want: checks(hasFile("usr/lib/x", "x"), hasLink("lib", "usr/lib"))},
		{name: "absolute, of a lower layer", image: layers(tarOf(dir("usr"), dir("usr/lib"), link("lib", "/usr/lib")), tarOf(file("lib/x", "x"))), want: checks(hasFile("usr/lib/x", "x"))},
		{name: "over links, of a lower layer", image: layers(tarOf(dir("a"), dir("a/b"), link("c", "a"), link("d", "c/b")), tarOf(file("d/x", "x"))), want: checks(hasFile("a/b/x", "x"))},
		{name: "to a directory, replaced by one", image: layers(tarOf(dir("usr"), dir("usr/lib"), link("lib", "usr/lib")), tarOf(dir("lib"), file("lib/x", "x"))), want: checks(hasDir("lib", "0755"), hasFile("lib/x", "x"), lacks("usr/lib/x"))},
		{name: "upwards and down again", image: layers(tarOf(dir("a"), dir("a/b"), link("a/b/l", "../../c"), dir("c"), file("a/b/l/x", "x"))), want: checks(hasFile("c/x", "x"))},
		{name: "dangling, then something below it", image: layers(tarOf(link("l", "made/here"), file("l/x", "x"))), want: checks(hasFile("made/here/x", "x"))},
		{name: "loops that nobody follows", image: layers(tarOf(link("a", "a"), link("b", "c"), link("c", "b"), file("y", ""))), want: checks(hasLink("a", "a"))},
		{name: "with a target of 4095 bytes", image: layers(tarOf(link("l", strings.Repeat("x/", 2047)+"y"))), want: checks(hasLink("l", strings.Repeat("x/", 2047)+"y"))},
		{name: "with a long target as GNU tar writes it", image: layers(tarOf(gnuLong(tar.TypeSymlink, strings.Repeat("n/", 80)+"l", strings.Repeat("t/", 100)+"t", ""))),
			want: checks(hasLink(strings.Repeat("n/", 80)+"l", strings.Repeat("t/", 100)+"t"))},
		{name: "with a target of any bytes", image: layers(tarOf(link("l", "\xff\n \t"))), want: checks(hasLink("l", "\xff\n \t"))},
	}
}
