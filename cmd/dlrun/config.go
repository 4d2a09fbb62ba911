package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
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
		if !ours || f == nil || value == "" || isSet(fs, f) {
			continue // a variable of another verb, or of somebody's scripts; an empty one says nothing
		}
		values := []string{value}
		if _, repeats := f.Value.(pflag.SliceValue); repeats {
			values = strings.Split(value, ",")
		}
		if err := setAll(fs, f.Name, values); err != nil {
			return fmt.Errorf("DLRUN_%s: %w", name, err)
		}
		setFrom(fs, f.Name, "DLRUN_"+name)
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
			missing := ""
			for i, v := range list {
				values[i] = fmt.Sprint(v)
				if slices.Contains(expanded, key) {
					values[i], missing = expand(values[i])
				}
			}
			if missing != "" {
				_ = fs.SetAnnotation(key, passed, []string{fmt.Sprintf("%s names $%s, which is not set", file, missing)})
				continue
			}
			if err := setAll(fs, key, values); err != nil {
				return fmt.Errorf("%s: %s: %w", file, key, err)
			}
			setFrom(fs, key, file)
		}
	}
	return nil
}

// expanded are the keys in whose values $USER and other variables stand for their values, since a site's file is for all.
var expanded = []string{"cache", "scratch"}

// expand returns text with the values of variables, or the name of one that is not set.
func expand(text string) (value, missing string) {
	value = os.Expand(text, func(name string) string {
		v := os.Getenv(name)
		if v == "" && name == "UID" {
			v = strconv.Itoa(os.Getuid())
		}
		if u, err := user.LookupId(strconv.Itoa(os.Getuid())); v == "" && name == "USER" && err == nil {
			v = u.Username
		}
		if v == "" {
			missing = name
		}
		return v
	})
	return value, missing
}

// Annotations of a flag: where its value comes from, other than the command line, and what of a file was passed over.
const (
	from   = "from"
	passed = "passed"
)

func setFrom(fs *pflag.FlagSet, flag, where string) {
	_ = fs.SetAnnotation(flag, from, []string{where})
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
