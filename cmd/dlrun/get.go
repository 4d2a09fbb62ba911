package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/pflag"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/layout/registry"
)

// annexPatience is how long git-annex may bring nothing before the registry is asked instead. A remote may have to wait for a
// tape, or for the user to touch a key.
const annexPatience = 2 * time.Minute

// getFlags say whether missing layers are fetched, and how registries are asked.
type getFlags struct {
	get      string
	update   bool
	registry registryFlags
}

func (f *getFlags) registerUpdate(fs *pflag.FlagSet) {
	fs.BoolVar(&f.update, "update", false, "ask the registry what the tag of docker://NAME:TAG means now")
}

func (f *getFlags) register(fs *pflag.FlagSet) {
	f.registry.register(fs)
	fs.StringVar(&f.get, "get", "auto", "missing layers: `auto` gets them (git-annex first, then the registry by digest), never")
}

// getter brings the blobs of one image that are missing. Nothing is asked of anyone while nothing is missing.
type getter struct {
	never    bool
	update   bool
	image    string // as the user names it
	speech   *speechFlags
	bar      *progress
	caches   []string
	client   func() (*registry.Client, error)
	programs func() (dir string, err error)

	mu     sync.Mutex
	said   map[string]bool
	remove []func()
}

func (f *getFlags) getter(image string, store *storeFlags, speech *speechFlags, bar *progress) (*getter, error) {
	if f.get != "auto" && f.get != "never" {
		return nil, &usageError{"--get " + f.get + ": want auto or never", ""}
	}
	g := &getter{never: f.get == "never", update: f.update, image: image, speech: speech, bar: bar, caches: store.cacheDirs(), said: map[string]bool{}}
	g.client = sync.OnceValues(func() (*registry.Client, error) {
		o, err := f.registry.options()
		if err != nil {
			return nil, err
		}
		o.Note = func(text string) { note(speech.quiet, "%s", text) }
		return registry.New(o)
	})
	g.programs = sync.OnceValues(func() (string, error) {
		dir, remove, err := remotePrograms()
		if err == nil {
			g.remove = append(g.remove, remove)
		}
		return dir, err
	})
	return g, nil
}

// close removes what the getter has made for git-annex.
func (g *getter) close() {
	for _, remove := range g.remove {
		remove()
	}
}

// open is layout.Open, with what is missing brought.
func (g *getter) open(ctx context.Context, ref string, o layout.Options) (*layout.Image, error) {
	o.Supply, o.Caches = g.supply, g.caches
	if layout.IsRemote(ref) && !g.never {
		var err error
		o.Update = g.update
		if o.Registry, err = g.client(); err != nil {
			return nil, err
		}
	}
	for tried := map[string]bool{}; ; {
		img, err := layout.Open(ctx, ref, o)
		var missing *layout.MissingError
		if g.never || !errors.As(err, &missing) {
			return img, err
		}
		// What has a digest was asked for by Open. What has none is what images begin with: index.json, an archive.
		first := missing.Blobs[0]
		if first.Digest != "" || first.Key == "" || tried[first.Key] {
			return nil, err
		}
		tried[first.Key] = true
		if problem := g.throughAnnex(ctx, first); problem != nil {
			return nil, errors.Join(err, problem)
		}
	}
}

// supply gets a blob: git-annex puts it where it was missed, a registry's goes straight to whoever reads it.
func (g *getter) supply(ctx context.Context, b layout.MissingBlob, d v1.Descriptor, sources []string) (io.ReadCloser, error) {
	if g.never {
		return nil, nil // and it is still missing
	}
	var problems []error
	if b.Key != "" {
		err := g.throughAnnex(ctx, b)
		if err == nil {
			return nil, nil
		}
		problems = append(problems, err)
	}
	for _, source := range sources {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r, err := g.fromRegistry(ctx, d, source)
		if err == nil {
			return r, nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

func (g *getter) throughAnnex(ctx context.Context, b layout.MissingBlob) error {
	programs, err := g.programs()
	if err != nil {
		return err
	}
	g.say("through git-annex")
	err = annex.Get(ctx, filepath.Dir(b.Path), programs, b.Key, annexPatience, g.bar.get)
	if err != nil {
		g.speech.step("not through git-annex: %v", err)
	}
	return err
}

func (g *getter) fromRegistry(ctx context.Context, d v1.Descriptor, source string) (io.ReadCloser, error) {
	ref, err := registry.Parse(source)
	if err != nil {
		return nil, fmt.Errorf("the image says that it comes from %w", err)
	}
	client, err := g.client()
	if err != nil {
		return nil, err
	}
	g.say("from " + ref.Repository.Name())
	if !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
		return client.Blob(ctx, ref.Repository, d, 0)
	}
	_, raw, err := client.Manifest(ctx, ref.Repository.Digest(d.Digest.String()))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// say tells once where missing layers come from.
func (g *getter) say(from string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.said[from] {
		g.said[from] = true
		note(g.speech.quiet, "getting what is missing of %s %s", g.image, from)
	}
}
