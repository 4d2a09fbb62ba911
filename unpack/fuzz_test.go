package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	umoci "github.com/opencontainers/umoci/oci/layer"

	"github.com/dlrun/dlrun/unpack"
)

// FuzzLayer unpacks arbitrary bytes, as they are and compressed: it may refuse, but never panic, leave anything behind
// or touch what lies beside the store.
func FuzzLayer(f *testing.F) {
	for _, tt := range forms {
		for _, l := range tt.layers {
			f.Add(l)
			f.Add(gz(l))
			f.Add(zst(l))
		}
	}
	f.Add(tarOf(raw(paxSparse("f", 1<<20, "x"))))
	f.Add(tarOf(raw(gnuSparse("f", 1<<20, "x"))))
	for _, tt := range bad() {
		for _, l := range tt.img.layers {
			if b, err := io.ReadAll(l.open()); err == nil {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		base := tempDir(t)
		witness := filepath.Join(base, "witness")
		if err := os.WriteFile(witness, []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		// The diff_id is what the bytes inflate to, so that the fuzzer gets past it; only the store knows it before.
		limits := unpack.Limits{Bytes: 8 << 20, Inflate: 8 << 20, Ratio: 1, Entries: 2000, Memory: 1 << 20}
		dir := filepath.Join(base, "store")
		s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{Limits: limits, MaxSize: -1}))
		defer s.Close()
		l := compressed(b, b)
		_, err := s.Root(context.Background(), imageOf(l))
		if err != nil {
			if _, real, ok := strings.Cut(err.Error(), "its content is sha256:"); ok && len(real) > 64 {
				l.diffID = real[:64]
				_, err = s.Root(context.Background(), imageOf(l))
			}
		}
		if err != nil && (err.Error() == "" || strings.Contains(err.Error(), "internal error")) {
			t.Errorf("%v", err)
		}
		noWork(t, dir)
		if err != nil {
			leftNothing(t, dir)
		}
		beside := must[[]os.DirEntry](t)(os.ReadDir(base))
		if got, err := os.ReadFile(witness); err != nil || string(got) != "kept" || len(beside) != 2 {
			t.Errorf("beside the store: %v, %q %v", beside, got, err)
		}
	})
}

// sentence makes layers of a string: each byte pair is one entry, of few names that are likely to meet.
func sentence(text []byte) [][]byte {
	names := []string{"a", "b", "a/b", "a/c", "a/b/c", "d", "d/e", "d/e/f", "b/c", "l", "l/x", "l/a", "../a", "/d/e", "./b", "a/../d"}
	targets := []string{"a", "d", "/d/e", "a/b", "../b", "../../..", "none", "/", "l", "b/c", "d/e/f", "."}
	var layers [][]byte
	var entries []entry
	flush := func() {
		if len(entries) > 0 {
			layers = append(layers, tarOf(entries...))
			entries = nil
		}
	}
	for i := 0; i+1 < len(text) && i < 60; i += 2 {
		kind, name := text[i]%12, names[int(text[i+1])%len(names)]
		target := targets[int(text[i]/12)%len(targets)]
		switch kind {
		case 0, 1, 2:
			entries = append(entries, file(name, fmt.Sprint(i), mode(0o600|int64(text[i+1]&0o77))))
		case 3, 4, 5:
			entries = append(entries, dir(name, mode(0o700|int64(text[i]&0o77))))
		case 6, 7:
			entries = append(entries, symlink(name, target))
		case 8:
			entries = append(entries, hardlink(name, target))
		case 9:
			entries = append(entries, fifo(name, mode(0o640)))
		case 10:
			// umoci makes no directory for a whiteout, as others do.
			clean := strings.TrimPrefix(filepath.Clean("/"+name), "/")
			if text[i+1]&0x80 != 0 {
				entries = append(entries, dir(clean), opaque(clean))
				continue
			}
			if parent := filepath.Dir(clean); parent != "." {
				entries = append(entries, dir(parent))
			}
			entries = append(entries, whiteout(clean))
		case 11:
			flush()
		}
	}
	flush()
	return layers
}

// FuzzTree compares with umoci, which unpacks the same layers into one directory by itself. Where umoci refuses, nothing
// is compared.
func FuzzTree(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x02\x0b\x00\x0a\x02\x00\x04"))
	f.Add([]byte("\x06\x09\x00\x0a\x0b\x00\x00\x0a\x08\x01"))
	f.Add([]byte("\x00\x00\x08\x01\x0b\x00\x0a\x00\x00\x04\x0a\xf3"))
	f.Fuzz(func(t *testing.T, text []byte) {
		layers := sentence(text)
		if len(layers) == 0 || conflicting(layers) {
			return
		}
		base := tempDir(t)
		theirs := filepath.Join(base, "umoci")
		if err := os.Mkdir(theirs, 0o755); err != nil {
			t.Fatal(err)
		}
		s := must[*unpack.Store](t)(unpack.Open(filepath.Join(base, "store"), unpack.Options{
			MaxSize: -1, Overlay: func(string) error { return errors.New("merge") },
		}))
		defer s.Close()
		root, err := s.Root(context.Background(), stack(layers...))
		for _, l := range layers {
			opt := &umoci.UnpackOptions{OnDiskFormat: umoci.DirRootfs{MapOptions: umoci.MapOptions{Rootless: true}}}
			if umoci.UnpackLayer(theirs, bytes.NewReader(l), opt) != nil {
				return
			}
		}
		if err != nil {
			t.Fatalf("umoci takes it: %v\n%s", err, listing(layers))
		}
		if diff := cmp.Diff(shape(t, theirs), shape(t, root.Dir)); diff != "" {
			t.Errorf("umoci and dlrun (-umoci +dlrun):\n%s\n%s", diff, listing(layers))
		}
	})
}

// conflicting reports whether a layer has something in the place of or on the way to a link of a lower layer, or a file
// on the way to where that leads what the layer has below the link: which one stays hangs on the order of entries,
// which is not kept.
func conflicting(layers [][]byte) bool {
	links := map[string]string{}
	var hard []string
	for _, l := range layers {
		var names, files []string
		own := map[string]string{}
		for tr := tar.NewReader(bytes.NewReader(l)); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			name := strings.TrimPrefix(filepath.Clean("/"+h.Name), "/")
			name = strings.Replace(name, ".wh.", "", 1) // a whiteout of a link is something in its place
			if slices.ContainsFunc(hard, func(h string) bool { return strings.HasPrefix(name, h+"/") }) {
				return true // through a hard link of a link, or in the place of one
			}
			if h.Typeflag == tar.TypeLink {
				hard = append(hard, name)
			}
			names = append(names, name)
			if h.Typeflag == tar.TypeSymlink {
				own[name] = h.Linkname
			}
			if h.Typeflag != tar.TypeDir {
				files = append(files, name)
			}
		}
		for range 3 { // names by way of the layer's own links
			for link, target := range own {
				for _, n := range slices.Clone(names) {
					below, through := strings.CutPrefix(n, link+"/")
					at := filepath.Join(leads(link, target), below)
					if through && !slices.Contains(names, at) {
						names = append(names, at)
						if slices.Contains(files, n) {
							files = append(files, at)
						}
					}
				}
			}
		}
		type way struct {
			links  []string
			target string
		}
		var ways []way // where links of lower layers lead, by way of each other too
		for link, target := range links {
			ways = append(ways, way{[]string{link}, leads(link, target)})
		}
		for i := 0; i < len(ways) && i < 1000; i++ {
			for link, target := range links {
				if below, through := strings.CutPrefix(ways[i].target+"/", link+"/"); through {
					ways = append(ways, way{append(slices.Clone(ways[i].links), link), filepath.Join(leads(link, target), below)})
				}
			}
		}
		for _, w := range ways {
			replaced := slices.ContainsFunc(w.links, func(link string) bool {
				onTheWay := func(f string) bool { return strings.HasPrefix(link, f+"/") }
				return slices.Contains(names, link) || slices.ContainsFunc(files, onTheWay)
			})
			for _, n := range names {
				below, through := strings.CutPrefix(n, w.links[0]+"/")
				at := filepath.Join(w.target, below)
				inItsWay := func(link string) bool { return strings.HasPrefix(link+"/", at+"/") }
				if through && (replaced || slices.Contains(names, at) || slices.ContainsFunc(w.links, inItsWay)) {
					return true
				}
				for _, f := range files {
					if through && f != n && (strings.HasPrefix(at+"/", f+"/") || strings.HasPrefix(f+"/", at+"/")) {
						return true
					}
				}
			}
		}
		maps.Copy(links, own)
	}
	return false
}

// leads is where a symlink leads, below the root.
func leads(link, target string) string {
	if !filepath.IsAbs(target) {
		target = filepath.Join("/", filepath.Dir(link), target)
	}
	return strings.TrimPrefix(filepath.Clean(target), "/")
}

// listing of layers, for messages.
func listing(layers [][]byte) string {
	var s strings.Builder
	for i, l := range layers {
		fmt.Fprintln(&s, "layer", i)
		for tr := tar.NewReader(bytes.NewReader(l)); ; {
			h, err := tr.Next()
			if err != nil {
				break
			}
			fmt.Fprintf(&s, "  %c %04o %q %q\n", h.Typeflag, h.Mode, h.Name, h.Linkname)
		}
	}
	return s.String()
}

// shape is list without times, without the root, and without the modes of directories.
func shape(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	for _, l := range must[[]string](t)(list(root)) {
		kind, rest, _ := strings.Cut(l, " ")
		mode, rest, _ := strings.Cut(rest, " ")
		_, rest, _ = strings.Cut(rest, " ")
		if rest == `"."` {
			continue
		}
		if kind == "d" {
			mode = "" // umoci gives a directory without an entry the mode of a file that it replaces
		}
		lines = append(lines, kind+" "+mode+" "+strings.TrimSuffix(rest, " user.rootlesscontainers"))
	}
	return lines
}
