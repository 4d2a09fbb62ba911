package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

const architecture = runtime.GOARCH

// libraries is Debian's directory of this architecture's.
var libraries = "/usr/lib/" + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[architecture] + "-linux-gnu/"

var config = v1.Config{
	Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "FROM_IMAGE=yes"},
	Cmd: []string{"/bin/sh"},
}

// recipe fills dir, which does not exist, with one OCI layout.
type recipe func(ctx context.Context, dir, scratch string) error

// recipes are the images by name.
func recipes() map[string]recipe {
	return map[string]recipe{
		"tiny":        tiny,
		"minbase":     minbase,
		"debian":      debian,
		"debian-zstd": debianZstd,
		"odd":         odd,
		"crosslink":   crosslink,
		"shelf":       shelf,
		"sparse":      sparse,
		"saved":       saved,
		"saved25":     saved25,
		"openmpi":     mpiImage("mpicc.openmpi", libraries+"openmpi/lib", libraries+"pmix2", "/usr/share/openmpi", "/etc/openmpi"),
		"mpich":       mpiImage("mpicc.mpich", libraries+"ucx"),
	}
}

// tiny is busybox-static and nothing else: one layer, made and unpacked in
// milliseconds.
func tiny(ctx context.Context, dir, scratch string) error {
	busybox, binary, err := busyboxStatic()
	if err != nil {
		return err
	}
	applets, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("busybox --list: %w", err)
	}
	list := []Entry{
		Dir("bin/", 0o755), Dir("dev/", 0o755), Dir("etc/", 0o755), Dir("proc/", 0o755), Dir("root/", 0o700),
		Dir("sys/", 0o755), Dir("tmp/", 0o1777), Dir("usr/", 0o755), Dir("usr/bin/", 0o755), Dir("var/", 0o755), Dir("var/tmp/", 0o1777),
		File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n"), File("etc/group", 0o644, "root:x:0:\n"),
		Dir("lower/", 0o755), Dir("lower/sub/", 0o755), File("lower/sub/file", 0o644, "of the image\n"),
		File("plain.txt", 0o644, "not executable\n"), File("garbage", 0o755, "\x7fELF is not enough\n"),
		File("bin/busybox", 0o755, binary),
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			list = append(list, Symlink("bin/"+a, "busybox"))
		}
	}
	return Write(dir, scratch, config, Gzip, Entries(list...))
}

// minbase is a Debian as debootstrap makes it, in one layer: the demo's image.
func minbase(ctx context.Context, dir, scratch string) error {
	base := filepath.Join(scratch, "base.tar")
	if err := mmdebstrap(ctx, base); err != nil {
		return err
	}
	return Write(dir, scratch, config, Gzip, Tarball(base))
}

// debian is a Debian of seven layers and over 1 GB: three of real packages,
// four that hold every kind of entry and of change that a layer can.
func debian(ctx context.Context, dir, scratch string) error {
	compilers := []string{"gcc", "g++", "gfortran", "git", "make"}
	science := []string{"python3-numpy", "python3-scipy", "r-base-core"}
	stages := [][]string{nil, compilers, append(compilers, science...)}
	tars := make([]string, len(stages))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, packages := range stages {
		tars[i] = filepath.Join(scratch, fmt.Sprintf("stage%d.tar", i))
		g.Go(func() error { return mmdebstrap(gctx, tars[i], packages...) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	real := []Layer{Tarball(tars[0]), Diff(tars[0], tars[1]), Diff(tars[1], tars[2])}
	return Write(dir, scratch, config, Gzip, append(real, oddities()...)...)
}

// debianZstd is the same image in the other compression.
func debianZstd(ctx context.Context, dir, scratch string) error {
	gzip, err := Get(ctx, "debian")
	if err != nil {
		return err
	}
	index, err := layout.ImageIndexFromPath(gzip)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	blobs, err := img.Layers()
	if err != nil {
		return err
	}
	var layers []Layer
	for _, blob := range blobs {
		layers = append(layers, func(w io.Writer) error {
			r, err := blob.Uncompressed()
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(w, r)
			return err
		})
	}
	return Write(dir, scratch, config, Zstd, layers...)
}

// mmdebstrap makes a tarball of the host's own release with packages. It takes
// whichever of its modes the caller has the rights for.
func mmdebstrap(ctx context.Context, file string, packages ...string) error {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut("\n"+string(release), "\nVERSION_CODENAME=")
	suite, _, _ := strings.Cut(rest, "\n")
	args := []string{"--quiet", "--variant=minbase", "--include=" + strings.Join(packages, ","), suite, file}
	if len(packages) == 0 {
		args = append(args[:2], args[3:]...)
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch.Unix()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// sparse holds one file of 10 GB that GNU tar stores as a hole: a kilobyte of
// layer, and a trap for whoever keeps a file in memory.
func sparse(ctx context.Context, dir, scratch string) error {
	tree, file := filepath.Join(scratch, "tree"), filepath.Join(scratch, "sparse.tar")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tree, "hole"), nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(filepath.Join(tree, "hole"), 10<<30); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "tar", "--create", "--sparse", "--format=pax", "--owner=0", "--group=0",
		"--file="+file, "--directory="+tree, "hole").CombinedOutput()
	if err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	return Write(dir, scratch, config, Gzip, Tarball(file), shell())
}

// shelf holds several images; the file /which tells them apart. Tag multi is a
// nested index of this platform, another one and an attestation entry, the form
// that docker buildx makes.
func shelf(_ context.Context, dir, scratch string) error {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	which := func(name, arch string) (v1.Image, error) {
		return build(scratch, arch, config, Gzip, shell(), Entries(File("which", 0o644, name+"\n")))
	}
	for _, tag := range []string{"one", "two"} {
		img, err := which(tag, architecture)
		if err != nil {
			return err
		}
		if err := l.AppendImage(img, refName(tag)); err != nil {
			return err
		}
	}
	var multi v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range []v1.Platform{{OS: "linux", Architecture: "s390x"}, {OS: "linux", Architecture: architecture}, {OS: "unknown", Architecture: "unknown"}} {
		img, err := which(p.Architecture, p.Architecture)
		if err != nil {
			return err
		}
		multi = mutate.AppendManifests(multi, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	if err := l.AppendIndex(multi, refName("multi")); err != nil {
		return err
	}
	return readable(dir)
}

// shell is the least that runs a command: sh and a few tools.
func shell() Layer {
	return func(w io.Writer) error {
		_, binary, err := busyboxStatic()
		if err != nil {
			return err
		}
		list := []Entry{Dir("bin/", 0o755), File("bin/busybox", 0o755, binary)}
		for _, applet := range []string{"sh", "cat", "ls", "stat", "true"} {
			list = append(list, Symlink("bin/"+applet, "busybox"))
		}
		return Entries(list...)(w)
	}
}

func busyboxStatic() (path, binary string, err error) {
	path, err = exec.LookPath("busybox")
	if err != nil {
		return "", "", fmt.Errorf("%w (package busybox-static)", err)
	}
	data, err := os.ReadFile(path)
	return path, string(data), err
}
