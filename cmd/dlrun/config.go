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
	"github.com/spf13/cobra"
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

// fillFlags sets the flags that the command line left alone: from DLRUN_NAME, else from the first configuration file that names
// it. The values of a flag that repeats add up: those of the site, of the user, of the variable, of the command line.
func fillFlags(fs *pflag.FlagSet, files []string) error {
	for _, name := range os.Environ() {
		name, value, _ := strings.Cut(name, "=")
		name, ours := strings.CutPrefix(name, "DLRUN_")
		f := fs.Lookup(strings.ReplaceAll(strings.ToLower(name), "_", "-"))
		if !ours || f == nil || value == "" || isSet(fs, f) && !repeats(f) {
			continue // a variable of another verb, or of somebody's scripts; an empty one says nothing
		}
		values := []string{value}
		if repeats(f) {
			values = listed(f.Name, value)
		}
		if err := setAll(fs, f, values); err != nil {
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
			if f == nil && !quietly(fs) && !slices.Contains(allFlags(), key) {
				what := fmt.Sprintf("there is no key %q", key)
				if key == "owners" {
					what = key + " counts in " + siteConfig + " alone"
				}
				note(false, "%s: %s", file, what)
			}
			if f == nil || isSet(fs, f) && !repeats(f) {
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
			if err := setAll(fs, f, values); err != nil {
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

// setAll sets f, or puts values before those that it has.
func setAll(fs *pflag.FlagSet, f *pflag.Flag, values []string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok && isSet(fs, f) {
		return list.Replace(append(values, list.GetSlice()...))
	}
	for _, v := range values {
		if err := fs.Set(f.Name, v); err != nil {
			return err
		}
	}
	return nil
}

func repeats(f *pflag.Flag) bool {
	_, ok := f.Value.(pflag.SliceValue)
	return ok
}

// listed are the values in a variable of a flag that repeats: a line each, or between commas, where the values have none.
func listed(flag, value string) []string {
	if strings.Contains(value, "\n") || flag == "mount" || flag == "tmpfs" {
		return strings.FieldsFunc(value, func(r rune) bool { return r == '\n' })
	}
	return strings.Split(value, ",")
}

// allFlags are the names of the flags of all verbs.
func allFlags() []string {
	var names []string
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
	return names
}

// quietly reports whether --quiet is given.
func quietly(fs *pflag.FlagSet) bool {
	f := fs.Lookup("quiet")
	return f != nil && f.Value.String() == "true"
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
