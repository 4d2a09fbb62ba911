package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Pushed is what a layout was turned into at the registry.
type Pushed struct {
	Digest v1.Hash   // of the manifest or the index
	Layers []v1.Hash // of the last manifest
	Config v1.Hash
}

// Push puts the last entry of the layout at dir, with all below it, into the
// registry at addr as name:tag. With docker the documents have the media types
// of Docker, and so other digests than in the layout.
func Push(ctx context.Context, addr, name, tag, dir string, docker bool) (Pushed, error) {
	p := pusher{ctx: ctx, base: "http://" + addr + "/v2/" + name + "/", dir: dir, docker: docker}
	var index v1.IndexManifest
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err == nil {
		var d v1.Descriptor
		d, err = p.document(index.Manifests[len(index.Manifests)-1], tag)
		p.pushed.Digest = d.Digest
	}
	if err != nil {
		return p.pushed, fmt.Errorf("push %s: %w", dir, err)
	}
	return p.pushed, nil
}

type pusher struct {
	ctx       context.Context
	base, dir string
	docker    bool
	pushed    Pushed
}

func (p *pusher) blobFile(h v1.Hash) string { return filepath.Join(p.dir, "blobs", h.Algorithm, h.Hex) }

// document pushes an index or a manifest, after what it names, and returns its new descriptor.
func (p *pusher) document(d v1.Descriptor, reference string) (v1.Descriptor, error) {
	raw, err := os.ReadFile(p.blobFile(d.Digest))
	if err != nil {
		return d, err
	}
	if d.MediaType.IsIndex() {
		raw, err = p.index(raw)
	} else {
		raw, err = p.manifest(raw)
	}
	if err != nil {
		return d, err
	}
	d.MediaType = p.mediaType(d.MediaType)
	if d.Digest, d.Size, err = v1.SHA256(bytes.NewReader(raw)); err != nil {
		return d, err
	}
	if reference == "" {
		reference = d.Digest.String()
	}
	return d, p.put(p.base+"manifests/"+reference, string(d.MediaType), bytes.NewReader(raw), int64(len(raw)))
}

func (p *pusher) index(raw []byte) ([]byte, error) {
	var m v1.IndexManifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	for i, d := range m.Manifests {
		var err error
		if m.Manifests[i], err = p.document(d, ""); err != nil {
			return nil, err
		}
	}
	if !p.docker {
		return raw, nil
	}
	m.MediaType = p.mediaType(types.OCIImageIndex)
	return json.MarshalIndent(m, "", "   ")
}

func (p *pusher) manifest(raw []byte) ([]byte, error) {
	var m v1.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	p.pushed.Config, p.pushed.Layers = m.Config.Digest, nil
	blobs := []*v1.Descriptor{&m.Config}
	for i := range m.Layers {
		blobs = append(blobs, &m.Layers[i])
		p.pushed.Layers = append(p.pushed.Layers, m.Layers[i].Digest)
	}
	for _, d := range blobs {
		if err := p.blob(*d); err != nil {
			return nil, err
		}
		d.MediaType = p.mediaType(d.MediaType)
	}
	if !p.docker {
		return raw, nil
	}
	m.MediaType = p.mediaType(types.OCIManifestSchema1)
	return json.MarshalIndent(m, "", "   ") // as docker indents
}

func (p *pusher) blob(d v1.Descriptor) error {
	f, err := os.Open(p.blobFile(d.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	resp, err := p.do(http.MethodPost, p.base+"blobs/uploads/", "", http.NoBody, 0)
	if err != nil {
		return err
	}
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", d.Digest.String())
	to.RawQuery = query.Encode()
	return p.put(to.String(), "application/octet-stream", f, d.Size)
}

func (p *pusher) put(to, mediaType string, body io.Reader, size int64) error {
	_, err := p.do(http.MethodPut, to, mediaType, body, size)
	return err
}

func (p *pusher) do(method, to, mediaType string, body io.Reader, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(p.ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, to, resp.Status, strings.TrimSpace(string(said)))
	}
	return resp, nil
}

// mediaType is Docker's name of a type where that is wanted.
func (p *pusher) mediaType(t types.MediaType) types.MediaType {
	if !p.docker {
		return t
	}
	switch t {
	case types.OCIImageIndex:
		return types.DockerManifestList
	case types.OCIManifestSchema1:
		return types.DockerManifestSchema2
	case types.OCIConfigJSON:
		return types.DockerConfigJSON
	case types.OCILayer:
		return types.DockerLayer
	}
	return t
}
