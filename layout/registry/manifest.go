package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// manifestTypes are what is asked for. A registry that has a manifest of Docker's first version alone says so.
var manifestTypes = []string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1), string(types.DockerManifestList), string(types.DockerManifestSchema2),
}

// Manifest reads the manifest or index that ref names, by tag or by digest. Its
// digest is that of the bytes; for a reference by digest it is the one asked
// for, or there is an error. The content is not looked into.
//
// The error is [ErrAbsent] when the registry does not have it.
func (c *Client) Manifest(ctx context.Context, ref name.Reference) (v1.Descriptor, []byte, error) {
	var d v1.Descriptor
	var raw []byte
	err := c.somewhere(ctx, ref.Context(), func(ctx context.Context, b *budget, p place) (err error) {
		d, raw, err = c.manifest(ctx, b, p, ref)
		return err
	})
	if err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("manifest of %s: %w", showName(ref), err)
	}
	return d, raw, nil
}

// somewhere does something with the mirrors of a repository, then with itself, until it succeeds.
func (c *Client) somewhere(ctx context.Context, repo name.Repository, do func(context.Context, *budget, place) error) error {
	for _, p := range c.places(repo) {
		err := do(ctx, c.budget(p), p)
		if err == nil || !p.mirror || ctx.Err() != nil {
			return err
		}
		c.passOver(p, err)
	}
	return nil // not reached: the last place is no mirror
}

// passOver says that a mirror is left alone. One that does not answer is not asked again.
func (c *Client) passOver(p place, err error) {
	var status *StatusError
	if !errors.As(err, &status) {
		c.bury(p)
	}
	if status == nil || !status.absent {
		c.opt.Note(fmt.Sprintf("the mirror %s is passed over: %v", p.host.name, err))
	}
}

func (c *Client) manifest(ctx context.Context, b *budget, p place, ref name.Reference) (v1.Descriptor, []byte, error) {
	q := question{http.MethodGet, p, "manifests/" + ref.Identifier(), http.Header{"Accept": {strings.Join(manifestTypes, ", ")}}}
	for {
		a, err := c.ask(ctx, b, q)
		if err != nil {
			return v1.Descriptor{}, nil, err
		}
		d, raw, err := readManifest(a, ref)
		if err == nil {
			return d, raw, nil
		}
		if err := b.again(ctx, err, 0); err != nil {
			return v1.Descriptor{}, nil, err
		}
	}
}

func readManifest(a *answer, ref name.Reference) (d v1.Descriptor, raw []byte, err error) {
	if a.status != http.StatusOK {
		return d, nil, permanent{newStatusError(a)}
	}
	defer a.body.Close()
	kind, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	shown := showURL(a.url)
	switch encoding := a.header.Get("Content-Encoding"); {
	case isHTML(kind):
		return d, nil, permanent{errPortal(a.url)}
	case encoding != "" && encoding != "identity":
		return d, nil, permanent{fmt.Errorf("%s: the answer is encoded (%s), which was not asked for", shown, oneLine(encoding))}
	case a.length > MaxManifest:
		return d, nil, permanent{fmt.Errorf("%s: %d bytes, at most %d are read", shown, a.length, MaxManifest)}
	}
	raw, err = io.ReadAll(io.LimitReader(a.body, MaxManifest+1))
	switch {
	case err != nil:
		return d, nil, fmt.Errorf("%s: %w", shown, err)
	case len(raw) > MaxManifest:
		return d, nil, permanent{fmt.Errorf("%s: more than %d bytes", shown, MaxManifest)}
	}
	if d.Digest, d.Size, err = v1.SHA256(bytes.NewReader(raw)); err != nil {
		return d, nil, permanent{err}
	}
	// A tag has no digest but the one that the registry tells beside it.
	wanted := a.header.Get("Docker-Content-Digest")
	if digest, ok := ref.(name.Digest); ok {
		wanted = digest.DigestStr()
	}
	if wanted != "" && wanted != d.Digest.String() {
		return d, nil, permanent{fmt.Errorf("%s: its content has the digest %s, not %s", shown, d.Digest, oneLine(wanted))}
	}
	d.MediaType = mediaType(strings.TrimSpace(kind), raw)
	return d, raw, nil
}

// mediaType is what the registry says, or where that says nothing, the document itself.
func mediaType(said string, raw []byte) types.MediaType {
	switch said {
	case "", "application/json", "application/octet-stream", "text/plain":
		var doc struct {
			MediaType types.MediaType `json:"mediaType"`
		}
		if json.Unmarshal(raw, &doc) != nil {
			return ""
		}
		return doc.MediaType
	}
	return types.MediaType(said)
}

// showName is a reference under the name of the registry that users know.
func showName(ref name.Reference) string {
	separator := ":"
	if _, ok := ref.(name.Digest); ok {
		separator = "@"
	}
	return showRepository(ref.Context()) + separator + ref.Identifier()
}

func showRepository(repo name.Repository) string {
	return hostName(repo.RegistryStr()) + "/" + repo.RepositoryStr()
}
