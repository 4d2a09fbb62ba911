package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types that go-containerregistry has no name for.
const (
	ociRestrictedLayerZstd types.MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
	dockerLayerZstd        types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"
)

// ociType gives the OCI name of a media type; what Docker did not name stays.
func ociType(t types.MediaType) types.MediaType {
	switch t {
	case types.DockerManifestList:
		return types.OCIImageIndex
	case types.DockerManifestSchema2:
		return types.OCIManifestSchema1
	case types.DockerConfigJSON:
		return types.OCIConfigJSON
	case types.DockerLayer:
		return types.OCILayer
	case types.DockerUncompressedLayer:
		return types.OCIUncompressedLayer
	case types.DockerForeignLayer:
		return types.OCIRestrictedLayer
	case dockerLayerZstd:
		return types.OCILayerZStd
	}
	return t
}

// isLayer says whether a layer of this OCI type is a tar of a file system that
// dlrun can read.
func isLayer(t types.MediaType) bool {
	switch t {
	case types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer,
		types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer, ociRestrictedLayerZstd:
		return true
	}
	return false
}

// documentType says by its content whether raw is an index or a manifest, in
// OCI terms. It refuses a document that could be read as both, and one that
// its own media type or that of its descriptor contradicts: then two readers
// may see two images behind one digest (CVE-2021-41190).
func documentType(raw []byte, declared types.MediaType) (types.MediaType, error) {
	var doc struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Config        json.RawMessage `json:"config"`
		Layers        json.RawMessage `json:"layers"`
	}
	if err := unmarshal(raw, &doc); err != nil {
		return "", err
	}
	switch doc.SchemaVersion {
	case 2:
	case 1:
		return "", errors.New("schemaVersion is 1: it is of the time before OCI and Docker 1.10, and has no image id; pulled and pushed by a Docker of 2016 to 2024 it becomes version 2")
	default:
		return "", fmt.Errorf("schemaVersion is %d, want 2", doc.SchemaVersion)
	}
	var actual types.MediaType
	switch isIndex, isManifest := doc.Manifests != nil, doc.Config != nil || doc.Layers != nil; {
	case isIndex && isManifest:
		return "", fmt.Errorf("it has the fields of an index and of a manifest")
	case isIndex:
		actual = types.OCIImageIndex
	case isManifest:
		actual = types.OCIManifestSchema1
	default:
		return "", fmt.Errorf("it is neither an image index nor an image manifest")
	}
	for _, said := range []types.MediaType{doc.MediaType, declared} {
		if said != "" && ociType(said) != actual {
			return "", fmt.Errorf("its media type is %s, its content that of %s", said, actual)
		}
	}
	return actual, nil
}

// unmarshal is json.Unmarshal with errors for those who know JSON, and not Go.
func unmarshal(raw []byte, to any) error {
	err := json.Unmarshal(raw, to)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case len(bytes.TrimSpace(raw)) == 0:
		return errors.New("it is empty")
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON: %w", syntax)
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("it is not a JSON object, but %s", kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("its field %s is of the wrong kind: %s", kind.Field, kind.Value)
	}
	return fmt.Errorf("a digest in it is none: %w", err) // the types of v1 that read themselves are digests
}

// parseIndex reads the entries of an index whose descriptor declares a type,
// or empty for index.json, which has no descriptor.
func parseIndex(raw []byte, declared types.MediaType) ([]v1.Descriptor, error) {
	t, err := documentType(raw, declared)
	if err != nil {
		return nil, err
	}
	if t != types.OCIImageIndex {
		return nil, fmt.Errorf("it is an image manifest, not an image index")
	}
	var index v1.IndexManifest
	if err := unmarshal(raw, &index); err != nil {
		return nil, err
	}
	return index.Manifests, nil
}

// parseManifest reads a manifest and gives it in OCI terms, beside the media
// type that the file itself goes by.
func parseManifest(raw []byte, declared types.MediaType) (*v1.Manifest, types.MediaType, error) {
	t, err := documentType(raw, declared)
	if err != nil {
		return nil, "", err
	}
	if t != types.OCIManifestSchema1 {
		return nil, "", fmt.Errorf("it is an image index, not an image manifest")
	}
	var m v1.Manifest
	if err := unmarshal(raw, &m); err != nil {
		return nil, "", err
	}
	own := m.MediaType
	if own == "" {
		own = declared
	}
	if own == "" {
		own = t
	}
	m.MediaType = t
	if m.Config.MediaType = ociType(m.Config.MediaType); m.Config.MediaType != types.OCIConfigJSON {
		return nil, "", fmt.Errorf("it is not a container image: its config is of type %q", m.Config.MediaType)
	}
	for i := range m.Layers {
		l := &m.Layers[i]
		if l.MediaType = ociType(l.MediaType); !isLayer(l.MediaType) {
			return nil, "", fmt.Errorf("layer %d is of type %q, which is not supported", i+1, l.MediaType)
		}
		if err := checkDescriptor(*l); err != nil {
			return nil, "", fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	return &m, own, nil
}

// checkDescriptor refuses what no blob can be found by. Hashes are parsed to
// lower-case hex of the right length before; one left out is the zero value.
func checkDescriptor(d v1.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("blob %s: size %d is negative", d.Digest, d.Size)
	}
	return nil
}

func checkDigest(h v1.Hash) error {
	switch h.Algorithm {
	case "sha256":
		return nil
	case "":
		return fmt.Errorf("the digest is missing")
	}
	return fmt.Errorf("digest %s: only sha256 is supported", h)
}
