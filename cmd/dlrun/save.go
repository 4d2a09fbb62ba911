package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/layout/registry"
)

// codeUnpinned is the exit code for a SRC without a digest where --strict wants one.
const codeUnpinned = 3

const aboutSave = `save writes SRC into the directory DIR as an OCI layout, ready for a DataLad dataset: config
and layers as they are, so that the image id stays, and .gitattributes that send layers to
git-annex under their digest and the rest to git.

SRC is any IMAGE: docker://[HOST/]NAME[:TAG][@sha256:…], a directory, an archive. In the form of
build recipes, docker://[HOST/]NAME;digest=sha256:…;tag=TAG, a digest is expected: without one
dlrun warns, and prints the line to paste; --strict makes it an error, --strict=ignore silent.

A layer that lies in DIR, in the annex of the dataset around it, or where dlrun has saved
it before, is not fetched again.`

// newSave is the verb that fetches.
func newSave() *cobra.Command {
	s := &save{}
	c := &cobra.Command{
		Use:     "save [FLAGS] SRC DIR",
		Aliases: []string{"pull"},
		Short:   "Fetch or convert an image into an OCI layout",
		Long:    aboutSave,
		Args:    cobra.ExactArgs(2),

		Annotations:           map[string]string{exitKey: "0 saved; 3 SRC has no digest, and --strict wants one; 125 all other failures"},
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			if err := fillFlags(c.Flags(), configFiles()); err != nil {
				return err
			}
			return s.run(c.Context(), args[0], args[1])
		},
	}
	s.register(c.Flags())
	return c
}

type save struct {
	image   imageFlags
	get     getFlags
	store   storeFlags
	speech  speechFlags
	options layout.SaveOptions
	strict  string
}

func (s *save) register(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.BoolVar(&s.options.Update, "update", false, "replace the image in DIR, as a whole or not at all")
	fs.BoolVar(&s.options.NoLayers, "no-layers", false, "index, manifest and config alone; the layers can be fetched later")
	fs.BoolVar(&s.options.Keep, "keep-partial", false, "after a failure, keep what was fetched: the same command goes on from there")
	fs.StringVar(&s.strict, "strict", "warn", "of a recipe without a digest: `error`, warn or ignore")
	fs.Lookup("strict").NoOptDefVal = "error"
	s.image.register(fs)
	s.get.register(fs)
	s.store.register(fs)
	s.speech.register(fs)
}

func (s *save) run(ctx context.Context, src, dir string) error {
	transfer := newTransfer(s.speech.quiet)
	saved, err := s.fetch(ctx, src, dir, transfer)
	if err != nil {
		if transfer.fetched > 100e6 && !s.options.Keep {
			note(s.speech.quiet, "the %s that were fetched are gone; --keep-partial keeps them for the next try", bytesText(transfer.fetched))
		}
		return err
	}
	what := "%s is saved in %s: image id %s"
	if saved.Same {
		what = "%s is in %s already: image id %s"
	}
	note(s.speech.quiet, what, printable(src), printable(dir), saved.ID)
	return nil
}

// fetch is the work of save, without the last word.
func (s *save) fetch(ctx context.Context, src, dir string, transfer *transfer) (*layout.Saved, error) {
	switch s.strict {
	case "1": // as bitbake's BB_STRICT_CHECKSUM has it
		s.strict = "error"
	case "error", "warn", "ignore", "":
	default:
		return nil, &usageError{"--strict=" + s.strict + ": want error, warn or ignore", ""}
	}
	pick, err := s.image.options()
	if err != nil {
		return nil, err
	}
	s.get.update = true // a tag is fetched for what it means now
	bar := newProgress(s.speech.quiet, src)
	get, err := s.get.getter(src, &s.store, &s.speech, bar)
	if err != nil {
		return nil, err
	}
	defer get.close()
	img, err := get.open(ctx, src, pick)
	bar.done()
	if err != nil {
		return nil, err
	}
	if err := s.judgePin(img, src); err != nil {
		return nil, err
	}
	if img, err = img.Measured(ctx); err != nil {
		return nil, err
	}
	o := s.options
	o.Caches = s.store.cacheDirs()
	o.Have = annexed(dir)
	if !layout.IsRemote(src) && strings.HasPrefix(src, "docker-daemon:") {
		o.Source = src
	}
	o.Progress = transfer.show
	defer transfer.done()
	return layout.Save(ctx, img, dir, o)
}

// judgePin says what is to be said of a recipe that does not name its image by a digest.
func (s *save) judgePin(img *layout.Image, src string) error {
	line, pinned := img.Pin()
	if line == "" || pinned || s.strict == "ignore" {
		return nil
	}
	if s.strict == "error" {
		return &unpinnedError{src, line}
	}
	if ref, err := registry.Parse(src); err == nil && ref.Recipe && !s.speech.quiet {
		note(false, "%s has no digest: what it names may change any day", printable(src))
		fmt.Fprintf(os.Stderr, "hint: %s\n", line)
	}
	return nil
}

// unpinnedError is the refusal of --strict.
type unpinnedError struct{ src, line string }

func (e *unpinnedError) Error() string {
	return e.src + " has no digest, and --strict wants one: what it names may change any day"
}

// Hint is the line to paste.
func (e *unpinnedError) Hint() string { return e.line }

// annexed finds layers in the annex of the dataset that dir is to lie in, whichever image has brought them.
func annexed(dir string) func(v1.Descriptor) []string {
	return func(d v1.Descriptor) []string {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil
		}
		return annex.Content(abs, annex.LayerKey(d.Digest.String(), d.Size))
	}
}
