package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newUnpack is the verb that warms the store ahead of a job.
func newUnpack() *cobra.Command {
	var (
		image  imageFlags
		store  storeFlags
		speech speechFlags
		get    getFlags
		show   bool
	)
	c := &cobra.Command{
		Use:   "unpack [FLAGS] IMAGE...",
		Short: "Unpack images ahead of a run",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := fillFlags(c.Flags(), configFiles()); err != nil {
				return err
			}
			pick, err := image.options()
			if err != nil {
				return err
			}
			store.limits = image.limits.unpack
			for _, ref := range args {
				bar := newProgress(speech.quiet, ref)
				get, err := get.getter(ref, &store, &speech, bar)
				if err != nil {
					return err
				}
				defer get.close()
				img, err := get.open(c.Context(), ref, pick)
				bar.done()
				if err != nil {
					return err
				}
				root, _, err := makeRoot(c.Context(), img, &store, &speech, bar, true)
				if err != nil {
					return err
				}
				if !show {
					continue
				}
				for _, dir := range append(root.Layers, root.Dir) {
					if dir != "" {
						fmt.Fprintln(c.OutOrStdout(), dir)
					}
				}
			}
			return nil
		},
	}
	image.register(c.Flags())
	store.register(c.Flags())
	get.register(c.Flags())
	get.registerUpdate(c.Flags())
	speech.register(c.Flags())
	c.Flags().BoolVar(&show, "print", false, "print the directories of the root, lowest first")
	return c
}
