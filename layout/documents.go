package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations of the entry of index.json in a layout that was saved, beside sourceName.
const (
	sourceManifest = "io.github.dlrun.source.manifest" // the digest of the manifest as the source has it, where it was translated
	sourceIndex    = "io.github.dlrun.source.index"    // the digest of the outermost index that it was found by
)

// What goes to git is read by clones before they get anything; what is in the
// annex has the digest for its key. -text keeps git from changing line ends,
// and so digests.
const gitAttributes = `* -text annex.largefiles=nothing
blobs/*/* annex.backend=SHA256 annex.largefiles=largerthan=64kb
`

// annexed is the size above which the attributes send a blob to the annex.
const annexed = 64000

// documents are the small files of a layout, and what it is to have besides.
type documents struct {
	entry  v1.Descriptor     // of index.json
	files  map[string][]byte // by path in the layout
	layers []v1.Descriptor   // each once, in the order of the manifest
}

// documents makes the files of a layout that holds the image alone.
func (i *Image) documents(ctx context.Context, name string) (*documents, error) {
	d := &documents{files: map[string][]byte{}}
	attributes := gitAttributes
	put := func(raw []byte) {
		h, size, _ := v1.SHA256(bytes.NewReader(raw))
		if size > annexed {
			attributes += blobName(h) + " annex.largefiles=nothing\n"
		}
		d.files[blobName(h)] = raw
	}
	notes := map[string]string{refName: i.tag}
	if i.tag == "" {
		notes[refName] = "latest" // umoci and podman know images in layouts by tags alone
	}
	for _, key := range []string{fullName, sourceName, sourceManifest, sourceIndex} {
		if v := i.notes[key]; v != "" {
			notes[key] = v
		}
	}
	if name != "" {
		notes[sourceName] = name
	}

	manifest, err := translate(i.raw, i.mediaType)
	if err != nil {
		return nil, err
	}
	put(manifest)
	put(i.rawConfig)
	d.entry = v1.Descriptor{
		MediaType: types.OCIManifestSchema1, Size: int64(len(manifest)), Annotations: notes,
		Platform: &v1.Platform{OS: i.config.OS, Architecture: i.config.Architecture, Variant: i.config.Variant},
	}
	if !known(d.entry.Platform) {
		d.entry.Platform = nil
	}
	if d.entry.Digest, _, err = v1.SHA256(bytes.NewReader(manifest)); err != nil {
		return nil, err
	}
	if d.entry.Digest != i.digest {
		notes[sourceManifest] = i.digest.String()
		put(i.raw)
	}
	for n, v := range i.via {
		raw, err := readBlob(ctx, i.medium, v, v.Size) // it has been read once, within the limits
		if err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		put(raw)
		if n == 0 {
			notes[sourceIndex] = v.Digest.String()
		}
	}
	if err := i.carryOver(put); err != nil {
		return nil, err
	}

	index, err := json.MarshalIndent(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d.entry},
	}, "", "  ")
	if err != nil {
		return nil, err
	}
	d.files["index.json"] = append(index, '\n')
	d.files["oci-layout"] = []byte(`{"imageLayoutVersion": "1.0.0"}` + "\n")
	d.files[".gitattributes"] = []byte(attributes)
	seen := map[v1.Hash]bool{i.manifest.Config.Digest: true}
	for _, l := range i.manifest.Layers {
		if !seen[l.Digest] {
			seen[l.Digest] = true
			d.layers = append(d.layers, l)
		}
	}
	return d, nil
}

// carryOver puts what an earlier save kept beside the image, as far as it is there.
func (i *Image) carryOver(put func([]byte)) error {
	seen := map[v1.Hash]bool{}
	var carry func(h v1.Hash, depth int)
	carry = func(h v1.Hash, depth int) {
		if seen[h] || depth > maxIndexDepth {
			return
		}
		seen[h] = true
		raw, err := readKept(i.medium, h, i.maxKept)
		if err != nil {
			return
		}
		put(raw)
		entries, err := parseIndex(raw, "")
		if err != nil {
			return // a manifest
		}
		for _, e := range entries {
			if ociType(e.MediaType) == types.OCIImageIndex {
				carry(e.Digest, depth+1)
			}
		}
	}
	for _, key := range []string{sourceManifest, sourceIndex} {
		if digest := i.notes[key]; digest != "" {
			h, err := v1.NewHash(digest)
			if err != nil {
				return fmt.Errorf("annotation %s: %w", key, err)
			}
			carry(h, 1)
		}
	}
	return nil
}

// translate gives a manifest under OCI's names; one that has them already stays as it is, to the byte.
func translate(raw []byte, mediaType types.MediaType) ([]byte, error) {
	m, own, err := parseManifest(raw, mediaType)
	if err != nil {
		return nil, err
	}
	stored := &v1.Manifest{}
	if err := json.Unmarshal(raw, stored); err != nil {
		return nil, err
	}
	same := own == types.OCIManifestSchema1 && stored.Config.MediaType == m.Config.MediaType
	for n, l := range m.Layers {
		same = same && stored.Layers[n].MediaType == l.MediaType
	}
	if same {
		return raw, nil
	}
	return json.Marshal(m)
}

// blobName is where a layout has a blob.
func blobName(h v1.Hash) string { return "blobs/sha256/" + h.Hex }

// readKept reads a document of at most max bytes that was saved beside an image, in a layout.
func readKept(m medium, h v1.Hash, max int64) ([]byte, error) {
	form, ok := stored(m).(ociForm)
	if !ok {
		return nil, fmt.Errorf("%s keeps no other documents", m.dir())
	}
	if err := checkDigest(h); err != nil {
		return nil, err
	}
	return readBlob(context.Background(), form, v1.Descriptor{Digest: h, Size: form.size(blobName(h))}, max)
}

// standsFor reports whether an entry of index.json is, under OCI's names, the
// manifest with the digest h, or one that the index with that digest names. The
// annotations only claim so; the documents kept beside it prove it.
func standsFor(m medium, e v1.Descriptor, h v1.Hash, max int64) (bool, error) {
	notes := e.Annotations
	if h == (v1.Hash{}) || notes[sourceManifest] != h.String() && notes[sourceIndex] != h.String() {
		return false, nil
	}
	original := e.Digest
	if digest := notes[sourceManifest]; digest != "" {
		var err error
		if original, err = v1.NewHash(digest); err != nil {
			return false, fmt.Errorf("annotation %s: %w", sourceManifest, err)
		}
		raw, err := readKept(m, original, max)
		if err != nil {
			return false, fmt.Errorf("read the original manifest: %w", err)
		}
		translated, err := translate(raw, "")
		if err != nil {
			return false, fmt.Errorf("original manifest %s in %s: %w", original, m.dir(), err)
		}
		if got, _, err := v1.SHA256(bytes.NewReader(translated)); err != nil || got != e.Digest {
			return false, fmt.Errorf("manifest %s in %s is not the one that it is said to be made from, %s", e.Digest, m.dir(), original)
		}
	}
	if original == h {
		return true, nil
	}
	found, err := indexNames(m, h, original, max, 1, map[v1.Hash]bool{})
	if err != nil {
		return false, fmt.Errorf("read the original index: %w", err)
	}
	if !found {
		return false, fmt.Errorf("index %s in %s does not name the manifest %s", h, m.dir(), original)
	}
	return true, nil
}

// indexNames reports whether an index that was kept names a manifest, itself or by an index that it names.
func indexNames(m medium, index, manifest v1.Hash, max int64, depth int, seen map[v1.Hash]bool) (bool, error) {
	if depth > maxIndexDepth || seen[index] {
		return false, nil
	}
	seen[index] = true
	raw, err := readKept(m, index, max)
	if err != nil {
		return false, err
	}
	entries, err := parseIndex(raw, "")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Digest == manifest {
			return true, nil
		}
	}
	for _, e := range entries {
		if ociType(e.MediaType) == types.OCIImageIndex {
			// Of the nested ones only that on the way to the image was kept.
			if found, err := indexNames(m, e.Digest, manifest, max, depth+1, seen); found && err == nil {
				return true, nil
			}
		}
	}
	return false, nil
}

// Pin is the line of a build recipe that names the image by its digest, and
// whether a digest was named when it was opened. It is empty for an image that
// is not of a registry.
func (i *Image) Pin() (line string, pinned bool) { return i.pin, i.pinned }
