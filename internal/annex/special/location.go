package special

import (
	"fmt"
	"strings"

	"github.com/dlrun/dlrun/internal/lazy"
)

// Location is a place in a registry that holds the content of a key.
type Location struct {
	Host   string // the registry, with its port if it has one; docker.io for Docker Hub
	Name   string // the repository, without the registry
	Digest string // sha256:HEX of the blob
	DiffID string // sha256:HEX of the content where that is the inflated blob; empty: the content is the blob
	Plain  bool   // http is allowed, by the settings of the remote
}

// Scheme begins the URLs that only this remote can read.
const Scheme = "dlrun+docker://"

const (
	diffID = ";diff_id="

	hubName = "docker.io"            // in references and records
	hubHost = "registry-1.docker.io" // where its blobs are
)

var (
	hostSyntax   = `(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?`
	nameSyntax   = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*`
	digestSyntax = `sha256:[0-9a-f]{64}`

	ownURL    = lazy.Regexp(`^(?:dlrun\+)?docker://(` + hostSyntax + `)/(` + nameSyntax + `)@(` + digestSyntax + `)(?:;diff_id=(` + digestSyntax + `))?$`)
	blobURL   = lazy.Regexp(`^https?://(` + hostSyntax + `)/v2/(` + nameSyntax + `)/blobs/(` + digestSyntax + `)$`)
	hostAlone = lazy.Regexp(`^` + hostSyntax + `$`)
	nameAlone = lazy.Regexp(`^` + nameSyntax + `$`)
)

// ParseURL reads a URL that names a blob:
//
//	dlrun+docker://HOST/NAME@sha256:HEX                       what dlrun records
//	dlrun+docker://HOST/NAME@sha256:HEX;diff_id=sha256:HEX    the blob, inflated
//	docker://HOST/NAME@sha256:HEX
//	https://HOST/v2/NAME/blobs/sha256:HEX                     what others record; http as well
//
// The scheme of the last form does not decide how the registry is spoken to: see [Location.Plain].
func ParseURL(url string) (Location, bool) {
	if m := ownURL().FindStringSubmatch(url); m != nil {
		return Location{Host: canonicalHost(m[1]), Name: m[2], Digest: m[3], DiffID: m[4]}, true
	}
	if m := blobURL().FindStringSubmatch(url); m != nil {
		return Location{Host: canonicalHost(m[1]), Name: m[2], Digest: m[3]}, true
	}
	return Location{}, false
}

// canonicalHost gives Docker Hub the one name under which credentials for it are kept.
func canonicalHost(host string) string {
	switch host {
	case hubHost, "index.docker.io":
		return hubName
	}
	return host
}

// URL is what is recorded for a key: no other remote claims it.
func (l Location) URL() string {
	url := Scheme + l.Host + "/" + l.Name + "@" + l.Digest
	if l.DiffID != "" {
		url += diffID + l.DiffID
	}
	return url
}

// BlobURL is where the registry serves the blob itself, by the OCI distribution specification.
func (l Location) BlobURL() string {
	host := l.Host
	if host == hubName {
		host = hubHost
	}
	protocol := "https"
	if l.Plain {
		protocol = "http"
	}
	return fmt.Sprintf("%s://%s/v2/%s/blobs/%s", protocol, host, l.Name, l.Digest)
}

// String is the place as messages name it.
func (l Location) String() string { return l.Host + "/" + l.Name + "@" + l.Digest }

// content is the digest of what the key stands for.
func (l Location) content() string {
	if l.DiffID != "" {
		return l.DiffID
	}
	return l.Digest
}

// parseRepository reads HOST/NAME.
func parseRepository(s string) (host, name string, ok bool) {
	host, name, ok = strings.Cut(s, "/")
	if !ok || !hostAlone().MatchString(host) || !nameAlone().MatchString(name) {
		return "", "", false
	}
	return canonicalHost(host), name, true
}
