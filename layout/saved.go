package layout

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/dlrun/dlrun/internal/lazy"
)

// saved is the medium of one image in what `docker save` writes: manifest.json
// names the files of config and layers. No manifest is stored, so one is made
// up: the config as it is, and each layer as the plain tar that its diff_id is
// the digest of, with the size of its file. A file named by another digest
// (HEX.tar.gz, blobs/sha256/HEX) is taken for the compressed blob of that digest.
// Any other file that turns out to be compressed when it is read is
// decompressed on the way; its size in the manifest is then that of the file,
// which [Image.Measured] mends.
type saved struct {
	place
	desc  v1.Descriptor      // of the manifest
	id    v1.Hash            // of the config
	held  map[v1.Hash][]byte // manifest and config
	files map[v1.Hash]string // names of files of config and layers, by digest
}

// savedImage is an entry of manifest.json.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// openSaved opens an image that manifest.json, with the content raw, lists.
func openSaved(ctx context.Context, p place, raw []byte, q query) (*Image, error) {
	var images []savedImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("%s is not the list of a docker save: %w", p.path("manifest.json"), err)
	}
	// Only the configs of those that the names leave are read: another may be absent.
	var named []v1.Descriptor
	for n, img := range images {
		if _, hex := namedDigest(img.Config); hex != "" && !savedConfigFits(img.Config, q.config) {
			continue
		}
		for _, notes := range savedNames(img.RepoTags) {
			notes[savedEntry] = strconv.Itoa(n)
			named = append(named, v1.Descriptor{Annotations: notes})
		}
	}
	noID := fmt.Errorf("%s: no image id begins with %q", none(p), q.config)
	if len(named) == 0 && q.config != "" {
		return nil, noID
	}
	named, err := q.narrow(p, named)
	if err != nil {
		return nil, err
	}
	read := map[string]*saved{}
	byDigest := map[v1.Hash]*saved{}
	all := &saved{place: p, held: map[v1.Hash][]byte{}}
	var entries []v1.Descriptor
	for _, d := range named {
		at := d.Annotations[savedEntry]
		n, _ := strconv.Atoi(at)
		m := read[at]
		if m == nil {
			if len(read) == maxSaved {
				return nil, fmt.Errorf("%s: they are more than %d", several(p), maxSaved)
			}
			if m, err = newSaved(ctx, p, images[n], q.limits.ConfigSize); err != nil {
				return nil, err
			}
			read[at] = m
			if byDigest[m.desc.Digest] == nil {
				byDigest[m.desc.Digest] = m
			}
			all.held[m.desc.Digest] = m.held[m.desc.Digest]
		}
		if savedConfigFits(images[n].Config, q.config) || strings.HasPrefix(m.id.Hex, q.config) {
			entry := m.desc
			entry.Annotations = d.Annotations
			entry.Annotations[savedID] = m.id.String()
			entries = append(entries, entry)
		}
	}
	if len(entries) == 0 && q.config != "" {
		return nil, noID
	}
	q.config = ""
	picked, err := q.pick(ctx, all, entries)
	if err != nil {
		return nil, err
	}
	return newImage(ctx, q.supplied(ctx, byDigest[picked.desc.Digest], nil), picked, q)
}

// Annotations by which an entry finds back to manifest.json, and of its image id.
const (
	savedEntry = "dlrun.saved.entry"
	savedID    = "dlrun.saved.id"
)

// savedNames are the annotations of an image under each of its names.
func savedNames(repoTags []string) []map[string]string {
	var list []map[string]string
	for _, name := range repoTags {
		notes := map[string]string{fullName: name}
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			notes[refName] = name[i+1:]
		}
		list = append(list, notes)
	}
	if list == nil {
		list = []map[string]string{{}}
	}
	return list
}

// savedConfigFits says whether the name of a config, or the image id in it,
// begins with prefix.
func savedConfigFits(name, prefix string) bool {
	if strings.HasPrefix(name, prefix) {
		return true
	}
	_, hex := namedDigest(name)
	return hex != "" && strings.HasPrefix(hex, prefix)
}

var digestName = lazy.Regexp(`^(?:sha256:)?([0-9a-f]{64})((?:\.[a-z]+)*)$`)

// namedDigest is the sha256 by which a file is named, empty when it is not,
// and the ending after it.
func namedDigest(name string) (ending, hex string) {
	m := digestName().FindStringSubmatch(path.Base(name))
	if m == nil {
		return "", ""
	}
	return m[2], m[1]
}

// newSaved reads the config of img, of at most limit bytes, and makes up its manifest.
func newSaved(ctx context.Context, p place, img savedImage, limit int64) (*saved, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, name := range append([]string{img.Config}, img.Layers...) {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%s names the file %q, which is not below it", p.path("manifest.json"), name)
		}
	}
	config, err := readNamed(p, path.Clean(img.Config), "an image config", limit, "config-size")
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	id := hashOf(config)
	if _, hex := namedDigest(img.Config); hex != "" && hex != id.Hex {
		return nil, &DamagedError{v1.Hash{Algorithm: "sha256", Hex: hex}, fmt.Sprintf("config %s: its content has the digest %s", p.path(img.Config), id)}
	}
	var c v1.ConfigFile
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fmt.Errorf("config %s: %w", p.path(img.Config), err)
	}
	if have, want := len(c.RootFS.DiffIDs), len(img.Layers); have != want {
		return nil, fmt.Errorf("config %s: it lists %d diff_ids, manifest.json %d layers", p.path(img.Config), have, want)
	}
	m := &saved{place: p, id: id, held: map[v1.Hash][]byte{id: config}, files: map[v1.Hash]string{id: path.Clean(img.Config)}}
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(config)), Digest: id},
		Layers:        []v1.Descriptor{},
	}
	for n, diffID := range c.RootFS.DiffIDs {
		d := savedLayer(img.Layers[n], diffID)
		d.Size = p.size(path.Clean(img.Layers[n]))
		manifest.Layers = append(manifest.Layers, d)
		if _, ok := m.files[d.Digest]; !ok {
			m.files[d.Digest] = path.Clean(img.Layers[n])
		}
	}
	if err := m.hold(manifest); err != nil {
		return nil, err
	}
	if c.OS != "" && c.Architecture != "" {
		m.desc.Platform = &v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
	}
	return m, nil
}

// savedLayer describes a layer by its file's name, but for the size.
func savedLayer(name string, diffID v1.Hash) v1.Descriptor {
	d := v1.Descriptor{MediaType: types.OCIUncompressedLayer, Digest: diffID}
	ending, hex := namedDigest(name)
	if hex == "" || hex == diffID.Hex {
		return d
	}
	switch {
	case strings.HasSuffix(ending, ".zst"):
		d.MediaType = types.OCILayerZStd
	case strings.HasSuffix(ending, "gz"), path.Base(path.Dir(name)) == "sha256":
		d.MediaType = types.OCILayer
	default: // a name like any other
		return d
	}
	d.Digest = v1.Hash{Algorithm: "sha256", Hex: hex}
	return d
}

// hold makes manifest the one that stands for the image.
func (m *saved) hold(manifest v1.Manifest) error {
	raw, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	m.desc = v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(raw)), Digest: hashOf(raw), Platform: m.desc.Platform}
	m.held[m.desc.Digest] = raw
	return nil
}

func hashOf(b []byte) v1.Hash {
	h, _, _ := v1.SHA256(bytes.NewReader(b)) // reading memory does not fail
	return h
}

func (m *saved) form() string                { return "docker save" }
func (m *saved) in() place                   { return m.place }
func (m *saved) file(d v1.Descriptor) string { return m.files[d.Digest] }

// open gives a layer as its digest has it: a tar that is stored compressed is
// decompressed, and of unknown size.
func (m *saved) open(d v1.Descriptor) (io.ReadCloser, error) {
	if raw, ok := m.held[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	name, ok := m.files[d.Digest]
	if !ok {
		return nil, &MissingError{Dir: m.dir(), Blobs: []MissingBlob{{Digest: d.Digest.String(), Path: m.dir(), Size: d.Size}}}
	}
	if d.MediaType != types.OCIUncompressedLayer {
		return openBlob(m.place, name, d)
	}
	f, size, err := m.place.open(name)
	var missing *MissingError
	if errors.As(err, &missing) {
		missing.Blobs[0].Digest = d.Digest.String()
		return nil, missing
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s in %s: %w", d.Digest, m.dir(), err)
	}
	head := bufio.NewReader(f)
	first, err := head.Peek(4)
	if err != nil && err != io.EOF {
		f.Close()
		return nil, fmt.Errorf("blob %s in %s: %w", d.Digest, m.dir(), err)
	}
	r := readCloser{head, f}
	if compression(first) != plain {
		plain, err := inflate(r)
		if err != nil {
			return nil, fmt.Errorf("blob %s in %s: %w", d.Digest, m.dir(), err)
		}
		return unmeasured{plain}, nil
	}
	if size != d.Size {
		return unmeasured{r}, nil
	}
	return r, nil
}

// where names the file of a layer, which is seldom called by its digest.
func (m *saved) where(d v1.Descriptor) string {
	if name, ok := m.files[d.Digest]; ok && !strings.Contains(name, d.Digest.Hex) {
		return m.path(name)
	}
	return m.dir()
}

// check opens the file of the layer, as [checkBlob] does.
func (m *saved) check(d v1.Descriptor) error { return checkBlob(m, d) }

// readCloser is a reader and what closes it.
type readCloser struct {
	io.Reader
	io.Closer
}

// unmeasured is a blob whose size nobody vouches for: its digest alone tells.
type unmeasured struct{ io.ReadCloser }

// Measured is i with a manifest that holds the true sizes of its layers. Only
// layers of a docker save that are stored compressed under a name that tells
// nothing are read for it, and verified; any other image is returned as it is.
// Whoever writes the manifest somewhere else needs it.
func (i *Image) Measured(ctx context.Context) (*Image, error) {
	m, ok := stored(i.medium).(*saved)
	if !ok {
		return i, nil
	}
	manifest := i.manifest.DeepCopy()
	for n, l := range i.layers {
		src, err := m.open(l.desc)
		if err != nil {
			return nil, err
		}
		if _, unknown := src.(unmeasured); !unknown {
			src.Close()
			continue
		}
		v := newVerifier(src, l.desc, m.where(l.desc))
		size, err := io.Copy(io.Discard, contextReader{ctx, v})
		if err := errors.Join(err, v.Close()); err != nil {
			return nil, err
		}
		manifest.Layers[n].Size = size
	}
	if slices.EqualFunc(manifest.Layers, i.manifest.Layers, func(a, b v1.Descriptor) bool { return a.Size == b.Size }) {
		return i, nil
	}
	other := *m
	other.held = maps.Clone(m.held)
	if err := other.hold(*manifest); err != nil {
		return nil, err
	}
	measured := *i
	measured.medium, measured.manifest, measured.layers = &other, manifest, nil
	measured.raw, measured.digest = other.held[other.desc.Digest], other.desc.Digest
	for n, l := range i.layers {
		measured.layers = append(measured.layers, &blobLayer{&other, manifest.Layers[n], l.diffID})
	}
	return &measured, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
