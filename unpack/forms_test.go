package unpack_test

import (
	"archive/tar"
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/unpack"
)

// forms are images and what a run is to see of them, in overlay and in merged
// form, whoever unpacks them. Times are 1000000000 unless at says otherwise, 0
// where a directory has no entry.
var forms = []struct {
	name   string
	layers [][]byte
	merged bool // even where layers can be stacked
	want   string
}{
	{name: "one layer", layers: [][]byte{tarOf(
		dir("a", mode(0o750), at(7)), file("a/b", "text", at(-5)), symlink("l", "/etc/passwd"), fifo("p", mode(0o600)),
	)}, want: `
		d 0755 0 "."
		d 0750 7 "a"
		f 0644 -5 "a/b" "text"
		l 0777 1000000000 "l" -> "/etc/passwd"
		p 0600 1000000000 "p"`},
	{name: "the root directory's own entry", layers: [][]byte{tarOf(dir(".", mode(0o711), at(9))), tarOf(file("f", ""))}, want: `
		d 0711 9 "."
		f 0644 1000000000 "f" ""`},
	{name: "no layers", want: `d 0755 0 "."`},
	{name: "setuid, setgid and sticky bits", layers: [][]byte{tarOf(
		file("s", "x", mode(0o4755)), file("g", "x", mode(0o2755)), dir("t", mode(0o1777)), dir("sg", mode(0o2775)), file("sg/f", "x"),
	)}, want: `
		d 0755 0 "."
		f 2755 1000000000 "g" "x"
		f 4755 1000000000 "s" "x"
		d 2775 1000000000 "sg"
		f 0644 1000000000 "sg/f" "x"
		d 1777 1000000000 "t"`},
	{name: "whiteout of a file, a directory and nothing", layers: [][]byte{
		tarOf(file("f", "x"), dir("d"), file("d/g", "x"), file("keep", "x")),
		tarOf(whiteout("f"), whiteout("d"), whiteout("none")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "keep" "x"`},
	{name: "whiteout, then something below it", layers: [][]byte{
		tarOf(dir("x", mode(0o700)), file("x/old", "x")), tarOf(whiteout("x"), file("x/y", "new")),
	}, want: `
		d 0755 0 "."
		d 0755 0 "x"
		f 0644 1000000000 "x/y" "new"`},
	{name: "whiteout, then a directory", layers: [][]byte{
		tarOf(dir("x"), file("x/old", "x")), tarOf(whiteout("x"), dir("x", mode(0o711))),
	}, want: `
		d 0755 0 "."
		d 0711 1000000000 "x"`},
	{name: "a directory, then its whiteout", layers: [][]byte{
		tarOf(dir("x"), file("x/old", "x")), tarOf(dir("x", mode(0o711)), file("x/y", "new"), whiteout("x")),
	}, want: `
		d 0755 0 "."
		d 0711 1000000000 "x"
		f 0644 1000000000 "x/y" "new"`},
	{name: "a file, then its whiteout", layers: [][]byte{
		tarOf(file("x", "old")), tarOf(file("x", "new"), whiteout("x")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "x" "new"`},
	{name: "opaque before its siblings", layers: [][]byte{
		tarOf(dir("d"), file("d/old", "x")), tarOf(dir("d"), opaque("d"), file("d/new", "x")),
	}, want: `
		d 0755 0 "."
		d 0755 1000000000 "d"
		f 0644 1000000000 "d/new" "x"`},
	{name: "opaque after its siblings", layers: [][]byte{
		tarOf(dir("d"), file("d/old", "x"), dir("d/s"), file("d/s/old", "x")),
		tarOf(file("d/new", "x"), file("d/s/new", "x"), opaque("d")),
	}, want: `
		d 0755 0 "."
		d 0755 1000000000 "d"
		f 0644 1000000000 "d/new" "x"
		d 0755 0 "d/s"
		f 0644 1000000000 "d/s/new" "x"`},
	{name: "whiteout inside an opaque directory", layers: [][]byte{
		tarOf(dir("d"), file("d/a", "x"), dir("d/e"), file("d/e/b", "x")),
		tarOf(dir("d"), whiteout("d/a"), opaque("d"), dir("d/e"), whiteout("d/e/b"), whiteout("d/none")),
	}, want: `
		d 0755 0 "."
		d 0755 1000000000 "d"
		d 0755 1000000000 "d/e"`},
	{name: "opaque root", layers: [][]byte{
		tarOf(file("old", "x")), tarOf(opaque("."), file("new", "x")), tarOf(file("more", "x")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "more" "x"
		f 0644 1000000000 "new" "x"`},
	{name: "back again after a whiteout", layers: [][]byte{
		tarOf(dir("d"), file("d/a", "1")), tarOf(whiteout("d")), tarOf(dir("d"), file("d/b", "3")),
	}, want: `
		d 0755 0 "."
		d 0755 1000000000 "d"
		f 0644 1000000000 "d/b" "3"`},
	{name: "implied directories keep what lower layers say", layers: [][]byte{
		tarOf(dir("a", mode(0o700), at(5)), dir("a/b", mode(0o2711), at(6), xattr("user.x", "y")), file("a/b/old", "x")),
		tarOf(file("a/b/new", "x"), file("c/d/e", "x")),
		tarOf(file("a/b/c/newer", "x"), whiteout("a/b/old")),
	}, want: `
		d 0755 0 "."
		d 0700 5 "a"
		d 2711 6 "a/b" user.x
		d 0755 0 "a/b/c"
		f 0644 1000000000 "a/b/c/newer" "x"
		f 0644 1000000000 "a/b/new" "x"
		d 0755 0 "c"
		d 0755 0 "c/d"
		f 0644 1000000000 "c/d/e" "x"`},
	{name: "whiteouts in directories of one layer alone", layers: [][]byte{
		tarOf(file("f", "x")), tarOf(dir("d", mode(0o711), at(3)), whiteout("d/x"), file("e/y", "y"), whiteout("e/z")),
	}, want: `
		d 0755 0 "."
		d 0711 3 "d"
		d 0755 0 "e"
		f 0644 1000000000 "e/y" "y"
		f 0644 1000000000 "f" "x"`},
	{name: "an implied directory below one that keeps its owner out", layers: [][]byte{
		tarOf(dir("a", mode(0)), dir("a/b", mode(0o700), at(3)), file("a/b/c", "x")), tarOf(file("a/b/d", "y")),
	}, want: `
		d 0755 0 "."
		d 0000 1000000000 "a"
		d 0700 3 "a/b"
		f 0644 1000000000 "a/b/c" "x"
		f 0644 1000000000 "a/b/d" "y"`, merged: os.Geteuid() != 0},
	{name: "an implied directory that was hidden in between", layers: [][]byte{
		tarOf(dir("a", mode(0o700))), tarOf(whiteout("a")), tarOf(file("a/f", "x")), tarOf(whiteout("a/f")),
	}, want: `
		d 0755 0 "."
		d 0755 0 "a"`},
	{name: "an implied directory that is removed above", layers: [][]byte{
		tarOf(dir("a", mode(0o700))), tarOf(file("a/f", "x")), tarOf(whiteout("a")),
	}, want: `d 0755 0 "."`},
	{name: "opaque without an entry", layers: [][]byte{
		tarOf(dir("a", mode(0o700), at(3)), file("a/f", "x")), tarOf(opaque("a")),
	}, want: `
		d 0755 0 "."
		d 0700 3 "a"`},
	{name: "an implied directory over a symlink", merged: true, layers: [][]byte{
		tarOf(dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib")), tarOf(file("lib/f", "x")),
	}, want: `
		d 0755 0 "."
		l 0777 1000000000 "lib" -> "usr/lib"
		d 0755 1000000000 "usr"
		d 0755 1000000000 "usr/lib"
		f 0644 1000000000 "usr/lib/f" "x"`},
	{name: "an implied directory over a file", merged: true, layers: [][]byte{
		tarOf(file("a", "x")), tarOf(file("a/f", "x")),
	}, want: `
		d 0755 0 "."
		d 0755 0 "a"
		f 0644 1000000000 "a/f" "x"`},
	{name: "through a symlink of the same layer", layers: [][]byte{tarOf(
		dir("usr"), dir("usr/lib", at(3)), symlink("lib", "/usr/lib"), file("lib/f", "x"), symlink("out", "../../../none"), file("out/g", "x"),
	)}, want: `
		d 0755 0 "."
		l 0777 1000000000 "lib" -> "/usr/lib"
		d 0755 0 "none"
		f 0644 1000000000 "none/g" "x"
		l 0777 1000000000 "out" -> "../../../none"
		d 0755 1000000000 "usr"
		d 0755 3 "usr/lib"
		f 0644 1000000000 "usr/lib/f" "x"`},
	{name: "an entry for a directory over a symlink", layers: [][]byte{
		tarOf(dir("usr"), dir("usr/lib"), symlink("lib", "usr/lib")), tarOf(dir("lib"), file("lib/f", "x")),
	}, want: `
		d 0755 0 "."
		d 0755 1000000000 "lib"
		f 0644 1000000000 "lib/f" "x"
		d 0755 1000000000 "usr"
		d 0755 1000000000 "usr/lib"`},
	{name: "one type over another", layers: [][]byte{
		tarOf(dir("d"), file("d/f", "x"), file("f", "x"), symlink("l", "d"), fifo("p")),
		tarOf(file("d", "now a file"), dir("f"), file("f/g", "x"), dir("l"), symlink("p", "f")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "d" "now a file"
		d 0755 1000000000 "f"
		f 0644 1000000000 "f/g" "x"
		d 0755 1000000000 "l"
		l 0777 1000000000 "p" -> "f"`},
	{name: "one type over another in one layer", layers: [][]byte{
		tarOf(dir("a"), file("a/lower", "x")),
		tarOf(dir("a"), dir("a/sub"), file("a/f", "x"), file("a", "a file"), dir("a", mode(0o711)), file("a/g", "x")),
	}, want: `
		d 0755 0 "."
		d 0711 1000000000 "a"
		f 0644 1000000000 "a/g" "x"`},
	{name: "a file, then something below it", layers: [][]byte{tarOf(file("a", "x"), file("a/b", "x"))}, want: `
		d 0755 0 "."
		d 0755 0 "a"
		f 0644 1000000000 "a/b" "x"`},
	{name: "the last of several entries counts", layers: [][]byte{tarOf(
		file("f", "first", mode(0o600)), file("f", "2nd"), dir("d", mode(0o700)), file("d/x", "x"), dir("d", mode(0o711), at(4)),
	)}, want: `
		d 0755 0 "."
		d 0711 4 "d"
		f 0644 1000000000 "d/x" "x"
		f 0644 1000000000 "f" "2nd"`},
	{name: "hard links", layers: [][]byte{tarOf(
		file("a", "x"), hardlink("b", "a"), hardlink("c", "/b"), symlink("s", "a"), hardlink("t", "s"), hardlink("a", "a"), dir("d"), hardlink("d/e", "./a"),
	)}, want: `
		d 0755 0 "."
		f 0644 1000000000 "a" "x"
		f 0644 1000000000 "b" "x" = a
		f 0644 1000000000 "c" "x" = a
		d 0755 1000000000 "d"
		f 0644 1000000000 "d/e" "x" = a
		l 0777 1000000000 "s" -> "a"
		l 0777 1000000000 "t" -> "a" = s`},
	{name: "hard links into a lower layer", merged: true, layers: [][]byte{
		tarOf(dir("d"), file("d/a", "x"), file("gone", "y"), symlink("e", "d")),
		tarOf(hardlink("b", "d/a"), hardlink("c", "b"), hardlink("gone", "d/a"), file("gone", "now here"), hardlink("n/m", "e/a")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "b" "x"
		f 0644 1000000000 "c" "x" = b
		d 0755 1000000000 "d"
		f 0644 1000000000 "d/a" "x" = b
		l 0777 1000000000 "e" -> "d"
		f 0644 1000000000 "gone" "now here"
		d 0755 0 "n"
		f 0644 1000000000 "n/m" "x" = b`},
	{name: "a hard link to what the same layer then replaces", merged: true, layers: [][]byte{
		tarOf(file("a", "old")), tarOf(hardlink("b", "a"), file("a", "new"), hardlink("c", "b")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "a" "new"
		f 0644 1000000000 "b" "old"
		f 0644 1000000000 "c" "old" = b`},
	{name: "a hard link into a lower layer in the place of its target", merged: true, layers: [][]byte{
		tarOf(file("a", "x"), hardlink("b", "a")), tarOf(hardlink("a", "a"), hardlink("b", "a")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "a" "x"
		f 0644 1000000000 "b" "x" = a`},
	{name: "an implied directory over a symlink that dangles", merged: true, layers: [][]byte{
		tarOf(symlink("l", "made/here"), file("made", "x")), tarOf(file("l/f", "x")),
	}, want: `
		d 0755 0 "."
		l 0777 1000000000 "l" -> "made/here"
		d 0755 0 "made"
		d 0755 0 "made/here"
		f 0644 1000000000 "made/here/f" "x"`},
	{name: "extended attributes of a file that cannot be written", layers: [][]byte{tarOf(file("f", "x", mode(0o4444), xattr("user.a", "1")))}, want: `
		d 0755 0 "."
		f 4444 1000000000 "f" "x" user.a`},
	{name: "directories that cannot be written or entered", layers: [][]byte{
		tarOf(dir("ro", mode(0o555)), file("ro/a", "x"), dir("ro/s", mode(0o500)), file("ro/s/b", "x"), dir("no", mode(0)), file("no/c", "x", mode(0)), file("ro/z", "x", mode(0o400))),
		tarOf(dir("ro", mode(0o555)), file("ro/new", "x"), whiteout("ro/a"), file("no/d", "x")),
	}, want: `
		d 0755 0 "."
		d 0000 1000000000 "no"
		f 0000 1000000000 "no/c" "x"
		f 0644 1000000000 "no/d" "x"
		d 0555 1000000000 "ro"
		f 0644 1000000000 "ro/new" "x"
		d 0500 1000000000 "ro/s"
		f 0644 1000000000 "ro/s/b" "x"
		f 0400 1000000000 "ro/z" "x"`},
	{name: "devices are empty files that no one can open", layers: [][]byte{tarOf(
		device("null", 1, 3), device("whiteout?", 0, 0), newEntry(tar.Header{Typeflag: tar.TypeBlock, Name: "sda", Mode: 0o4666}, "", nil),
	)}, want: `
		d 0755 0 "."
		f 0000 1000000000 "null" ""
		f 0000 1000000000 "sda" ""
		f 0000 1000000000 "whiteout?" ""`},
	{name: "owners and extended attributes", layers: [][]byte{tarOf(
		file("f", "x", owner(1000, 1000), xattr("user.a", "1"), xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
			xattr("trusted.b", "1"), xattr("user.rootlesscontainers", "junk"), xattr("security.selinux", "s"), xattr("system.posix_acl_access", "junk")),
		symlink("l", "f", xattr("user.a", "1")),
	)}, want: `
		d 0755 0 "."
		f 0644 1000000000 "f" "x" user.a
		l 0777 1000000000 "l" -> "f"`},
	{name: "overlay attributes of the image are not obeyed", layers: [][]byte{
		tarOf(dir("d"), file("d/a", "x"), file("r", "x"), file("m", "x")),
		tarOf(dir("d", xattr("user.overlay.opaque", "y"), xattr("trusted.overlay.opaque", "y")), dir("e", xattr("user.overlay.redirect", "/d")), file("d/b", "x")),
	}, want: `
		d 0755 0 "."
		d 0755 1000000000 "d" (escaped)
		f 0644 1000000000 "d/a" "x"
		f 0644 1000000000 "d/b" "x"
		d 0755 1000000000 "e" (escaped)
		f 0644 1000000000 "m" "x"
		f 0644 1000000000 "r" "x"`},
	{name: "names of any bytes", layers: [][]byte{tarOf(
		file("\xff\xfe", "x"), file("new\nline", "x"), file("Case", "1"), file("case", "2"), file(" ", "x"), file("a:b,c\\d", "x"),
		file("\xc3\xa9", "nfc"), file("e\xcc\x81", "nfd"), dir("\xff"), file("\xff/\xfe", "x"),
	), tarOf(file("\xff/more", "x"), whiteout("\xff\xfe"))}, want: `
		d 0755 0 "."
		f 0644 1000000000 " " "x"
		f 0644 1000000000 "Case" "1"
		f 0644 1000000000 "a:b,c\\d" "x"
		f 0644 1000000000 "case" "2"
		f 0644 1000000000 "é" "nfd"
		f 0644 1000000000 "new\nline" "x"
		f 0644 1000000000 "é" "nfc"
		d 0755 1000000000 "\xff"
		f 0644 1000000000 "\xff/more" "x"
		f 0644 1000000000 "\xff/\xfe" "x"`},
	{name: "times beyond what file systems hold", layers: [][]byte{tarOf(
		file("past", "", at(-1<<40)), file("future", "", at(1<<50)), dir("d", at(1<<50)), file("epoch", "", at(0)),
	)}, want: `
		d 0755 0 "."
		d 0755 8589934592 "d"
		f 0644 0 "epoch" ""
		f 0644 8589934592 "future" ""
		f 0644 -2147483648 "past" ""`},
	{name: "names that lead out stay inside", layers: [][]byte{tarOf(
		file("../../evil", "x"), file("/abs", "x"), symlink("out", "/tmp"), file("out/planted", "x"), hardlink("pw", "../../../evil"),
	)}, want: `
		d 0755 0 "."
		f 0644 1000000000 "abs" "x"
		f 0644 1000000000 "evil" "x"
		l 0777 1000000000 "out" -> "/tmp"
		f 0644 1000000000 "pw" "x" = evil
		d 0755 0 "tmp"
		f 0644 1000000000 "tmp/planted" "x"`},
	{name: "book-keeping of other tools", layers: [][]byte{tarOf(
		entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}},
		dir(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", ""), raw(rawHeader("cont", tar.TypeCont, "", 0)),
	)}, want: `
		d 0755 0 "."
		f 0644 0 "cont" ""`},
	{name: "the same layer twice", layers: [][]byte{
		tarOf(file("a", "1")), tarOf(whiteout("a"), file("b", "2")), tarOf(file("a", "1")),
	}, want: `
		d 0755 0 "."
		f 0644 1000000000 "a" "1"
		f 0644 1000000000 "b" "2"`},
}

func TestForms(t *testing.T) {
	for form, s := range both(t) {
		for _, tt := range forms {
			t.Run(form+"/"+tt.name, func(t *testing.T) {
				root, err := s.Root(context.Background(), stack(tt.layers...))
				if err != nil {
					t.Fatal(err)
				}
				if merged := form == "merged" || tt.merged || len(tt.layers) == 0; merged != (root.Dir != "") {
					t.Errorf("merged: %v, want %v", !merged, merged)
				}
				var want []string
				for l := range strings.SplitSeq(strings.TrimSpace(tt.want), "\n") {
					want = append(want, strings.TrimSpace(l))
				}
				if diff := cmp.Diff(want, escaped(view(t, root))); diff != "" {
					t.Errorf("the run sees (-want +got):\n%s", diff)
				}
				again, err := s.Root(context.Background(), stack(tt.layers...))
				if diff := cmp.Diff(root, again); err != nil || diff != "" {
					t.Errorf("the second time: %v %s", err, diff)
				}
			})
		}
	}
}

// escaped replaces overlay attributes, which overlayfs shows unescaped from Linux
// 6.8 on, by a mark.
func escaped(lines []string) []string {
	for i, l := range lines {
		if before, after, ok := strings.Cut(l, " user.overlay."); ok {
			if after == "opaque" || after == "redirect" || strings.HasPrefix(after, "overlay.") {
				lines[i] = before + " (escaped)"
			}
		}
	}
	return lines
}

// TestShared: layers are unpacked once for all images.
func TestShared(t *testing.T) {
	s := store(t, unpack.Options{})
	base := layer(tarOf(dir("a"), file("a/f", "x")))
	base.opened = new(atomic.Int32)
	var roots []*unpack.Root
	for _, top := range [][]byte{tarOf(file("b", "1")), tarOf(file("b", "2"))} {
		roots = append(roots, must[*unpack.Root](t)(s.Root(context.Background(), imageOf(base, layer(top)))))
	}
	if opened := base.opened.Load(); opened != 1 || roots[0].Layers[0] != roots[1].Layers[0] || roots[0].Layers[1] == roots[1].Layers[1] {
		t.Errorf("opened %d times: %v %v", opened, roots[0].Layers, roots[1].Layers)
	}
}
