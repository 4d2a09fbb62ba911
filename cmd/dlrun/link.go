package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/internal/annex/special"
	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/layout/registry"
)

// newLink is the verb that records where the layers of a tracked image can be fetched.
func newLink() *cobra.Command {
	l := &link{}
	c := &cobra.Command{
		Use:   "link [FLAGS] DIR",
		Short: "Record the registry that has the layers of an image which a dataset tracks",
		Long: `link records, in the dataset that tracks the image DIR, which registry has its layers,
so that a clone can get them from there. Nothing is downloaded. What the registry does not
have is named, and the exit code is 125.

The registry is that of --source, else what the image says of itself, what is recorded for
its files, and its name. An image of docker save is matched by its id: its layers are the
inflated ones of the registry.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := fillFlags(c.Flags(), configFiles()); err != nil {
				return err
			}
			return l.run(c.Context(), args[0], c.OutOrStdout())
		},
	}
	l.image.register(c.Flags())
	c.Flags().StringVar(&l.source, "source", "", "the image at the registry, `docker://NAME`, where nothing tells")
	c.Flags().BoolVar(&l.check, "check", false, "ask the registries for all that is recorded, change nothing")
	l.registry.register(c.Flags())
	l.speech.register(c.Flags())
	return c
}

type link struct {
	image    imageFlags
	registry registryFlags
	speech   speechFlags
	source   string
	check    bool
}

func (l *link) run(ctx context.Context, ref string, out io.Writer) error {
	pick, err := l.image.options()
	if err != nil {
		return err
	}
	img, err := layout.Open(ctx, ref, pick)
	if err != nil {
		return err
	}
	if img.Files() == nil {
		return &usageError{ref + " is no directory: an archive is one file, whose layers git-annex does not know", "dlrun save " + ref + " DIR makes a layout of it"}
	}
	options, err := l.registry.options()
	if err != nil {
		return err
	}
	if l.check {
		return l.checkRecords(ctx, img, newBlobs(options), out)
	}
	programs, remove, err := remotePrograms()
	if err != nil {
		return err
	}
	defer remove()
	ds, err := annex.OpenDataset(ctx, img.Dir(), programs)
	if err != nil {
		return err
	}
	files, err := trackedFiles(ctx, ds, img)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		note(l.speech.quiet, "%s: nothing of it is annexed, so there is nothing to record", ref)
		return nil
	}
	sources, err := sourcesOf(img, l.source, files)
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return &usageError{"nothing tells which registry has " + ref, "dlrun link --source docker://NAME " + ref}
	}
	client, err := registry.New(options)
	if err != nil {
		return err
	}
	places, missing, problem := newLocator(client).locate(ctx, img, files, sources)
	if problem != nil && len(places) == 0 {
		return problem
	}
	if len(places) == 0 {
		return noSuchImage(ref, img, sources)
	}
	n, err := recordPlaces(ctx, ds, places)
	if err != nil {
		return err
	}
	note(l.speech.quiet, "%s: %d of %d annexed files can be fetched from %s (%d new)", ref, len(places), len(files), hostsOf(places), n)
	if names, err := annexedBeside(ctx, ds, img, files); err != nil {
		return err
	} else if len(names) > 0 {
		more := ""
		if len(names) > 1 {
			more = fmt.Sprintf(" and %d more", len(names)-1)
		}
		note(l.speech.quiet, "annexed too, and at no registry: %s%s; dlrun add NAME %s takes them into git, where clones have them", names[0], more, ref)
	}
	l.hintAtContainers(ctx, ds, img)
	return unlinked(ref, missing, problem)
}

// noSuchImage says what was looked for, and where.
func noSuchImage(ref string, img *layout.Image, sources []registry.Reference) error {
	var names []string
	for _, s := range sources {
		names = append(names, strings.TrimPrefix(s.String(), registry.Scheme))
	}
	id, _ := img.ConfigName()
	return &usageError{
		fmt.Sprintf("%s (image id %s) is not at %s", ref, id, strings.Join(names, ", ")), tagHint(ref),
	}
}

func tagHint(ref string) string {
	return "a tag may have moved on: dlrun link --source docker://NAME@sha256:… " + ref
}

// unlinked is the error that names the files which no registry has.
func unlinked(ref string, missing []tracked, problem error) error {
	if len(missing) == 0 {
		return problem
	}
	var names []string
	for _, f := range missing {
		names = append(names, f.Path)
	}
	return errors.Join(&usageError{"not found at the registry: " + strings.Join(names, ", "), tagHint(ref)}, problem)
}

// trackedFiles are the files of an image that are annexed. One that is not tracked at all is an error.
func trackedFiles(ctx context.Context, ds *annex.Dataset, img *layout.Image) ([]tracked, error) {
	dir, err := filepath.EvalSymlinks(img.Dir())
	if err != nil {
		return nil, err
	}
	rel, ok := ds.Rel(dir)
	if !ok {
		return nil, fmt.Errorf("%s is not in the dataset %s", img.Dir(), ds.Root)
	}
	known, err := ds.Tracked(ctx, rel)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, &usageError{img.Dir() + " is not tracked by the dataset " + ds.Root, "datalad save " + img.Dir()}
	}
	files, err := ds.Files(ctx, rel)
	if err != nil {
		return nil, err
	}
	var list []tracked
	for _, f := range img.Files() {
		if a, ok := annexedFile(ds, files, f.Path); ok {
			list = append(list, tracked{f, a})
		}
	}
	return list, nil
}

// annexedBeside are the annexed files in the image's directory that are no layers: without them a clone cannot tell what the image is.
func annexedBeside(ctx context.Context, ds *annex.Dataset, img *layout.Image, layers []tracked) ([]string, error) {
	dir, err := filepath.EvalSymlinks(img.Dir())
	if err != nil {
		return nil, err
	}
	rel, _ := ds.Rel(dir)
	files, err := ds.Files(ctx, rel)
	if err != nil {
		return nil, err
	}
	isLayer := map[string]bool{}
	for _, f := range layers {
		if r, ok := ds.Rel(f.Path); ok {
			isLayer[r] = true
		}
	}
	var names []string
	for path := range files {
		if base := filepath.Base(path); !isLayer[path] && (base == "oci-layout" || strings.HasSuffix(base, ".json")) {
			names = append(names, path)
		}
	}
	slices.Sort(names)
	return names, nil
}

// annexedFile finds the annexed file at path, also behind a link to another layer, as docker save makes them.
func annexedFile(ds *annex.Dataset, files map[string]annex.File, path string) (annex.File, bool) {
	for range 8 {
		rel, ok := ds.Rel(path)
		if !ok {
			break
		}
		if f, ok := files[rel]; ok {
			return f, true
		}
		target, err := os.Readlink(path)
		if err != nil || filepath.IsAbs(target) {
			break
		}
		path = filepath.Join(filepath.Dir(path), target)
	}
	return annex.File{}, false
}

// recordPlaces records where files can be had, and returns how many records are new.
func recordPlaces(ctx context.Context, ds *annex.Dataset, places []found) (int, error) {
	if len(places) == 0 {
		return 0, nil
	}
	known := map[string]annex.File{}
	var records []annex.Record
	for _, p := range places {
		known[p.annexed.Path] = p.annexed
		records = append(records, annex.Record{Key: p.annexed.Key, URL: p.at.URL(), Web: p.web})
	}
	remote, err := ds.Remote(ctx)
	if err != nil {
		return 0, err
	}
	return ds.Record(ctx, remote, known, records)
}

// dockerAdapter is what datalad-container registers for dhub:// images.
const dockerAdapter = "datalad_container.adapters.docker run"

// hintAtContainers tells how a container that ran through the docker adapter goes on through dlrun.
func (l *link) hintAtContainers(ctx context.Context, ds *annex.Dataset, img *layout.Image) {
	rel, ok := ds.Rel(img.Dir())
	if !ok {
		return
	}
	containers, err := ds.Containers(ctx, rel)
	if err != nil {
		return
	}
	for _, c := range containers {
		if strings.Contains(c.Format, dockerAdapter) {
			note(l.speech.quiet, "container %s still runs through docker; dlrun add --update %s %s changes that", c.Name, c.Name, c.Image)
		}
	}
}

// checkRecords asks for every recorded place, and prints a line each: ok, absent or unknown, the file, the place.
func (l *link) checkRecords(ctx context.Context, img *layout.Image, blobs *blobs, out io.Writer) error {
	ds, err := annex.OpenDataset(ctx, img.Dir(), "")
	if err != nil {
		return err
	}
	files, err := trackedFiles(ctx, ds, img)
	if err != nil {
		return err
	}
	bad := 0
	for _, f := range files {
		recorded := false
		for _, url := range f.annexed.URLs {
			at, ok := special.ParseURL(url)
			if !ok || !strings.HasPrefix(url, special.Scheme) {
				continue
			}
			recorded = true
			verdict := "ok"
			switch _, err := blobs.Stat(ctx, at); {
			case errors.Is(err, special.ErrAbsent):
				verdict = "absent"
			case err != nil:
				verdict = "unknown"
				note(l.speech.quiet, "%v", err)
			}
			if verdict != "ok" {
				bad++
			}
			fmt.Fprintf(out, "%s\t%s\t%s\n", verdict, f.annexed.Path, at)
		}
		if !recorded {
			bad++
			fmt.Fprintf(out, "unrecorded\t%s\n", f.annexed.Path)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d records cannot be counted on", bad)
	}
	return nil
}

// hostsOf are the repositories of the places, each once.
func hostsOf(places []found) string {
	var names []string
	for _, p := range places {
		if name := p.at.Host + "/" + p.at.Name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
