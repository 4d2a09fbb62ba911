package main

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
)

// form is what the verbs that run something differ in.
type form struct {
	command command
	user    bool // the image's USER is honoured
}

// command makes the command of a run from what follows IMAGE and from the image's config.
type command func(image string, args []string, config *v1.Config) ([]string, error)

// literal runs what is said: no shell, no ENTRYPOINT.
func literal(image string, args []string, _ *v1.Config) ([]string, error) {
	if len(args) == 0 {
		return nil, &usageError{"no command to run in " + image, "dlrun " + image + " -- CMD [ARG...]"}
	}
	return args, nil
}

// asImageSays is ENTRYPOINT and the arguments, or the image's CMD where there are none.
func asImageSays(image string, args []string, config *v1.Config) ([]string, error) {
	if len(args) == 0 {
		args = config.Cmd
	}
	command := slices.Concat(entrypoint(config), args)
	if len(command) == 0 {
		return nil, &usageError{image + " has neither ENTRYPOINT nor CMD", "dlrun run " + image + " -- CMD [ARG...]"}
	}
	return command, nil
}

// entrypoint is the image's, if it has one: docker takes [""] for none, by which a Dockerfile undoes its base's.
func entrypoint(config *v1.Config) []string {
	if slices.Equal(config.Entrypoint, []string{""}) {
		return nil
	}
	return config.Entrypoint
}

// shell is the image's $SHELL, else bash, else sh.
func shell(_ string, args []string, config *v1.Config) ([]string, error) {
	if len(args) > 0 {
		return nil, &usageError{"shell takes no arguments after the image", ""}
	}
	for _, e := range config.Env {
		if name, ok := strings.CutPrefix(e, "SHELL="); ok && name != "" {
			return []string{name}, nil
		}
	}
	return []string{"sh", "-c", "command -v bash >/dev/null && exec bash; exec sh"}, nil
}

// newForm is a verb that runs something.
func newForm(form form, use, short string) *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,

		Annotations:           map[string]string{exitKey: runExit},
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && !c.HasParent() && c.Flags().NFlag() == 0 && c.ArgsLenAtDash() < 0 {
				return c.Help()
			}
			if len(args) == 0 { // an empty variable in a script, for one
				return &usageError{"no IMAGE is named", c.UseLine()}
			}
			if err := reserved(c, args[0]); err != nil {
				return err
			}
			image, rest := args[0], args[1:]
			if len(rest) > 0 && rest[0] == "--" {
				rest = rest[1:]
			}
			if err := fillFlags(c.Flags(), configFiles()); err != nil {
				return err
			}
			o, err := f.options(c.Flags())
			if err != nil {
				return err
			}
			return run(c.Context(), image, rest, form, o, f)
		},
	}
	f.register(c.Flags())
	return c
}

// entrypointHint is what to type when a command is not found that was probably meant for the ENTRYPOINT.
func entrypointHint(image string, command []string, config *v1.Config) string {
	entry := entrypoint(config)
	if len(entry) == 0 || len(command) >= len(entry) && slices.Equal(command[:len(entry)], entry) {
		return ""
	}
	return fmt.Sprintf("the image has an ENTRYPOINT (%s), which only this goes through: dlrun run %s ARG...", strings.Join(entry, " "), image)
}
