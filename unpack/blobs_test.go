package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dlrun/dlrun/unpack"
)

// TestCompression: what a blob is, its first bytes say; what follows its content
// does not matter.
func TestCompression(t *testing.T) {
	s := store(t, unpack.Options{})
	// Each case needs content of its own, or the layer would be in the store.
	content := func(name string) []byte { return tarOf(file("f", name), file("g", strings.Repeat(name, 100_000))) }
	half := func(b []byte) ([]byte, []byte) { return b[:len(b)/2], b[len(b)/2:] }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	zeros := make([]byte, 3000)
	for name, make := range map[string]func(tar []byte) (content, blob []byte){
		"plain":          func(b []byte) ([]byte, []byte) { return b, b },
		"gzip":           func(b []byte) ([]byte, []byte) { return b, gz(b) },
		"zstd":           func(b []byte) ([]byte, []byte) { return b, zst(b) },
		"gzip members":   func(b []byte) ([]byte, []byte) { x, y := half(b); return b, join(gz(x), gz(y), gz(nil)) },
		"zstd frames":    func(b []byte) ([]byte, []byte) { x, y := half(b); return b, join(zst(x), zst(y)) },
		"zstd skippable": func(b []byte) ([]byte, []byte) { return b, join([]byte("\x50\x2a\x4d\x18\x03\x00\x00\x00abc"), zst(b)) },
		"gzip padded":    func(b []byte) ([]byte, []byte) { return b, join(gz(b), zeros) },
		"tar padded":     func(b []byte) ([]byte, []byte) { b = join(b, zeros); return b, gz(b) },
		"junk after tar": func(b []byte) ([]byte, []byte) { b = join(b, []byte("junk")); return b, gz(b) },
		"no end of tar":  func(b []byte) ([]byte, []byte) { b = b[:len(b)-1024]; return b, gz(b) },
	} {
		t.Run(name, func(t *testing.T) {
			root, err := s.Root(context.Background(), imageOf(compressed(make(content(name)))))
			if err != nil {
				t.Fatal(err)
			}
			got := must[[]byte](t)(os.ReadFile(filepath.Join(root.Layers[0], "f")))
			if string(got) != name {
				t.Errorf("got %q", got)
			}
		})
	}
}

// bad are images that are refused, and what the error must name.
func bad() map[string]struct {
	img  *image
	want []string
} {
	type row = struct {
		img  *image
		want []string
	}
	one := func(e ...entry) *image { return stack(tarOf(e...)) }
	good := tarOf(dir("d"), file("d/f", strings.Repeat("content", 10_000)))
	flip := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	damaged := func(b, damaged []byte) *image {
		l := compressed(good, b)
		l.open = func() io.Reader { return bytes.NewReader(damaged) }
		return imageOf(l)
	}
	other := compressed(good, gz(good))
	other.diffID = sha([]byte("other"))
	rows := map[string]row{
		"gzip cut off":        {damaged(gz(good), gz(good)[:100]), []string{"blob is sha256:", sha(gz(good))}},
		"gzip bit flipped":    {damaged(gz(good), flip(gz(good), 60)), []string{"blob is sha256:", sha(gz(good))}},
		"zstd cut off":        {damaged(zst(good), zst(good)[:40]), []string{"blob is sha256:"}},
		"zstd bit flipped":    {damaged(zst(good), flip(zst(good), 30)), []string{"blob is sha256:"}},
		"tar bit flipped":     {damaged(good, flip(good, 1100)), []string{"blob is sha256:"}},
		"header bit flipped":  {damaged(good, flip(good, 3)), []string{"blob is sha256:"}},
		"empty blob":          {damaged(gz(good), nil), []string{"blob is sha256:"}},
		"wrong diff_id":       {imageOf(other), []string{sha(good), sha([]byte("other"))}},
		"cut off as named":    {imageOf(compressed(good[:3000], good[:3000])), []string{"unexpected EOF"}},
		"no tar":              {stack([]byte(strings.Repeat("no tar ", 200))), []string{"invalid tar header"}},
		"more diff_ids":       {&image{layers: stack(good).layers, diffIDs: []string{sha(good), sha(nil)}}, []string{"1 layers", "2 diff_ids"}},
		"fewer diff_ids":      {&image{layers: stack(good, good).layers, diffIDs: []string{sha(good)}}, []string{"2 layers", "1 diff_ids"}},
		"diff_id a path":      {&image{layers: stack(good).layers, diffIDs: []string{"../../../../etc"}}, []string{"diff_id 0"}},
		"diff_id in capitals": {&image{layers: stack(good).layers, diffIDs: []string{strings.ToUpper(sha(good))}}, []string{"diff_id 0"}},
		"unknown type":        {one(raw(rawHeader("x", 'Z', "", 0))), []string{`"x"`, "unknown type", "'Z'"}},
		"root a symlink":      {one(raw(rawHeader("./", tar.TypeSymlink, "/etc", 0))), []string{"root"}},
		"root a file":         {one(raw(rawHeader(".", tar.TypeReg, "", 0))), []string{"root"}},
		"name empty":          {one(raw(rawHeader("", tar.TypeReg, "", 0))), []string{"empty"}},
		"component too long":  {one(file(strings.Repeat("x", 256), "")), []string{"256 bytes"}},
		"name too long":       {one(file(strings.Repeat("x/", 2100)+"x", "")), []string{"4201 bytes"}},
		"name too deep":       {one(file(strings.Repeat("x/", 300)+"x", "")), []string{"256 directories below each other"}},
		"too deep by a symlink": {one(dir(strings.Repeat("x/", 200)+"x"), symlink("l", strings.Repeat("x/", 200)+"x"), file("l/"+strings.Repeat("y/", 200)+"f", "")),
			[]string{"256 directories below each other"}},
		"target empty":            {one(raw(rawHeader("x", tar.TypeSymlink, "", 0))), []string{"link target"}},
		"target too long":         {one(symlink("x", strings.Repeat("x/", 2100))), []string{"4200 bytes"}},
		"symlink loop":            {one(symlink("a", "b"), symlink("b", "a"), file("a/f", "")), []string{"too many"}},
		"link to nothing":         {one(hardlink("x", "none")), []string{`"x"`, `"none"`, "no layer holds"}},
		"link to itself":          {one(hardlink("x", "x")), []string{"no layer holds"}},
		"link to directory":       {one(dir("d"), hardlink("x", "d")), []string{"directory"}},
		"link to root":            {one(hardlink("x", "/")), []string{"directory"}},
		"link to lower directory": {stack(tarOf(dir("d")), tarOf(hardlink("x", "d"))), []string{"directory"}},
		"below a whiteout":        {one(file(".wh.x/y", "")), []string{"below a whiteout"}},
	}
	for _, name := range []string{".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", "./.wh...", "../.wh...", ".wh.../"} {
		rows["whiteout "+name] = row{one(dir("d"), raw(rawHeader(name, tar.TypeReg, "", 0))), []string{"invalid whiteout name"}}
	}
	return rows
}

func TestRefused(t *testing.T) {
	parent := tempDir(t)
	witness := filepath.Join(parent, "witness")
	if err := os.WriteFile(witness, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range bad() {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(parent, "store")
			s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
			_, err := s.Root(context.Background(), tt.img)
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error does not say %q: %v", w, err)
				}
			}
			leftNothing(t, dir)
			if _, err := os.Lstat(witness); err != nil {
				t.Error(err)
			}
		})
	}
}

// leftNothing checks that the store holds no work and no roots.
func leftNothing(t *testing.T, store string) {
	t.Helper()
	for _, pattern := range []string{"tmp/*", "roots/*", "merged/*"} {
		if left, _ := filepath.Glob(filepath.Join(store, pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestLimits(t *testing.T) {
	many := func(n int, make func(i int) entry) *image {
		var e []entry
		for i := range n {
			e = append(e, make(i))
		}
		return stack(tarOf(e...))
	}
	name := func(i int) string {
		return strings.Repeat("x", i/200+1) + string(rune('a'+i%26)) + strings.Repeat("y", i%200)
	}
	tests := map[string]struct {
		limits unpack.Limits
		img    *image
		what   string
	}{
		"entries":     {unpack.Limits{Entries: 9}, many(10, func(i int) entry { return file(name(i), "") }), "9 entries"},
		"directories": {unpack.Limits{Memory: 2000}, many(50, func(i int) entry { return dir(name(i)) }), "memory"},
		"whiteouts":   {unpack.Limits{Memory: 2000}, many(500, func(i int) entry { return whiteout(name(i)) }), "memory"},
		"links":       {unpack.Limits{Memory: 2000}, many(500, func(i int) entry { return hardlink(name(i), "none") }), "memory"},
		"a file":      {unpack.Limits{Bytes: 1 << 20, Ratio: 1}, stack(tarOf(raw(paxSparse("f", 1<<22, "x")))), "bytes"},
		"files":       {unpack.Limits{Bytes: 1 << 20, Ratio: 1}, stack(tarOf(raw(paxSparse("f", 1<<19, "x")), raw(paxSparse("g", 1<<20, "x")))), "bytes"},
		"a tebibyte":  {unpack.Limits{}, stack(tarOf(raw(paxSparse("f", 1<<40, "x")))), "bytes"},
		"zeros behind the end": {unpack.Limits{Inflate: 1 << 20, Ratio: 1},
			imageOf(compressed(make([]byte, 1<<23), zst(make([]byte, 1<<23)))), "bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "s")
			s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{Limits: tt.limits}))
			_, err := s.Root(context.Background(), tt.img)
			var limit *unpack.LimitError
			if !errors.As(err, &limit) || !strings.Contains(err.Error(), tt.what) {
				t.Errorf("got %v", err)
			}
			leftNothing(t, dir)
		})
	}
	t.Run("free space", func(t *testing.T) {
		dir := filepath.Join(tempDir(t), "s")
		s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{Limits: unpack.Limits{Reserve: 1 << 60}}))
		_, err := s.Root(context.Background(), stack(tarOf(file("f", "x"))))
		var full *unpack.StoreError
		if !errors.As(err, &full) || full.Need == 0 || full.Free <= 0 || !errors.Is(err, syscall.ENOSPC) ||
			!strings.Contains(full.Error(), dir) || !strings.Contains(full.Hint(), "--cache DIR") {
			t.Errorf("got %v", err)
		}
		leftNothing(t, dir)
	})
}

// TestSparse: zeros take neither room on disk nor do they come out as anything
// but zeros, however they were written.
func TestSparse(t *testing.T) {
	const size = 8 << 20
	body := strings.Repeat("\x00", size-100_000) + strings.Repeat("text", 25_000)
	s := store(t, unpack.Options{})
	root := must[*unpack.Root](t)(s.Root(context.Background(), stack(tarOf(
		raw(paxSparse("pax", size, "end")), raw(gnuSparse("gnu", size, "end")), file("plain", body), file("zeros", body[:200_000]), file("small", body[:100]),
	))))
	for name, want := range map[string]string{
		"pax": body[:1<<20] + strings.Repeat("\x00", size-1<<20-3) + "end", "gnu": strings.Repeat("\x00", size-3) + "end",
		"plain": body, "zeros": body[:200_000], "small": body[:100],
	} {
		path := filepath.Join(root.Layers[0], name)
		if got := must[[]byte](t)(os.ReadFile(path)); string(got) != want {
			t.Errorf("%s: other content, %d bytes", name, len(got))
		}
		fi := must[os.FileInfo](t)(os.Stat(path))
		if blocks := fi.Sys().(*syscall.Stat_t).Blocks; blocks > 512 {
			t.Errorf("%s takes %d blocks", name, blocks)
		}
	}
}
