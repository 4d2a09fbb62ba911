package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/unpack"
)

const aboutVerify = `Read all of IMAGE again and compare it with its digests: manifest, config, each layer as it is stored,
and the tar in it with the diff_id of the config; then what lies beside it, such as the blobs of other images, as far as they
are here. Where all of it is right and the image is unpacked in the
store, compare every file there with the layers; what differs is taken out, for the next run to unpack anew.
A line a part is printed: ok, missing or bad.`

// newVerify is the verb that reads all of an image again.
func newVerify() *cobra.Command {
	var look lookFlags
	c := &cobra.Command{
		Use:   "verify [FLAGS] IMAGE",
		Short: "Read all of an image again and compare it with its digests",
		Long:  aboutVerify,
		Args:  cobra.ExactArgs(1),

		Annotations:           map[string]string{exitKey: "0 all is here and right; 1 something is missing or bad; 125 it could not be found out"},
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			f := &findings{w: c.OutOrStdout(), quiet: look.speech.quiet}
			img, done, err := look.open(c, args[0], false)
			if err != nil {
				return f.unopened(args[0], err)
			}
			defer done()
			if err := img.PassedOver(); err != nil {
				if err := f.add("index.json", "", err); err != nil {
					return err
				}
			}
			if err := verifyBlobs(c.Context(), img, f); err != nil {
				return err
			}
			if f.bad+f.missing == 0 { // or there is nothing to compare with
				if err := verifyRoot(c.Context(), img, &look.store, f); err != nil {
					return err
				}
			}
			return f.verdict(img.Dir())
		},
	}
	look.register(c)
	c.Flags().Lookup("quiet").Usage = "print only what is missing or bad"
	return c
}

// foundError is what a verb that looks for faults ends with when it has found some.
type foundError struct{ text, hint string }

func (e *foundError) Error() string { return e.text }
func (e *foundError) Hint() string  { return e.hint }

// codeFound is the exit code for it.
const codeFound = 1

// findings are what verify prints and counts.
type findings struct {
	w                 io.Writer
	quiet             bool
	all, bad, missing int
	hint              string
}

// add takes the verdict on one part of the image; key is its annex key, if it has one.
func (f *findings) add(part, key string, verdict error) error {
	f.all++
	var missing *layout.MissingError
	switch {
	case verdict == nil:
		if f.quiet {
			return nil
		}
		part = "ok      " + part
	case errors.As(verdict, &missing):
		f.missing++
		f.hint = missing.Hint()
		if part = "missing " + part; key != "" {
			part += " (annex key " + key + ")"
		}
	default:
		f.bad++
		part = fmt.Sprintf("bad     %s: %v", part, verdict)
	}
	_, err := fmt.Fprintln(f.w, printable(part))
	return err
}

// unopened takes the verdict on an image of which manifest or config cannot be had. It returns err where that says nothing
// about the image.
func (f *findings) unopened(image string, err error) error {
	part, key := "", ""
	var missing *layout.MissingError
	var damaged *layout.DamagedError
	switch {
	case errors.As(err, &missing):
		part, key = missing.Blobs[0].Path, missing.Blobs[0].Key
		if digest := missing.Blobs[0].Digest; digest != "" {
			part = "blob " + digest
		}
	case errors.As(err, &damaged) && damaged.Digest.Hex != "":
		part = "blob " + damaged.Digest.String()
	case errors.As(err, &damaged):
		part = "index.json"
	default:
		return err
	}
	if err := f.add(part, key, err); err != nil {
		return err
	}
	return f.verdict(image)
}

// verdict on the whole.
func (f *findings) verdict(image string) error {
	if f.bad+f.missing == 0 {
		return nil
	}
	return &foundError{fmt.Sprintf("%s: of %d parts %d are bad and %d missing", image, f.all, f.bad, f.missing), f.hint}
}

// verifyBlobs reads every blob once, several at a time, and reports in the order of the image.
func verifyBlobs(ctx context.Context, img *layout.Image, f *findings) error {
	var blobs []layout.Blob
	once := map[[2]v1.Hash]bool{}
	for _, b := range append(img.Blobs(), img.Beside()...) {
		if key := [2]v1.Hash{b.Digest, b.DiffID}; !once[key] && !b.MadeUp {
			once[key] = true
			blobs = append(blobs, b)
		}
	}
	verdicts := make([]chan error, len(blobs))
	for n := range verdicts {
		verdicts[n] = make(chan error, 1)
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	go func() {
		for n, b := range blobs {
			g.Go(func() error {
				verdicts[n] <- img.Verify(ctx, b)
				return nil
			})
		}
	}()
	for n, b := range blobs {
		verdict := <-verdicts[n]
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var missing *layout.MissingError
		if b.Role == "other blob" && errors.As(verdict, &missing) {
			continue // of another image, and not asked for
		}
		if err := f.add(fmt.Sprintf("%s %s", b.Role, b.Digest), b.Key, verdict); err != nil {
			return err
		}
	}
	return nil
}

// verifyRoot compares the image with what the first store that holds it has of it.
func verifyRoot(ctx context.Context, img *layout.Image, store *storeFlags, f *findings) error {
	owners, err := siteOwners()
	if err != nil {
		return err
	}
	for _, p := range store.places() {
		s, err := unpack.Open(p.dir, unpack.Options{Owners: owners, Limits: store.limits})
		var untrusted *unpack.UntrustedError
		if errors.As(err, &untrusted) {
			continue // nor would a run use it
		}
		if err != nil {
			return err
		}
		v, err := s.Verify(ctx, img)
		s.Close()
		if err != nil {
			return err
		}
		if !v.Unpacked {
			continue
		}
		for _, d := range v.Damage {
			if err := f.add(d.Path, "", errors.New(d.What)); err != nil {
				return err
			}
		}
		if len(v.Damage) > 0 {
			if v.Repaired {
				f.hint = "the next run unpacks it anew"
			}
			return nil
		}
		return f.add("root in the store "+p.dir, "", nil)
	}
	return nil
}
