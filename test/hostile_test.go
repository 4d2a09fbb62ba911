package test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/dlrun/dlrun/test/internal/image"
)

// upon writes at dir the image of base with one more layer and another config.
func upon(t *testing.T, base, dir string, config func(*v1.Config), entries ...image.Entry) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(base)
	check(err)
	manifest, err := index.IndexManifest()
	check(err)
	img, err := index.Image(manifest.Manifests[0].Digest)
	check(err)
	var layer bytes.Buffer
	check(image.Entries(entries...)(&layer))
	upper, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	check(err)
	img, err = mutate.AppendLayers(img, upper)
	check(err)
	file, err := img.ConfigFile()
	check(err)
	changed := file.Config.DeepCopy()
	config(changed)
	img, err = mutate.Config(img, *changed)
	check(err)
	l, err := layout.Write(dir, empty.Index)
	check(err)
	check(l.AppendImage(img))
	check(filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chmod(p, 0o644) // ggcr makes blobs 0600
	}))
}

// TestHostileImages has, in place of what a run mounts or reads, links, fifos and files: they lead to no file of the host
// (runc's CVE-2019-16884, 2019-19921, 2023-27561, 2023-28642, 2021-30465, 2024-45310, 2025-31133, 2026-41579), and nobody
// waits for them. The run starts, or dlrun says why not.
func TestHostileImages(t *testing.T) {
	d := newDesk(t)
	host, err := os.MkdirTemp(filepath.Dir(d.dir), "host-") // seen by no run
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(host, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("of the host\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]func(name string) image.Entry{
		"a link to a directory": func(n string) image.Entry { return image.Symlink(n, host) },
		"a link to a file":      func(n string) image.Entry { return image.Symlink(n, filepath.Join(host, "file")) },
		"a link upwards":        func(n string) image.Entry { return image.Symlink(n, strings.Repeat("../", 30)+host) },
		"a link by proc":        func(n string) image.Entry { return image.Symlink(n, "/proc/self/root"+host) },
		"a link by a process":   func(n string) image.Entry { return image.Symlink(n, fmt.Sprintf("/proc/%d/root%s", os.Getpid(), host)) },
		"a link to itself":      func(n string) image.Entry { return image.Symlink(n, "/"+n) },
		"a fifo":                func(n string) image.Entry { return image.Fifo(n, 0o666) },
		"a file":                func(n string) image.Entry { return image.File(n, 0o666, "file\n") },
	}
	home := strings.TrimPrefix(d.Home, "/")
	names := []string{
		"dev", "dev/null", "dev/pts", "dev/ptmx", "dev/shm", "dev/console", "proc", "proc/self", "sys", "tmp", "etc", "etc/passwd", "etc/group",
		"etc/resolv.conf", "etc/hosts", "home", home, "data", "data/deep", "work", path.Dir(d.dir)[1:], d.dir[1:],
	}
	const script = `cat /etc/passwd /etc/resolv.conf /tmp/file "$HOME/file" /data/deep/er/file /work/file 2>/dev/null
		for f in /tmp/new "$HOME/new" /data/deep/er/new /work/new /dev/null; do echo x >>"$f"; done 2>/dev/null
		echo ended`
	ran, all := 0, 0
	for _, name := range names {
		for kind, make := range kinds {
			all++
			dir := filepath.Join(d.dir, "image")
			upon(t, d.image(), dir, func(c *v1.Config) { c.WorkingDir = "/work/made" }, make(name))
			cmd := d.command(t, "timeout", "20", filepath.Join(d.bin, "dlrun"), "-q", "-v", d.bin+":/data/deep/er:ro", dir, "--", "sh", "-c", script)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			switch code := exitCode(err); {
			case code == 0 && strings.HasSuffix(string(out), "ended\n"):
				ran++
			case code != 125 || !strings.HasPrefix(stderr.String(), "dlrun: "):
				t.Errorf("/%s is %s: code %d: %s%s", name, kind, code, out, &stderr)
			default:
				t.Logf("/%s is %s: %s", name, kind, &stderr)
			}
			if strings.Contains(string(out), "of the host") {
				t.Errorf("/%s is %s: the host's file is seen", name, kind)
			}
			if text, err := os.ReadFile(filepath.Join(host, "file")); err != nil || string(text) != "of the host\n" {
				t.Fatalf("/%s is %s: the host's file is %q, %v", name, kind, text, err)
			}
			if list, err := os.ReadDir(host); err != nil || len(list) != 1 {
				t.Fatalf("/%s is %s: the host's directory holds %v, %v", name, kind, list, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d of %d ran", ran, all)
	if ran < all/2 {
		t.Errorf("%d of %d ran", ran, all)
	}
}
