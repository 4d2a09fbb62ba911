package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/pflag"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/runtime/spec"
)

// imageFlags pick one image where a directory holds several.
type imageFlags struct {
	tag, repoTag, config, digest, platform string
	limits                                 limitFlag
}

func (f *imageFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.tag, "tag", "", "pick the image with this `TAG`")
	fs.StringVar(&f.repoTag, "repo-tag", "", "pick the image called `IMAGE:TAG`")
	fs.StringVar(&f.config, "config", "", "pick the image whose id begins with `IDPREFIX`")
	fs.StringVar(&f.digest, "digest", "", "refuse any image but this `sha256:…` (of a manifest or an index)")
	fs.StringVar(&f.platform, "platform", "", "pick `OS/ARCH[/VARIANT]` instead of this machine's")
	fs.Var(&f.limits, "limit", "raise a limit for an image that is trusted, as in entries=8M (docs/reliability.md): `NAME=N`")
}

func (f *imageFlags) options() (layout.Options, error) {
	o := layout.Options{Tag: f.tag, RepoTag: f.repoTag, Config: f.config, Digest: f.digest, Limits: f.limits.layout}
	if f.platform != "" {
		name := f.platform
		if !strings.Contains(name, "/") {
			name = "linux/" + name // an architecture alone: armhf
		}
		p, err := v1.ParsePlatform(name)
		if err != nil {
			return o, &usageError{"--platform " + f.platform + ": " + err.Error(), "--platform linux/arm64"}
		}
		o.Platform = p
	}
	return o, nil
}

// speechFlags say how much dlrun says.
type speechFlags struct {
	quiet, verbose, debug bool
	begun                 time.Time
}

// step tells what is done, with --verbose, and when, with --debug.
func (f *speechFlags) step(format string, args ...any) {
	switch {
	case f.debug:
		if f.begun.IsZero() {
			f.begun = time.Now()
		}
		note(false, "%8.2f ms  "+format, append([]any{float64(time.Since(f.begun).Microseconds()) / 1000}, args...)...)
	case f.verbose:
		note(f.quiet, format, args...)
	}
}

func (f *speechFlags) register(fs *pflag.FlagSet) {
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing but errors")
	fs.BoolVar(&f.verbose, "verbose", false, "say what is done")
	fs.BoolVar(&f.debug, "debug", false, "say it with times, and print the mounts")
}

// userDir is a base directory of the XDG specification, "" where the caller has no home. A relative path counts as none.
func userDir(variable, below string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	home := os.Getenv("HOME")
	if !filepath.IsAbs(home) {
		_, home = account(context.Background(), "passwd", os.Getuid())
	}
	if !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, below)
}

// runFlags are those of the forms that run something.
type runFlags struct {
	image   imageFlags
	speech  speechFlags
	store   storeFlags
	get     getFlags
	run     spec.Options
	home    string
	seccomp string
	envFile []string
	scratch string
	mpi     string
	join    bool
	fds     int
	dryRun  bool
}

// ownHome stands for --home without a directory.
const ownHome = "~"

func (f *runFlags) register(fs *pflag.FlagSet) {
	fs.SortFlags = false
	fs.SetInterspersed(false) // flags stop at IMAGE: what follows is the command's
	o := &f.run
	fs.StringArrayVarP(&o.Volumes, "volume", "v", nil, "bind `SRC[:DST[:ro|rw]]`")
	alias(fs, "volume", "bind", "B")
	fs.StringArrayVar(&o.Mounts, "mount", nil, "`type=bind,src=,dst=[,ro]`, for paths with colons")
	fs.StringVarP(&o.Workdir, "workdir", "w", "", "start in `PATH` (default: the caller's directory)")
	alias(fs, "workdir", "pwd", "")
	alias(fs, "workdir", "cwd", "")
	fs.StringVar(&o.WorkdirAs, "workdir-as", "", "show the caller's directory at `PATH` too and start there: /tmp, as DataLad's docker adapter did")
	fs.StringArrayVarP(&o.Env, "env", "e", nil, "set `K=V`, or pass K on")
	fs.StringArrayVar(&f.envFile, "env-file", nil, "set what `FILE` says, a K=V a line")
	fs.StringArrayVar(&o.KeepEnv, "keep-env", nil, "pass on variables that match `GLOB`, besides those of the job")
	fs.StringArrayVar(&o.UnsetEnv, "unset-env", nil, "take away variables that match `GLOB`")
	fs.BoolVar(&o.EnvHost, "env-host", false, "pass on the whole environment; the image's wins")
	fs.StringVar(&f.home, "home", "", "bind the caller's home, or `DIR`, instead of a private empty one")
	fs.Lookup("home").NoOptDefVal = ownHome
	fs.StringVar(&o.Tmp, "tmp", "private", "/tmp: `private`, host, or a directory")
	fs.StringArrayVar(&o.Tmpfs, "tmpfs", nil, "mount a tmpfs at `DST[:size=N]`")
	fs.StringVar(&f.scratch, "scratch", "", "keep the files of the run (writes, /tmp, HOME) below `DIR`, on a local disk")
	fs.BoolVar(&o.ReadOnly, "read-only", false, "no writable layer")
	fs.StringVar(&o.Persist, "persist", "", "keep the writable layer in `DIR`")
	fs.BoolVar(&o.AnnexRW, "annex-rw", false, "leave annex objects writable")
	fs.BoolVar(&o.Root, "root", false, "be uid 0 inside")
	fs.StringArrayVar(&o.Devices, "device", nil, "show the device `PATH`")
	fs.StringVar(&o.Network, "network", "host", "`host` or none")
	fs.StringVar(&o.PID, "pid", "host", "`host` or private")
	fs.StringVar(&o.Hostname, "hostname", "", "be called `NAME` inside")
	fs.StringVar(&f.mpi, "mpi", "auto", "share one container with the other ranks of the job step on this node: `auto`, on, off")
	fs.BoolVar(&f.join, "join", false, "the same as --mpi on")
	fs.StringVar(&f.seccomp, "seccomp", "default", "`default`, unconfined, or a profile")
	fs.IntVar(&f.fds, "preserve-fds", 0, "keep `N` open files from 3 on")
	f.image.register(fs)
	f.store.register(fs)
	f.get.register(fs)
	f.get.registerUpdate(fs)
	fs.BoolVar(&f.dryRun, "dry-run", false, "print the OCI runtime spec as JSON, run nothing")
	f.speech.register(fs)
	fs.BoolP("interactive", "i", false, "accepted: stdin is always the command's")
	fs.BoolP("tty", "t", false, "accepted: the command has the caller's terminal")
	for _, name := range []string{"rm", "cleanenv", "contain", "no-home"} {
		fs.Bool(name, false, "accepted: it is always so")
		_ = fs.MarkHidden(name)
	}
	fs.String("userns", "keep-id", "accepted: it is always so")
	_ = fs.MarkHidden("userns")
}

// alias gives a flag a second name.
func alias(fs *pflag.FlagSet, name, other, shorthand string) {
	f := *fs.Lookup(name)
	f.Name, f.Shorthand, f.Usage, f.Hidden = other, shorthand, "the same as --"+name, true
	fs.AddFlag(&f)
}

// ownProfile reports whether --seccomp names a file.
func (f *runFlags) ownProfile() bool {
	return !slices.Contains([]string{"", "default", "unconfined"}, f.seccomp)
}

// options reads what the flags name and returns the room's own options.
func (f *runFlags) options(fs *pflag.FlagSet) (spec.Options, error) {
	o := f.run
	if userns := fs.Lookup("userns").Value.String(); userns != "keep-id" {
		return o, &usageError{"--userns " + userns + ": only keep-id, which is always so", ""}
	}
	if f.fds < 0 {
		return o, &usageError{fmt.Sprintf("--preserve-fds %d: a number of files", f.fds), ""}
	}
	if f.join && !fs.Changed("mpi") {
		f.mpi = "on"
	}
	if !slices.Contains(shareModes, f.mpi) {
		return o, &usageError{fmt.Sprintf("--mpi %s: neither auto nor on nor off", f.mpi), "--mpi on"}
	}
	if fs.Changed("home") {
		dir := strings.TrimPrefix(f.home, ownHome)
		if f.home != ownHome {
			dir = f.home
		}
		o.Home = &dir
	}
	for _, name := range f.envFile {
		file, err := readFile(name)
		if err != nil {
			return o, fmt.Errorf("--env-file: %w", err)
		}
		o.EnvFiles = append(o.EnvFiles, file)
	}
	o.Seccomp = spec.File{Name: f.seccomp}
	if f.ownProfile() {
		file, err := readFile(f.seccomp)
		if err != nil {
			return o, fmt.Errorf("--seccomp: %w", err)
		}
		o.Seccomp = file
	}
	for _, dir := range []*string{&o.Persist, &f.scratch, &f.store.cache} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return o, err
		}
		*dir = abs
	}
	return o, nil
}

func readFile(name string) (spec.File, error) {
	data, err := os.ReadFile(name)
	return spec.File{Name: name, Data: data}, err
}
