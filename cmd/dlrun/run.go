package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/runtime"
	"github.com/dlrun/dlrun/runtime/prelude"
	"github.com/dlrun/dlrun/runtime/spec"
	"github.com/dlrun/dlrun/unpack"
)

// run is the line of one run: find the image, make a root, describe the run, run it. When it returns nil, the
// inside of the run has taken over (or --dry-run has printed it).
func run(ctx context.Context, ref string, args []string, command form, o spec.Options, f *runFlags) (err error) {
	pick, err := f.image.options()
	if err != nil {
		return err
	}
	img, err := layout.Open(ctx, ref, pick)
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	f.speech.step("image %s", img.Dir())
	o.Terminal = prelude.Terminal()
	if o.Args, err = command(ref, args, &config.Config); err != nil {
		return err
	}
	root, store, err := makeRoot(ctx, img, &f.store, &f.speech, false)
	if err != nil {
		return err
	}
	scratch, err := runtime.NewScratch(scratchBases(f.scratch))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil || f.dryRun {
			scratch.Remove()
		}
	}()
	host, err := hostFacts(ctx, o, store, scratch.Dir)
	if err != nil {
		return err
	}
	s, err := spec.New(config, spec.Root{Layers: root.Layers, Dir: root.Dir}, host, o)
	if err != nil {
		return err
	}
	if f.dryRun {
		return printSpec(s)
	}
	for _, m := range s.Mounts {
		if f.speech.debug {
			f.speech.step("mount %s", mountLine(m))
		}
	}
	if root.Foreign {
		note(f.speech.quiet, "the unpacked image belongs to another user or group: what it carries cannot be changed inside")
	}
	filter, err := compiledFilter(s.Linux.Seccomp, store)
	if err != nil {
		return err
	}
	f.speech.step("run %q in %s", s.Process.Args, s.Process.Cwd)
	return runtime.Run(s, runtime.Options{
		Scratch: scratch.Dir, Filter: filter, Files: keptFiles(f.fds), Hint: entrypointHint(ref, o.Args, &config.Config),
		Quiet: f.speech.quiet,
	})
}

// mountLine is a mount as an administrator reads it.
func mountLine(m specs.Mount) string {
	what := m.Source
	if m.Type != "bind" {
		what = m.Type
	}
	return fmt.Sprintf("%s at %s (%s)", what, m.Destination, strings.Join(m.Options, ","))
}

func printSpec(s *specs.Spec) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(s)
}

// scratchBases are where the files of a run may lie, the first that fits is taken.
func scratchBases(flag string) []string {
	if flag != "" {
		return []string{flag}
	}
	var bases []string
	for _, dir := range []string{os.Getenv("SLURM_TMPDIR"), os.Getenv("TMPDIR"), "/tmp", "/var/tmp"} {
		if dir != "" {
			bases = append(bases, dir)
		}
	}
	return bases
}

// makeRoot unpacks img into the first store that can be trusted, unless it lies there already. It returns the store
// too. With sync it waits until the disk has everything.
func makeRoot(ctx context.Context, img *layout.Image, f *storeFlags, speech *speechFlags, sync bool) (*unpack.Root, string, error) {
	owners, err := siteOwners()
	if err != nil {
		return nil, "", err
	}
	bar := newProgress(speech.quiet, img.Dir())
	defer bar.done()
	var untrusted *unpack.UntrustedError
	for _, dir := range f.dirs() {
		store, err := unpack.Open(dir, unpack.Options{Owners: owners, Overlay: runtime.TryOverlay, Progress: bar.show, Sync: sync})
		if errors.As(err, &untrusted) {
			note(speech.quiet, "%v: not used", err)
			continue
		}
		if err != nil {
			return nil, "", err
		}
		root, err := store.Root(ctx, img)
		if err != nil {
			return nil, "", err
		}
		speech.step("root of %d layers in the store %s", max(1, len(root.Layers)), dir)
		return root, dir, nil
	}
	return nil, "", fmt.Errorf("no store can be used: %w", untrusted)
}
