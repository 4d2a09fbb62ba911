package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlrun/dlrun/layout"
	"github.com/dlrun/dlrun/unpack"
)

// newCache is the verb that looks after the store.
func newCache() *cobra.Command {
	f := &storeFlags{}
	c := &cobra.Command{
		Use:   "cache path|ls|du|rm|gc",
		Short: "Look after the store of unpacked images",
		Long: `The store keeps each image unpacked, so that later runs start at once. Everything in it can be
removed at any time: the next run unpacks anew. What a run uses stays until it ends.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f.register(c.PersistentFlags())
	c.AddCommand(cachePath(f), cacheList(f), cacheUsage(f), cacheRemove(f), cacheCollect(f))
	return c
}

// store opens the one that a run would take.
func (f *storeFlags) store(c *cobra.Command) (*unpack.Store, error) {
	p, owners, _, err := f.place(c)
	if err != nil {
		return nil, err
	}
	return unpack.Open(p.dir, unpack.Options{Owners: owners, MaxSize: f.maxSize()})
}

func (f *storeFlags) place(c *cobra.Command) (place, []int, []place, error) {
	if err := fillFlags(c.Flags(), configFiles()); err != nil {
		return place{}, nil, nil, err
	}
	f.flags = c.Flags()
	owners, err := siteOwners()
	if err != nil {
		return place{}, nil, nil, err
	}
	p, passed := f.chosen(owners)
	return p, owners, passed, nil
}

func cachePath(f *storeFlags) *cobra.Command {
	verbose := false
	c := &cobra.Command{
		Use:   "path",
		Short: "Print where the store is; with -v, why there",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, owners, passed, err := f.place(c)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintln(out, p.dir)
			if !verbose {
				return nil
			}
			fmt.Fprintf(out, "chosen by: %s\n", p.why)
			for _, p := range passed {
				fmt.Fprintf(out, "passed over: %s: %s\n", printable(p.dir), printable(p.why))
			}
			if _, err := unpack.Open(p.dir, unpack.Options{Owners: owners}); err != nil {
				fmt.Fprintf(out, "not used: %s\n", printable(err.Error()))
			}
			if unpack.IsLocal(p.dir) {
				fmt.Fprintln(out, "file system: of this machine alone")
			} else {
				fmt.Fprintln(out, "file system: other machines may use it; only dlrun cache gc trims the store")
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "say why it is there")
	return c
}

func cacheList(f *storeFlags) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "ls",
		Short: "List the images, the one used last first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.store(c)
			if err != nil {
				return err
			}
			list, err := s.List(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), list)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tSIZE\tOWN\tUSED\tNOW\tIMAGE")
			for _, i := range list {
				now := "-"
				if i.InUse {
					now = "in use"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", shortID(i.ID), bytesText(i.Bytes), bytesText(i.Own), i.Used.Format(time.DateOnly), now, printable(i.Name))
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func shortID(id string) string { return id[:min(12, len(id))] }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func cacheUsage(f *storeFlags) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use:   "du",
		Short: "Say what the store takes, and what it may take",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.store(c)
			if err != nil {
				return err
			}
			u, err := s.Usage(c.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(c.OutOrStdout(), u)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, l := range []struct {
				name  string
				bytes int64
				text  string
			}{
				{"images", u.Images, "layers, each counted once"},
				{"orphans", u.Orphans, "layers that no image needs, of an unpack that was stopped"},
				{"garbage", u.Garbage, "left by runs that were killed"},
				{"other", u.Other, "markers, locks, compiled filters, documents of registries"},
				{"total", u.Total, ""},
				{"free", u.Free, "on the file system"},
			} {
				fmt.Fprintf(w, "%s\t%s\t%s\n", l.name, bytesText(max(l.bytes, 0)), l.text)
			}
			switch {
			case u.Shared:
				fmt.Fprintf(w, "cap\tnone\tother machines may use the store; dlrun cache gc trims it to %s\n", bytesText(max(u.MaxSize, 0)))
			case u.MaxSize < 0:
				fmt.Fprintf(w, "cap\tnone\t--cache-size 0\n")
			case f.size.set:
				fmt.Fprintf(w, "cap\t%s\t--cache-size\n", bytesText(u.MaxSize))
			default:
				fmt.Fprintf(w, "cap\t%s\ta quarter of the file system; --cache-size changes it\n", bytesText(u.MaxSize))
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func cacheRemove(f *storeFlags) *cobra.Command {
	var (
		image       imageFlags
		all, dryRun bool
	)
	c := &cobra.Command{
		Use:   "rm [FLAGS] IMAGE|ID...",
		Short: "Remove images",
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return &usageError{"cache rm takes images or ids, or --all", "dlrun cache ls lists the ids"}
			}
			s, err := f.store(c)
			if err != nil {
				return err
			}
			t := unpack.Trim{All: all, DryRun: dryRun}
			for _, arg := range args {
				id, err := storedID(c, s, arg, &image)
				if err != nil {
					return err
				}
				t.IDs = append(t.IDs, id)
			}
			done, err := s.Trim(c.Context(), t)
			if err != nil {
				return err
			}
			if all && !dryRun {
				if err := layout.ForgetRegistries(s.Dir()); err != nil {
					return err
				}
			}
			tellTrimmed(c.OutOrStdout(), done, dryRun)
			if len(done.Kept) > 0 {
				return &usageError{fmt.Sprintf("%s is in use", shortID(done.Kept[0].ID)), "it can be removed when its runs have ended"}
			}
			return nil
		},
	}
	image.register(c.Flags())
	c.Flags().BoolVar(&all, "all", false, "remove every image, and what is known of registries")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed")
	return c
}

// storedID finds an image of the store by its id, or the beginning of one, or by the image itself.
func storedID(c *cobra.Command, s *unpack.Store, arg string, image *imageFlags) (string, error) {
	list, err := s.List(c.Context())
	if err != nil {
		return "", err
	}
	var found []string
	for _, i := range list {
		if arg != "" && strings.HasPrefix(i.ID, strings.TrimPrefix(arg, "sha256:")) {
			found = append(found, i.ID)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
	default:
		return "", fmt.Errorf("%d images have an id that begins with %s", len(found), arg)
	}
	pick, err := image.options()
	if err != nil {
		return "", err
	}
	img, err := layout.Open(c.Context(), arg, pick)
	if err != nil {
		return "", fmt.Errorf("no id in the store begins with %s; %w", arg, err)
	}
	return unpack.ID(img)
}

func cacheCollect(f *storeFlags) *cobra.Command {
	var (
		size      sizeFlag
		olderThan ageFlag
		dryRun    bool
	)
	c := &cobra.Command{
		Use:   "gc [FLAGS]",
		Short: "Remove garbage, and the images not used for longest",
		Long: `Without flags, garbage is removed, and images beyond --cache-size, those not used for longest first.
What a run uses stays.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.store(c)
			if err != nil {
				return err
			}
			t := unpack.Trim{OlderThan: time.Duration(olderThan), DryRun: dryRun}
			switch {
			case size.set:
				t.MaxSize = max(size.bytes, 1)
			case olderThan == 0:
				u, err := s.Usage(c.Context())
				if err != nil {
					return err
				}
				t.MaxSize = max(u.MaxSize, 0)
			}
			done, err := s.Trim(c.Context(), t)
			if err != nil {
				return err
			}
			tellTrimmed(c.OutOrStdout(), done, dryRun)
			return nil
		},
	}
	c.Flags().Var(&size, "max-size", "remove images until the store takes no more than `SIZE`, as in 20G (0: all that are not in use)")
	c.Flags().Var(&olderThan, "older-than", "remove images not used for `AGE`, as in 30d, 12h; a number alone is days")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be removed")
	return c
}

// tellTrimmed prints a line an image, and the sum.
func tellTrimmed(w io.Writer, done *unpack.Trimmed, dryRun bool) {
	removed, freed := "removed", "freed"
	if dryRun {
		removed, freed = "would remove", "would free"
	}
	for _, i := range done.Images {
		fmt.Fprintf(w, "%s %s %s %s\n", removed, shortID(i.ID), bytesText(i.Own), printable(i.Name))
	}
	for _, i := range done.Kept {
		fmt.Fprintf(w, "kept %s, which is in use: %s\n", shortID(i.ID), printable(i.Name))
	}
	fmt.Fprintf(w, "%s %s\n", freed, bytesText(done.Bytes))
}

// ageFlag is a duration that may be in days and weeks.
type ageFlag time.Duration

// Type is what the help calls the value.
func (*ageFlag) Type() string { return "AGE" }

func (f *ageFlag) String() string {
	if *f == 0 {
		return ""
	}
	return time.Duration(*f).String()
}

// Set reads 30d, 2w, 12h30m; a number alone is days.
func (f *ageFlag) Set(text string) error {
	digits := strings.TrimRight(text, "dw")
	if n, err := strconv.ParseFloat(digits, 64); err == nil && len(text)-len(digits) <= 1 {
		days := n
		if strings.HasSuffix(text, "w") {
			days *= 7
		}
		if d := time.Duration(days * 24 * float64(time.Hour)); d > 0 && days < 100_000 {
			*f = ageFlag(d)
			return nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no age, as in 30d or 12h", text)
	}
	*f = ageFlag(d)
	return nil
}
