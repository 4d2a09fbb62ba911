package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/runtime"
	"github.com/dlrun/dlrun/runtime/prelude"
	"github.com/dlrun/dlrun/runtime/spec"
	"github.com/dlrun/dlrun/unpack"
)

// run is the line of one run: find the image, make a root, describe the run, run it. When it returns nil, the
// inside of the run has taken over (or --dry-run has printed it).
func run(ctx context.Context, ref string, args []string, form form, o spec.Options, f *runFlags) (err error) {
	pick, err := f.image.options()
	if err != nil {
		return err
	}
	bar := newProgress(f.speech.quiet, ref)
	get, err := f.get.getter(ref, &f.store, &f.speech, bar)
	if err != nil {
		return err
	}
	defer get.close()
	img, err := get.open(ctx, ref, pick)
	bar.done()
	if err != nil {
		return err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if config.OS != "" && config.OS != "linux" {
		return fmt.Errorf("the image in %s is for %s: only those for linux can be run", img.Dir(), config.OS)
	}
	f.speech.step("image %s", img.Dir())
	o.Terminal = prelude.Terminal()
	if o.Args, err = form.command(ref, args, &config.Config); err != nil {
		return err
	}
	f.store.limits = f.image.limits.unpack
	o.Mounts = append(o.Mounts, tmpdirMounts(o.Args)...)
	root, store, err := makeRoot(ctx, img, &f.store, &f.speech, bar, false)
	if err != nil {
		return err
	}
	if form.user && config.Config.User != "" && !o.Root {
		if err := honourUser(&o, config.Config.User, root); err != nil {
			note(f.speech.quiet, "the image's USER %s is not used: %v", printable(config.Config.User), err)
		}
	}
	host, err := hostFacts(ctx, o, store)
	if err != nil {
		return err
	}
	describe := func(host spec.Host) (*specs.Spec, error) {
		return spec.New(config, spec.Root{Layers: root.Layers, Dir: root.Dir}, host, o)
	}
	host.Scratch = runtime.Placeholder
	s, err := describe(host)
	if err != nil {
		return err
	}
	filter, err := compiledFilter(s.Linux.Seccomp, store)
	if err != nil {
		return err
	}
	how := runtime.Options{
		Filter: filter, Files: keptFiles(f.fds), Hint: entrypointHint(ref, o.Args, &config.Config), Hold: root.Marker, Quiet: f.speech.quiet,
	}
	seat, err := f.seat(img, s)
	if err != nil {
		return err
	}
	if seat != nil && !seat.First() {
		return seat.Join(s, how)
	}
	if seat != nil {
		if err := seat.Prepare(s); err != nil {
			return err
		}
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
	host.Scratch = scratch.Dir
	if s, err = describe(host); err != nil {
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
	f.speech.step("run %q in %s", s.Process.Args, s.Process.Cwd)
	how.Scratch, how.Offer = scratch.Dir, offer(os.Environ(), seat != nil)
	if seat != nil {
		how.AlikeEnv = f.alikeEnv(s, host, describe)
		return seat.Start(s, scratch, how)
	}
	return runtime.Run(s, how)
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

// makeRoot unpacks img into the first store that can be trusted and used, unless it lies there already. It returns the
// store too. With sync it waits until the disk has everything.
func makeRoot(ctx context.Context, img *layout.Image, f *storeFlags, speech *speechFlags, bar *progress, sync bool) (root *unpack.Root, store string, err error) {
	defer func() {
		if err != nil {
			img.Distrust()
			nameAll(img, err)
		}
	}()
	owners, err := siteOwners()
	if err != nil {
		return nil, "", err
	}
	defer bar.done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := unpack.Options{Owners: owners, Sync: sync, Limits: f.limits, Name: imageName(img), MaxSize: f.maxSize(), Progress: bar.show, Overlay: func(dir string) error {
		err := runtime.TryOverlay(dir)
		var inside *runtime.InsideError
		if errors.As(err, &inside) && inside.NoNamespaces {
			cancel(err) // before hours of unpacking
		}
		return err
	}}
	places := f.places()
	for i, p := range places {
		dir := p.dir
		root, err := rootIn(ctx, dir, img, o)
		if cause := context.Cause(ctx); cause != nil {
			return nil, "", cause
		}
		if err == nil {
			speech.step("root of %d layers in the store %s", max(1, len(root.Layers)), dir)
			return root, dir, nil
		}
		if i == len(places)-1 || !unusable(err) {
			return nil, "", err
		}
		note(speech.quiet, "%v: not used", err)
	}
	return nil, "", errors.New("there is no place for unpacked images")
}

// nameAll has an error about one layer that is missing name all that are.
func nameAll(img *layout.Image, err error) {
	var one, all *layout.MissingError
	if errors.As(err, &one) && errors.As(img.CheckLayers(), &all) {
		*one = *all
	}
}

// imageName is what a listing of the store calls img.
func imageName(img *layout.Image) string {
	name := img.Dir()
	if !strings.Contains(name, "://") {
		if abs, err := filepath.Abs(name); err == nil {
			name = abs
		}
	}
	if img.Tag() != "" {
		name += ":" + img.Tag()
	}
	return name
}

// rootIn leaves the store open: it holds the root until the run does.
func rootIn(ctx context.Context, dir string, img *layout.Image, o unpack.Options) (*unpack.Root, error) {
	store, err := unpack.Open(dir, o)
	if err != nil {
		return nil, err
	}
	return store.Root(ctx, img)
}

// unusable reports whether err is about the place of a store, so that another place may do: not to be trusted, or the
// caller has no home there to write to.
func unusable(err error) bool {
	var untrusted *unpack.UntrustedError
	var store *unpack.StoreError
	return errors.As(err, &untrusted) || errors.As(err, &store) &&
		(errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOTDIR))
}
