package registry

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/internal/lazy"
)

// Scheme begins every reference to a registry.
const Scheme = "docker://"

// Reference is what a docker:// reference names.
type Reference struct {
	Repository name.Repository
	Tag        string  // as named; "latest" where neither tag nor digest is; else empty
	Digest     v1.Hash // of an index, a manifest or a blob; the zero value where none is named
	Recipe     bool    // in the form of a build recipe, with parameters after semicolons
}

// The grammar of github.com/distribution/reference; go-containerregistry lets "../" pass. A start pays for no
// expression that it does not use.
var (
	pathSyntax = lazy.Regexp(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagSyntax  = lazy.Regexp(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	hostSyntax = lazy.Regexp(`^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`)
)

// maxTag is how long a tag may be.
const maxTag = 128

func isTag(s string) bool { return len(s) <= maxTag && tagSyntax().MatchString(s) }

// Parse reads docker://[HOST/]NAME[:TAG][@sha256:HEX], or the form of build
// recipes, docker://[HOST/]NAME[;digest=sha256:HEX][;tag=TAG]. A name without
// a host is Docker Hub's.
func Parse(s string) (Reference, error) {
	r, err := parse(s)
	if err != nil {
		return Reference{}, fmt.Errorf("%s: %w", s, err)
	}
	return r, nil
}

func parse(s string) (Reference, error) {
	rest, ok := strings.CutPrefix(s, Scheme)
	if !ok {
		return Reference{}, fmt.Errorf("not a registry reference, which begins with %s", Scheme)
	}
	parts := strings.Split(rest, ";")
	var r Reference
	r.Recipe = len(parts) > 1
	path, digest, pinned := strings.Cut(parts[0], "@")
	if pinned {
		if err := r.pin(digest); err != nil {
			return r, err
		}
	}
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		r.Tag, path = path[i+1:], path[:i]
		if !isTag(r.Tag) {
			return r, fmt.Errorf("%q is not a tag", r.Tag)
		}
	}
	for _, p := range parts[1:] {
		if p == "" {
			continue
		}
		key, value, _ := strings.Cut(p, "=")
		switch key {
		case "digest":
			if err := r.pin(value); err != nil {
				return r, err
			}
		case "tag":
			if !isTag(value) {
				return r, fmt.Errorf("%q is not a tag", value)
			}
			if r.Tag != "" && r.Tag != value {
				return r, fmt.Errorf("it names two tags, %s and %s", r.Tag, value)
			}
			r.Tag = value
		default:
			return r, fmt.Errorf("unknown parameter %q; there are digest= and tag=", key)
		}
	}
	if r.Tag == "" && !r.Pinned() {
		r.Tag = "latest"
	}
	var err error
	r.Repository, err = repository(path)
	return r, err
}

// repository reads [HOST/]NAME.
func repository(path string) (name.Repository, error) {
	repo, err := name.NewRepository(path)
	if err != nil {
		if lower := strings.ToLower(path); lower != path {
			return repo, &hinted{fmt.Errorf("%q is not a name: names are in lower case", path), Scheme + lower}
		}
		return repo, fmt.Errorf("%q is not a name", path)
	}
	if !pathSyntax().MatchString(repo.RepositoryStr()) {
		return repo, fmt.Errorf("%q is not a name", repo.RepositoryStr())
	}
	if !hostSyntax().MatchString(repo.RegistryStr()) {
		return repo, fmt.Errorf("%q is not a host", repo.RegistryStr())
	}
	return repo, nil
}

func (r *Reference) pin(digest string) error {
	h, err := v1.NewHash(digest)
	if err == nil && h.Algorithm != "sha256" {
		err = fmt.Errorf("only sha256 is supported")
	}
	if err != nil {
		return fmt.Errorf("digest %q: %w", digest, err)
	}
	if r.Pinned() && r.Digest != h {
		return fmt.Errorf("it names two digests, %s and %s", r.Digest, h)
	}
	r.Digest = h
	return nil
}

// Pinned reports whether a digest is named, so that all who have it mean the same.
func (r Reference) Pinned() bool { return r.Digest != v1.Hash{} }

// Name is what to ask the registry for: the digest where there is one, else the tag.
func (r Reference) Name() name.Reference {
	if r.Pinned() {
		return r.Repository.Digest(r.Digest.String())
	}
	return r.Repository.Tag(r.Tag)
}

// path is [HOST/]NAME under the name of the registry that users know.
func (r Reference) path() string {
	return hostName(r.Repository.RegistryStr()) + "/" + r.Repository.RepositoryStr()
}

// String is the whole name in the form that skopeo reads too, which takes
// either a tag or a digest: the digest where there is one.
func (r Reference) String() string {
	if r.Pinned() {
		return Scheme + r.path() + "@" + r.Digest.String()
	}
	return Scheme + r.path() + ":" + r.Tag
}

// PinTo is the line of a build recipe that names digest, and the tag where r has one.
func (r Reference) PinTo(digest v1.Hash) string {
	line := Scheme + r.path() + ";digest=" + digest.String()
	if r.Tag != "" {
		line += ";tag=" + r.Tag
	}
	return line
}
