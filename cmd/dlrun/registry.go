package main

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/dlrun/dlrun/layout/registry"
)

// registryFlags say how registries are spoken to.
type registryFlags struct {
	caFile   string
	insecure bool
	mirrors  []string
}

func (f *registryFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.caFile, "ca-file", "", "trust the certificates in `FILE`, beside the system's, for registries")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain http to registries too, and https to anyone who answers")
	fs.StringArrayVar(&f.mirrors, "mirror", nil, "ask `HOST=MIRROR[/PATH]` before the registry HOST")
}

// options are those of every client of registries.
func (f *registryFlags) options() (registry.Options, error) {
	own, _, _ := strings.Cut(versionText(), "\n")
	o := registry.Options{UserAgent: strings.Replace(own, " ", "/", 1), CAFile: f.caFile, Insecure: f.insecure, Mirrors: map[string][]string{}}
	for _, m := range f.mirrors {
		host, mirror, ok := strings.Cut(m, "=")
		if !ok || host == "" || mirror == "" || strings.Contains(mirror, "://") {
			return o, &usageError{"--mirror " + m + ": want HOST=MIRROR or HOST=MIRROR/PATH", "--mirror docker.io=mirror.example.org:5000"}
		}
		o.Mirrors[host] = append(o.Mirrors[host], mirror)
	}
	return o, nil
}

// registryOptions are those of a program that has no such flags: from the environment and the configuration.
func registryOptions() (registry.Options, error) {
	var f registryFlags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.register(fs)
	if err := fillFlags(fs, configFiles()); err != nil {
		return registry.Options{}, err
	}
	return f.options()
}

// cacheDirs are where documents from registries, and what tags mean, are kept: in the stores.
func (f *storeFlags) cacheDirs() []string {
	var dirs []string
	for _, p := range f.places() {
		dirs = append(dirs, p.dir)
	}
	return dirs
}
