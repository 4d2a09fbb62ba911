package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/internal/annex/special"
	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/layout/registry"
)

// locator finds the blobs of an image in registries.
type locator struct {
	client *registry.Client
	images map[string][]remoteImage // by source: what the registry has under that name
	public map[string]bool          // by repository: it wants no token
}

func newLocator(client *registry.Client) *locator {
	return &locator{client, map[string][]remoteImage{}, map[string]bool{}}
}

// remoteImage is an image as a registry has it.
type remoteImage struct {
	id     v1.Hash
	layers []v1.Hash
}

// tracked is a file of an image that is annexed.
type tracked struct {
	layout.File
	annexed annex.File
}

// found is where a file of an image can be had.
type found struct {
	tracked
	at  special.Location
	web string // where anyone can have it, or empty
}

// locate finds files of img in the repositories that sources name, in this order. A file that none has is in missing. An error
// means that a registry could not be asked.
func (l *locator) locate(ctx context.Context, img *layout.Image, files []tracked, sources []registry.Reference) (list []found, missing []tracked, err error) {
	id, err := img.ConfigName()
	if err != nil {
		return nil, nil, err
	}
	diffIDs, err := diffIDsOf(img)
	if err != nil {
		return nil, nil, err
	}
	var problems []error
	for _, f := range files {
		at, web, err := l.find(ctx, f.File, id, diffIDs, sources)
		switch {
		case err == nil:
			list = append(list, found{f, at, web})
		case errors.Is(err, registry.ErrAbsent):
			missing = append(missing, f)
		default:
			missing = append(missing, f)
			problems = append(problems, err)
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
	}
	return list, missing, errors.Join(problems...)
}

func diffIDsOf(img *layout.Image) ([]v1.Hash, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	return config.RootFS.DiffIDs, nil
}

// find asks one source after the other for a file: for the blob itself, then, where the file is a layer's tar, for the image of the
// same id, whose layer inflates to it.
func (l *locator) find(ctx context.Context, f layout.File, id v1.Hash, diffIDs []v1.Hash, sources []registry.Reference) (special.Location, string, error) {
	err := fmt.Errorf("%s: %w", f.Path, registry.ErrAbsent)
	for _, s := range sources {
		_, stat := l.client.Stat(ctx, s.Repository, f.Blob)
		if stat == nil {
			at := locationIn(s.Repository, f.Blob)
			return at, l.web(ctx, s.Repository, f.Blob), nil
		}
		if !errors.Is(stat, registry.ErrAbsent) {
			err = stat
			continue
		}
		if f.Blob != f.DiffID {
			continue
		}
		images, ask := l.imagesOf(ctx, s)
		if ask != nil && !errors.Is(ask, registry.ErrAbsent) {
			err = ask
		}
		for _, image := range images {
			n := slices.Index(diffIDs, f.DiffID)
			if image.id == id && n >= 0 && n < len(image.layers) {
				at := locationIn(s.Repository, image.layers[n])
				at.DiffID = f.DiffID.String()
				return at, "", nil
			}
		}
	}
	return special.Location{}, "", err
}

// locationIn is a blob in a repository, under the names that records have.
func locationIn(repo name.Repository, blob v1.Hash) special.Location {
	host := repo.RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	return special.Location{Host: host, Name: repo.RepositoryStr(), Digest: blob.String()}
}

// web is the URL of a blob where anyone can read it. One answer counts for all blobs of a repository.
func (l *locator) web(ctx context.Context, repo name.Repository, blob v1.Hash) string {
	open, known := l.public[repo.Name()]
	url, ok := "", false
	if !known || open {
		var err error
		if url, ok, err = l.client.Public(ctx, repo, blob); err != nil {
			return ""
		}
		l.public[repo.Name()] = ok
	}
	if !ok {
		return ""
	}
	return url
}

// imagesOf are the images that a registry has under a name: of several platforms, of one, or none.
func (l *locator) imagesOf(ctx context.Context, s registry.Reference) ([]remoteImage, error) {
	key := s.String()
	if images, ok := l.images[key]; ok {
		return images, nil
	}
	images, err := l.read(ctx, s.Name(), 0)
	if err == nil {
		l.images[key] = images
	}
	return images, err
}

func (l *locator) read(ctx context.Context, ref name.Reference, depth int) ([]remoteImage, error) {
	_, raw, err := l.client.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Manifests, Layers []v1.Descriptor
		Config            v1.Descriptor
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", ref, err)
	}
	if len(doc.Manifests) == 0 {
		image := remoteImage{id: doc.Config.Digest}
		for _, d := range doc.Layers {
			image.layers = append(image.layers, d.Digest)
		}
		return []remoteImage{image}, nil
	}
	const platforms = 32 // more than any image has
	var list []remoteImage
	for _, d := range doc.Manifests[:min(platforms, len(doc.Manifests))] {
		if depth == 0 && (d.MediaType.IsImage() || d.MediaType.IsIndex()) {
			images, err := l.read(ctx, ref.Context().Digest(d.Digest.String()), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, images...)
		}
	}
	return list, nil
}

// sourcesOf are the registries that may have img: what the user says, what the image says of itself, what is recorded for its
// files, and its names.
func sourcesOf(img *layout.Image, said string, files []tracked) ([]registry.Reference, error) {
	var list []registry.Reference
	add := func(text string) error {
		ref, err := registry.Parse(text)
		if err != nil {
			return err
		}
		known := slices.ContainsFunc(list, func(r registry.Reference) bool { return r.String() == ref.String() })
		if !known {
			list = append(list, ref)
		}
		return nil
	}
	if said != "" {
		if !strings.HasPrefix(said, registry.Scheme) {
			said = registry.Scheme + said
		}
		return list, add(said)
	}
	for _, source := range img.Sources() {
		_ = add(source) // also skopeo's other transports, which name no registry
	}
	for _, f := range files {
		for _, url := range f.annexed.URLs {
			if l, ok := special.ParseURL(url); ok {
				_ = add(registry.Scheme + l.Host + "/" + l.Name)
			}
		}
	}
	for _, name := range img.Names() {
		_ = add(registry.Scheme + name)
	}
	return list, nil
}
