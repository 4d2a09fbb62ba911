package layout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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
}

// Open finds the image that ref names: DIR, an OCI layout; DIR/index.json;
// either followed by :TAG, @sha256:HEX or both, which mean the same as in
// Options. What exists as a path is taken as a path.
//
// Index, manifest and config are read and verified. Layers are not opened: see
// [Image.CheckLayers]. An error may have a method Hint() string, which is what
// to type next, or empty. Absent content is a [*MissingError].
func Open(ctx context.Context, ref string, o Options) (*Image, error) {
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
	return openIndexFile(ctx, name, q)
}

// openDir opens a directory by the form that it has.
func openDir(ctx context.Context, dir string, q query) (*Image, error) {
	join := strings.TrimRight(dir, "/") + "/"
	_, err := os.Lstat(join + "index.json")
	if err == nil {
		return openIndexFile(ctx, join+"index.json", q)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look for index.json: %w", err)
	}
	if _, err := os.Lstat(join + "manifest.json"); err == nil {
		return nil, fmt.Errorf("%s is a docker save directory (it has manifest.json, no index.json), which is not supported yet", dir)
	}
	return nil, fmt.Errorf("%s is not an OCI layout: it has no index.json", dir)
}

var digestSyntax = regexp.MustCompile(`^[a-z0-9]+([+._-][a-z0-9]+)*:`)

// splitRef cuts the tag and digest off a reference, as far as needed to find a
// path that exists; of several the longest. A tag may hold colons and slashes.
func splitRef(ref string, o Options) (string, Options, error) {
	_, notFound := os.Lstat(ref)
	if notFound == nil {
		return ref, o, nil
	}
	if strings.HasPrefix(ref, "docker://") {
		return "", o, fmt.Errorf("%s is a registry reference, which is not supported yet", ref)
	}
	name := ref
	if i := strings.LastIndexByte(ref, '@'); i > 0 && digestSyntax.MatchString(ref[i+1:]) {
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
	return "", o, fmt.Errorf("no image %q: looked for an OCI layout directory or its index.json: %w", ref, notFound)
}

// narrow sets an option that the reference names too.
func narrow(option *string, value, what string) error {
	if *option != "" && *option != value {
		return fmt.Errorf("the reference names the %s %s, the option %s", what, value, *option)
	}
	*option = value
	return nil
}
