package registry

import (
	"context"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Public returns the URL of a blob, and whether anyone can read it there who knows no more than HTTP: without a token, redirects
// followed. Mirrors do not count.
func (c *Client) Public(ctx context.Context, repo name.Repository, digest v1.Hash) (address string, ok bool, err error) {
	if err := checkDigest(digest); err != nil {
		return "", false, err
	}
	places := c.places(repo)
	p := places[len(places)-1]
	u := &url.URL{Scheme: c.scheme(ctx, p.host), Host: p.host.address, Path: "/v2/" + p.repo + "/blobs/" + digest.String()}
	a, err := c.follow(ctx, u, request{method: http.MethodHead})
	if err != nil {
		return "", false, err
	}
	defer a.body.Close()
	return u.String(), a.status == http.StatusOK && !isHTML(a.header.Get("Content-Type")), nil
}
