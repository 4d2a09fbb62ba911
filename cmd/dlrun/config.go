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
	if dir, err := os.UserConfigDir(); err == nil {
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
		if !ours || f == nil || f.Changed {
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
		if _, err := toml.DecodeFile(file, &keys); errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			continue
		} else if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for key, value := range keys {
			if key == "owners" && file == siteConfig {
				continue // see siteOwners
			}
			f := fs.Lookup(key)
			if f == nil || f.Changed {
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
	if _, err := toml.DecodeFile(siteConfig, &site); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", siteConfig, err)
	}
	return site.Owners, nil
}
