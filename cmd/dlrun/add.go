package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/layout/registry"
)

// newAdd is the verb that puts an image into a dataset: fetched, tracked, recorded and registered in one commit.
func newAdd() *cobra.Command {
	a := &adding{}
	c := &cobra.Command{
		Use:   "add [FLAGS] NAME SRC",
		Short: "Put an image into a DataLad dataset, ready for datalad containers-run -n NAME",
		Long: `add fetches SRC into the dataset, tracks it, records which registry has its layers, and
registers it with datalad-container under NAME, in one commit. Said twice it does nothing
more. When it fails, the dataset is as before.

SRC is what dlrun save takes. Where it is an image that the dataset tracks already, nothing
is fetched: it is recorded and registered as it is. One that ran through DataLad's docker
adapter keeps its meaning: ENTRYPOINT, and the caller's directory at /tmp.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := fillFlags(c.Flags(), configFiles()); err != nil {
				return err
			}
			a.name, a.src = args[0], args[1]
			a.saysRun, a.saysLazy = c.Flags().Changed("run"), c.Flags().Changed("lazy")
			return a.run(c.Context())
		},
	}
	fs := c.Flags()
	fs.StringVarP(&a.dataset, "dataset", "d", ".", "the dataset that holds `DIR`")
	fs.BoolVar(&a.update, "update", false, "replace what is registered under NAME")
	fs.BoolVar(&a.noLayers, "no-layers", false, "download no layer: clones, and this dataset, get them when they are needed")
	fs.BoolVar(&a.lazy, "lazy", false, "register index.json: datalad gets no layer, dlrun those that its store lacks")
	fs.BoolVar(&a.asRun, "run", false, "register the form that goes through the image's ENTRYPOINT")
	a.image.register(fs)
	a.get.register(fs)
	a.store.register(fs)
	a.speech.register(fs)
	return c
}

type adding struct {
	name, src, dataset            string
	update, noLayers, lazy, asRun bool
	saysRun, saysLazy             bool // --run and --lazy are given, as true or false
	image                         imageFlags
	get                           getFlags
	store                         storeFlags
	speech                        speechFlags

	ds   *annex.Dataset
	had  annex.Container // what is registered under the name
	path string          // of the image, relative to the root of the dataset
	own  bool            // SRC is this image, tracked already
}

func (a *adding) run(ctx context.Context) error {
	programs, remove, err := remotePrograms()
	if err != nil {
		return err
	}
	defer remove()
	if a.ds, err = annex.OpenDataset(ctx, a.dataset, programs); err != nil {
		return err
	}
	unlock, err := a.ds.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if image, err := a.ds.Recover(ctx); err != nil {
		return fmt.Errorf("undo an earlier add, which was killed: %w", err)
	} else if image != "" {
		note(a.speech.quiet, "an earlier add, which was killed, is undone in %s", image)
	}
	if a.had, err = a.ds.Container(ctx, a.name); err != nil {
		return err
	}
	if err := a.place(ctx); err != nil {
		return err
	}
	fetch, err := a.wanted(ctx)
	if err != nil {
		return err
	}
	change, err := a.ds.Begin(ctx, a.path)
	if err != nil {
		return err
	}
	if err := a.change(ctx, change, fetch); err != nil {
		return errors.Join(err, undo(ctx, func() error { return change.Undo(ctx) }))
	}
	return nil
}

// place decides where the image lies, or is to lie.
func (a *adding) place(ctx context.Context) error {
	if rel, ok := a.ds.Rel(strings.TrimSuffix(a.src, "/index.json")); ok && rel != "." {
		tracked, err := a.ds.Tracked(ctx, rel)
		if err != nil {
			return err
		}
		if tracked {
			a.path, a.own = rel, true
			return nil
		}
	}
	if a.had.Image != "" {
		a.path = strings.TrimSuffix(a.had.Image, "/index.json")
		return nil
	}
	var err error
	a.path, err = a.ds.ImagePath(ctx, a.name)
	return err
}

// wanted reports whether SRC is to be fetched, and refuses to replace what is there without being told to.
func (a *adding) wanted(ctx context.Context) (fetch bool, err error) {
	dir := filepath.Join(a.ds.Root, a.path)
	if a.had.Image != "" && !a.update {
		same := a.own && strings.TrimSuffix(a.had.Image, "/index.json") == a.path
		if !a.own {
			same = a.isThere(ctx, dir)
		}
		if !same {
			return false, &usageError{
				fmt.Sprintf("the container %s exists, and is not %s", a.name, a.src),
				fmt.Sprintf("dlrun add --update %s %s replaces it", a.name, a.src),
			}
		}
		return false, nil
	}
	if a.own {
		return false, nil
	}
	if a.had.Image == "" {
		if _, err := os.Lstat(dir); err == nil {
			return false, &usageError{dir + " exists, but is no container", fmt.Sprintf("rm -r %s; or, to keep it: datalad save %[1]s && dlrun add %s %[1]s", dir, a.name)}
		}
	}
	return true, nil
}

// isThere reports whether the image in dir is what SRC names, as far as that can be told without the network: by the source
// that it names, or, of an image on disk, by its id.
func (a *adding) isThere(ctx context.Context, dir string) bool {
	pick, err := a.image.options()
	if err != nil {
		return false
	}
	there, err := layout.Open(ctx, dir, layout.Options{Platform: pick.Platform})
	if err != nil {
		return false
	}
	if strings.HasPrefix(a.src, registry.Scheme) {
		want, err := registry.Parse(a.src)
		return err == nil && slices.ContainsFunc(there.Sources(), func(source string) bool {
			have, err := registry.Parse(source)
			return err == nil && sameImage(have, want)
		})
	}
	given, err := layout.Open(ctx, a.src, pick)
	if err != nil {
		return false
	}
	id, err := there.ConfigName()
	other, otherErr := given.ConfigName()
	return err == nil && otherErr == nil && id == other
}

// sameImage compares a source that was recorded, which may be pinned, with one that is given, which need not be.
func sameImage(have, want registry.Reference) bool {
	if have.Repository != want.Repository {
		return false
	}
	if want.Pinned() {
		return have.Digest == want.Digest
	}
	return have.Tag == want.Tag
}

// fetch saves SRC in dir. Layers that git-annex has already, of another image or of an older one, are not fetched again.
func (a *adding) fetch(ctx context.Context, dir string) error {
	if a.noLayers && !layout.IsRemote(a.src) {
		return &usageError{"--no-layers: " + a.src + " is not at a registry, so nobody could get its layers later", ""}
	}
	bar := newTransfer(a.speech.quiet)
	bar.quiet = bar.quiet || !bar.terminal // three lines are to tell what was done
	s := &save{image: a.image, get: a.get, store: a.store, speech: a.speech}
	s.options = layout.SaveOptions{Update: a.had.Image != "", NoLayers: a.noLayers}
	_, err := s.fetch(ctx, a.src, dir, bar)
	return err
}

// change does all that is to be one commit.
func (a *adding) change(ctx context.Context, change *annex.Change, fetch bool) error {
	dir := filepath.Join(a.ds.Root, a.path)
	if fetch {
		if err := a.fetch(ctx, dir); err != nil {
			return err
		}
	}
	pick, err := a.image.options()
	if err != nil {
		return err
	}
	if !a.own {
		pick = layout.Options{Platform: pick.Platform} // what was picked is all that there is
	}
	img, err := layout.Open(ctx, dir, pick)
	if err != nil {
		return err
	}
	if fetch {
		layers, err := a.layers(img)
		if err != nil {
			return err
		}
		if err := change.Track(ctx, layers); err != nil {
			return err
		}
	}
	moved := 0
	if a.own {
		if moved, err = change.SmallToGit(ctx); err != nil {
			return err
		}
	}
	at, err := a.record(ctx, img)
	if err != nil {
		return err
	}
	container := annex.Container{Name: a.name, Image: a.path, Format: a.format()}
	if a.lazy || !a.saysLazy && strings.HasSuffix(a.had.Image, "/index.json") {
		container.Image += "/index.json"
	}
	if a.had.Image != "" && !a.update && !adapterOptions.MatchString(a.had.Format) && container != a.had {
		return &usageError{
			fmt.Sprintf("the container %s is registered as %s, called by %q", a.name, a.had.Image, a.had.Format),
			fmt.Sprintf("dlrun add --update … %s %s registers it in the form that is asked for", a.name, a.src),
		}
	}
	if err := change.Register(ctx, container); err != nil {
		return err
	}
	verb := "add"
	if a.had.Image != "" {
		verb = "update"
	}
	changed, err := change.Commit(ctx, fmt.Sprintf("%s container %s: %s", verb, a.name, a.src))
	if err != nil {
		return err
	}
	return a.tell(img, container, changed, moved, at)
}

// layers are the files of the image that git-annex is to have: all large ones but documents, and the layers that are not here.
func (a *adding) layers(img *layout.Image) ([]annex.Layer, error) {
	dir := filepath.Join(a.ds.Root, a.path)
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	var list []annex.Layer
	known := map[string]bool{digest.Hex: true}
	for _, f := range img.Files() {
		known[f.Blob.Hex] = true
		if f.DiffID.Hex != "" {
			list = append(list, annex.Layer{Path: filepath.Join(a.path, "blobs/sha256", f.Blob.Hex), Digest: f.Blob.String(), Size: f.Size})
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "blobs/sha256"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if !known[e.Name()] && info.Mode().IsRegular() {
			list = append(list, annex.Layer{Path: filepath.Join(a.path, "blobs/sha256", e.Name()), Digest: "sha256:" + e.Name(), Size: info.Size()})
		}
	}
	return list, nil
}

// record records where the layers are, and returns the repositories. An image that was just fetched is not asked for again; of
// one that was there already the registry need not be reachable.
func (a *adding) record(ctx context.Context, img *layout.Image) (at string, err error) {
	files, err := trackedFiles(ctx, a.ds, img)
	if err != nil || len(files) == 0 {
		return "", err
	}
	sources, err := sourcesOf(img, "", files)
	if err != nil || len(sources) == 0 {
		return "", err
	}
	options, err := a.get.registry.options()
	if err != nil {
		return "", err
	}
	client, err := registry.New(options)
	if err != nil {
		return "", err
	}
	places, missing, problem := newLocator(client).locate(ctx, img, files, sources)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if problem = unlinked(a.path, missing, problem); problem != nil {
		if a.noLayers {
			return "", problem
		}
		note(a.speech.quiet, "not recorded: %v", problem)
	}
	if _, err := recordPlaces(ctx, a.ds, places); err != nil {
		return "", err
	}
	return hostsOf(places), nil
}

// adapterOptions are what a call format gives to the docker adapter between its verb and the image.
var adapterOptions = regexp.MustCompile(regexp.QuoteMeta(dockerAdapter) + `((?: +--(?:repo-tag|config)[= ]+[^ ]+)*) +{img}`)

// format is the call format. It names dlrun by nothing but its name: it becomes part of every record.
func (a *adding) format() string {
	words := []string{"dlrun"}
	adapter := adapterOptions.FindStringSubmatch(a.had.Format)
	if a.own && adapter != nil {
		words = append(words, "run", "--workdir-as", "/tmp")
		words = append(words, strings.Fields(adapter[1])...)
	} else if a.asRun {
		words = append(words, "run")
	} else if strings.HasPrefix(a.had.Format, "dlrun ") && !a.saysRun && a.image.tag+a.image.repoTag+a.image.config == "" {
		return a.had.Format // --update replaces the image, and --run=false the form
	}
	if a.own && adapter == nil {
		for _, pick := range [][2]string{{"--tag", a.image.tag}, {"--repo-tag", a.image.repoTag}, {"--config", a.image.config}} {
			if pick[1] != "" {
				words = append(words, pick[0], pick[1])
			}
		}
	}
	img := "{img}"
	if strings.ContainsAny(a.path, " \t") {
		img = "'{img}'"
	}
	return strings.Join(append(words, img, "--", "{cmd}"), " ")
}

// tell says in three lines what was done.
func (a *adding) tell(img *layout.Image, c annex.Container, changed bool, moved int, at string) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	var size int64
	n := 0
	for _, f := range img.Files() {
		if f.DiffID.Hex != "" {
			size, n = size+f.Size, n+1
		}
	}
	verb := "unchanged"
	if changed {
		verb = "added"
		if a.had.Image != "" {
			verb = "updated"
		}
	}
	say := func(format string, args ...any) { note(a.speech.quiet, format, args...) }
	layers := "1 layer"
	if n != 1 {
		layers = fmt.Sprintf("%d layers", n)
	}
	line := fmt.Sprintf("%s %s: image %.19s, %s (%s), in %s", verb, a.name, id, layers, bytesText(size), a.path)
	if moved > 0 {
		line += fmt.Sprintf("; %d small files went from the annex to git", moved)
	}
	say("%s", line)
	if at != "" {
		say("its layers can be fetched from %s, in every clone", at)
	} else {
		say("no registry is recorded for its layers: they are where this dataset is pushed to")
	}
	line = fmt.Sprintf("datalad containers-run -n %s CMD calls %q", a.name, c.Format)
	entry := strings.Join(config.Config.Entrypoint, " ")
	switch through := strings.HasPrefix(c.Format, "dlrun run "); {
	case entry != "" && through:
		line += fmt.Sprintf(", with CMD as arguments of the image's ENTRYPOINT (%s)", entry)
	case entry != "":
		line += fmt.Sprintf("; the image's ENTRYPOINT (%s) is not gone through: dlrun add --update --run %s %s", entry, a.name, a.src)
	}
	say("%s", line)
	return nil
}
