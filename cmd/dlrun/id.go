package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newID is the verb that prints the image id and nothing else.
func newID() *cobra.Command {
	var look lookFlags
	c := &cobra.Command{
		Use:   "id [FLAGS] IMAGE",
		Short: "Print the image id: the digest of the config, as docker and podman show it",
		Args:  cobra.ExactArgs(1),

		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			img, done, err := look.open(c, args[0], false)
			if err != nil {
				return err
			}
			defer done()
			id, err := img.ConfigName()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), id)
			return err
		},
	}
	look.register(c)
	return c
}
