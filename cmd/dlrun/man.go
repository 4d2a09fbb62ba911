//go:build man

package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc" // man pages of the commands' own help; in no binary that is installed
)

// With the tag man, "dlrun help DIR" writes the man pages and the completions of shells into DIR, as they lie below share.
func init() {
	if len(os.Args) != 3 || os.Args[1] != "help" {
		return
	}
	if err := writeShare(os.Args[2]); err != nil {
		tell(err)
		os.Exit(codeFailed)
	}
	os.Exit(0)
}

func writeShare(dir string) error {
	root := newRoot()
	for file, write := range map[string]func(file string) error{
		"bash-completion/completions/dlrun":    func(f string) error { return root.GenBashCompletionFileV2(f, true) },
		"zsh/site-functions/_dlrun":            root.GenZshCompletionFile,
		"fish/vendor_completions.d/dlrun.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
		"man/man1/dlrun.1":                     func(f string) error { return writeMan(root, filepath.Dir(f)) },
	} {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := write(file); err != nil {
			return err
		}
	}
	return nil
}

func writeMan(root *cobra.Command, dir string) error {
	complete(root)
	// The date would be that of the build; a page tells the version instead.
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "dlrun " + version, Manual: "dlrun"}, dir)
}

// complete gives each command's description what its help shows elsewhere, and marks lines that are set apart as code.
func complete(c *cobra.Command) {
	c.DisableAutoGenTag = true
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	exit := c.Annotations[exitKey]
	if exit == "" {
		exit = plainExit
	}
	c.Long = strings.ReplaceAll(c.Long, "\n  ", "\n\t") + "\n\n# EXIT STATUS\n" + strings.ReplaceAll(exit, "\n ", "")
	for _, sub := range c.Commands() {
		complete(sub)
	}
}
