package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/internal/lazy"
	"github.com/dlrun/dlrun/layout/registry"
)

// Options narrows what Open may pick. The zero value picks this machine's
// platform and refuses ambiguity.
type Options struct {
	// Tag is the org.opencontainers.image.ref.name of the entry in index.json.
	Tag string
	// RepoTag is IMAGE:TAG, the name of the entry with or without its registry.
	RepoTag string
	// Config is the beginning of the image id, in hex.
	Config string
	// Digest is sha256:HEX of an index or a manifest; anything else is refused.
	Digest string
	// Platform is what the image must be for; nil is this machine's.
	Platform *v1.Platform
	// Limits bound what the image may ask of the reader.
	Limits Limits

	// Registry asks registries; with nil no network is touched.
	Registry *registry.Client
	// Caches are directories where what was got from registries is looked for; the
	// first that can be written to is where it is kept. They need not exist.
	Caches []string
	// Update asks the registry what a tag means now, also where that is known.
	Update bool
	// Supply is asked for missing blobs; nil leaves them missing. It is not asked for index.json and the like, nor for an archive.
	Supply Supply
	// Foreign takes an image of another platform, too, where it is the only one
	// and Platform is nil: for who does not want to run it.
	Foreign bool
}

// Open finds the image that ref names: a directory (an OCI layout, what `docker
// save` writes, skopeo's dir:), the index.json or manifest.json of one, or an
// archive of one, plain or compressed by gzip or zstd; each may be followed by
// :TAG, @sha256:HEX or both, which mean the same as in Options. What exists as a
// path is taken as a path. docker://[HOST/]NAME with :TAG or @sha256:HEX is an
// image at a registry, whose layers are fetched each time they are read; ctx is
// then for all of the image's life. docker-daemon:NAME[:TAG] is an image of a Docker
// engine.
//
// Index, manifest and config are read and verified. Layers are not opened: see
// [Image.CheckLayers]. An error may have a method Hint() string, which is what
// to type next, or empty. Absent content is a [*MissingError].
func Open(ctx context.Context, ref string, o Options) (*Image, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if IsRemote(ref) {
		return openRemote(ctx, ref, o)
	}
	if _, err := os.Lstat(ref); err != nil && strings.HasPrefix(ref, daemonScheme) {
		q, err := newQuery(o)
		if err != nil {
			return nil, err
		}
		return openDaemon(ctx, ref, q)
	}
	name, o, err := splitRef(ref, o)
	if err != nil {
		return nil, err
	}
	q, err := newQuery(o)
	if err != nil {
		return nil, err
	}
	// A dangling symlink is not a directory: it may be an annexed index.json.
	if fi, err := os.Stat(name); err == nil && fi.IsDir() {
		return openDir(ctx, name, q)
	}
	return openFile(ctx, name, q)
}

// openDir opens a directory by the form that it has.
func openDir(ctx context.Context, dir string, q query) (*Image, error) {
	join := strings.TrimRight(dir, "/") + "/"
	_, err := os.Lstat(join + "index.json")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look for index.json: %w", err)
	}
	layout := func() (*Image, error) { return openIndexFile(ctx, join+"index.json", q) }
	if err != nil {
		layout = nil
	}
	return openForm(ctx, directory(dirOf(join+"index.json")), layout, q)
}

// openForm opens p as a layout, where it has an index.json, else by its
// manifest.json. Docker 25 and later save both; where its index.json does not
// lead to the image, manifest.json may, as it is all that older readers know.
func openForm(ctx context.Context, p place, layout func() (*Image, error), q query) (*Image, error) {
	hasManifest := p.has("manifest.json")
	if layout == nil && !hasManifest {
		return nil, fmt.Errorf("%s is not an image: it has no index.json, as an OCI layout has, and no manifest.json, as a docker save has", p.dir())
	}
	if layout == nil {
		return openManifest(ctx, p, q)
	}
	img, err := layout()
	if err == nil || !hasManifest || ctx.Err() != nil {
		return img, err
	}
	img, other := openManifest(ctx, p, q)
	var missing *MissingError
	if other != nil {
		if errors.As(err, &missing) && !errors.As(other, &missing) {
			return nil, other // it is all that is here
		}
		return nil, err
	}
	var bad *DamagedError
	if errors.As(err, &missing) || errors.As(err, &bad) {
		img.passed = err
	}
	return img, nil
}

// openManifest opens p by its manifest.json: a list of images of `docker save`,
// else the manifest of skopeo's dir:.
func openManifest(ctx context.Context, p place, q query) (*Image, error) {
	raw, err := readNamed(p, "manifest.json", "an image manifest", q.limits.ManifestSize, "manifest-size")
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("[")) {
		return openSaved(ctx, p, raw, q)
	}
	return openSkopeoDir(ctx, p, raw, q)
}

// openFile opens an archive, or the form whose index.json or manifest.json is
// at name.
func openFile(ctx context.Context, name string, q query) (*Image, error) {
	f, size, err := openPresent(name)
	var absent *absentError
	switch {
	case errors.As(err, &absent):
		// Nothing tells whether it is an index or an archive. The former speaks for
		// its directory.
		if absent.blob.Key != "" && !strings.HasSuffix(name, ".json") {
			return nil, &MissingError{Dir: name, Blobs: []MissingBlob{absent.blob}}
		}
		return openIndexFile(ctx, name, q)
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
	}
	head = head[:n]
	packed := compression(head)
	if packed == plain && !isTar(head) {
		f.Close()
		if other := otherForm(head); other != nil {
			return nil, &hinted{fmt.Errorf("%s is %w, which is not read", name, other), other.hint}
		}
		if filepath.Base(name) == "manifest.json" {
			return openManifest(ctx, directory(dirOf(name)), q)
		}
		return openIndexFile(ctx, name, q)
	}
	a, err := openArchive(ctx, f, size, packed)
	if err != nil {
		return nil, err
	}
	return openArchived(ctx, a, q)
}

func openArchived(ctx context.Context, a *archive, q query) (*Image, error) {
	var layout func() (*Image, error)
	if a.has("index.json") {
		layout = func() (*Image, error) { return openIndexOf(ctx, a, q) }
	}
	return openForm(ctx, a, layout, q)
}

// isTar knows a tar by its magic, else (before POSIX) by its checksum.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	if bytes.HasPrefix(head[257:], []byte("ustar")) {
		return true
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil || err == io.EOF // zeros: an archive of nothing
}

// otherForm knows by its first bytes what people have besides; nil for what it
// does not know.
func otherForm(head []byte) *hinted {
	at := func(offset int, magic string) bool {
		return len(head) > offset && bytes.HasPrefix(head[offset:], []byte(magic))
	}
	switch {
	case at(32, "SIF_MAGIC"):
		return &hinted{errors.New("a SIF image of apptainer"), "the image that it was made from can be had from its registry: docker://NAME"}
	case at(0, "\xfd7zXZ\x00"):
		return &hinted{errors.New("compressed by xz"), "xz -d"}
	case at(0, "BZh"):
		return &hinted{errors.New("compressed by bzip2"), "bzip2 -d"}
	case at(0, "hsqs"):
		return &hinted{errors.New("a squashfs image"), ""}
	}
	return nil
}

var digestSyntax = lazy.Regexp(`^[a-z0-9]+([+._-][a-z0-9]+)*:`)

// splitRef cuts the tag and digest off a reference, as far as needed to find a
// path that exists; of several the longest. A tag may hold colons and slashes.
func splitRef(ref string, o Options) (string, Options, error) {
	_, notFound := os.Lstat(ref)
	if notFound == nil {
		return ref, o, nil
	}
	name := ref
	if i := strings.LastIndexByte(ref, '@'); i > 0 && digestSyntax().MatchString(ref[i+1:]) {
		name = ref[:i]
		if err := narrow(&o.Digest, ref[i+1:], "digest"); err != nil {
			return "", o, fmt.Errorf("%s: %w", ref, err)
		}
		if _, err := os.Lstat(name); err == nil {
			return name, o, nil
		}
	}
	for i := len(name) - 2; i > 0; i-- {
		if name[i] != ':' {
			continue
		}
		if _, err := os.Lstat(name[:i]); err == nil {
			if err := narrow(&o.Tag, name[i+1:], "tag"); err != nil {
				return "", o, fmt.Errorf("%s: %w", ref, err)
			}
			return name[:i], o, nil
		}
	}
	return "", o, fmt.Errorf("no image %q: looked for an OCI layout directory or its index.json, a docker save directory, an archive: %w", ref, notFound)
}

// narrow sets an option that the reference names too.
func narrow(option *string, value, what string) error {
	if *option != "" && *option != value {
		return fmt.Errorf("the reference names the %s %s, the option %s", what, value, *option)
	}
	*option = value
	return nil
}
