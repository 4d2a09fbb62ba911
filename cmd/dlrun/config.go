package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"
)

// siteConfig is the administrator's. Only there may owners of shared stores be named.
const siteConfig = "/etc/dlrun/config.toml"

// configFiles returns the configuration files, the strongest first.
func configFiles() []string {
	files := []string{siteConfig}
	if dir := userDir("XDG_CONFIG_HOME", ".config"); dir != "" {
		files = append([]string{filepath.Join(dir, "dlrun", "config.toml")}, files...)
	}
	return files
}

// fillFlags sets the flags that the command line left alone: from DLRUN_NAME (for a flag that repeats, values
// separated by commas), else from the first configuration file that names it.
func fillFlags(fs *pflag.FlagSet, files []string) error {
	for _, name := range os.Environ() {
		name, value, _ := strings.Cut(name, "=")
		name, ours := strings.CutPrefix(name, "DLRUN_")
		f := fs.Lookup(strings.ReplaceAll(strings.ToLower(name), "_", "-"))
		if !ours || f == nil || isSet(fs, f) {
			continue // a variable of another verb, or of somebody's scripts
		}
		values := []string{value}
		if _, repeats := f.Value.(pflag.SliceValue); repeats {
			values = strings.Split(value, ",")
		}
		if err := setAll(fs, f.Name, values); err != nil {
			return fmt.Errorf("DLRUN_%s: %w", name, err)
		}
	}
	for _, file := range files {
		var keys map[string]any
		if err := readConfig(file, &keys); err != nil {
			return err
		}
		for key, value := range keys {
			if key == "owners" && file == siteConfig {
				continue // see siteOwners
			}
			f := fs.Lookup(key)
			if f == nil || isSet(fs, f) {
				continue // a key of another verb
			}
			list, isList := value.([]any)
			if !isList {
				list = []any{value}
			}
			values := make([]string, len(list))
			for i, v := range list {
				values[i] = fmt.Sprint(v)
			}
			if err := setAll(fs, key, values); err != nil {
				return fmt.Errorf("%s: %s: %w", file, key, err)
			}
		}
	}
	return nil
}

// isSet reports whether f was set, by one of its names.
func isSet(fs *pflag.FlagSet, f *pflag.Flag) (set bool) {
	fs.VisitAll(func(other *pflag.Flag) { set = set || other.Value == f.Value && other.Changed })
	return set
}

func setAll(fs *pflag.FlagSet, name string, values []string) error {
	for _, v := range values {
		if err := fs.Set(name, v); err != nil {
			return err
		}
	}
	return nil
}

// siteOwners returns the uids whose stores the administrator trusts.
func siteOwners() ([]int, error) {
	var site struct {
		Owners []int `toml:"owners"`
	}
	err := readConfig(siteConfig, &site)
	return site.Owners, err
}

// readConfig reads a file that need not be there, nor be readable. What is no regular file is none: a fifo would keep
// dlrun waiting.
func readConfig(file string, v any) error {
	fi, err := os.Stat(file)
	if err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	if _, err := toml.DecodeFile(file, v); err != nil && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
