package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// FuzzConfig reads arbitrary configuration files: it may refuse, naming the file, but never panic.
func FuzzConfig(f *testing.F) {
	f.Add("tmp = 'host'\nvolume = ['/u1', '/u2:/x:ro']\n")
	f.Add("limit = ['entries=8M', 'bytes=64GiB']\ncache-size = '20G'\n")
	f.Add("cache = '/scratch/$USER/${UID}/$$'\nread-only = true\npreserve-fds = 3\n")
	f.Add("owners = [990]\n[table]\nx = 1\n[[a]]\n")
	f.Add("read-only = [1, [2], {x = 3}]\nkeep-env = 1979-05-27T07:32:00Z\n")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := &runFlags{}
		c := &cobra.Command{}
		flags.register(c.Flags())
		if err := fillFlags(c.Flags(), []string{file}); err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("the error does not name the file: %v", err)
		}
		flags.store.places()
	})
}

// FuzzSizes reads what --limit, --cache-size and --older-than take.
func FuzzSizes(f *testing.F) {
	for _, s := range []string{"1", "20G", "1.5TiB", "30d", "2w", "12h30m", "entries=8M", "bytes=1e3", "=", "NaN", "-0", "1e309"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseSize(text); err == nil && n < 0 {
			t.Errorf("%q is %d", text, n)
		}
		var l limitFlag
		if l.Set(text) == nil {
			for _, each := range limits {
				if *each.value(&l) < 0 {
					t.Errorf("%q makes %s negative", text, each.name)
				}
			}
		}
		var a ageFlag
		if a.Set(text) == nil && a <= 0 {
			t.Errorf("%q is %v", text, a)
		}
	})
}
