package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/layout"
)

const aboutExport = `Write IMAGE as an archive that podman load, docker load and skopeo take; the image id stays.

The ending of FILE says how it is compressed: .gz (or .tgz), .zst, else not at all. FILE appears when it is
complete. "-" is standard output. The same image, names, format and level give the same bytes.
Nothing is fetched but layers that are missing; with another --level only this step is done again.`

// newExport is the verb that writes an archive.
func newExport() *cobra.Command {
	var (
		look  lookFlags
		o     layout.ExportOptions
		force bool
		link  string
	)
	c := &cobra.Command{
		Use:   "export [FLAGS] IMAGE FILE",
		Short: "Write an image as docker-archive or oci-archive",
		Long:  aboutExport,
		Args:  cobra.ExactArgs(2),

		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			img, done, err := look.open(c, args[0], true)
			if err != nil {
				return err
			}
			defer done()
			file := args[1]
			o.Compression = compressionOf(file)
			if file == "-" {
				if link != "" {
					return &usageError{"--link needs a FILE", ""}
				}
				return exportTo(c.Context(), img, c.OutOrStdout(), o)
			}
			if err := writeArchive(c.Context(), img, file, o, force); err != nil {
				return err
			}
			if link == "" {
				return nil
			}
			return linkTo(file, link, force)
		},
	}
	look.register(c)
	fs := c.Flags()
	fs.StringVar(&o.Format, "format", layout.DockerArchive, "`docker-archive`, or oci-archive")
	fs.StringArrayVar(&o.Names, "name", nil, "call the image `IMAGE:TAG` in the archive (default: as it is called where it lies)")
	fs.IntVar(&o.Level, "level", 0, "compress at level `N`: 1 to 9 for .gz, 1 to 22 for .zst, of which 1, 3, 6 and 10 differ")
	fs.BoolVarP(&force, "force", "f", false, "replace FILE")
	fs.StringVar(&link, "link", "", "give FILE a second name, `PATH` (or its own in the directory PATH), by a hard link, else by a copy")
	return c
}

func compressionOf(file string) string {
	switch filepath.Ext(file) {
	case ".gz", ".tgz":
		return "gzip"
	case ".zst", ".zstd", ".tzst":
		return "zstd"
	}
	return ""
}

// exportTo writes to a pipe or a file that the caller has opened.
func exportTo(ctx context.Context, img *layout.Image, w io.Writer, o layout.ExportOptions) error {
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return &usageError{"an archive is not for a terminal", "dlrun export IMAGE FILE"}
		}
	}
	return img.Export(ctx, w, o)
}

// writeArchive writes beside file and renames.
func writeArchive(ctx context.Context, img *layout.Image, file string, o layout.ExportOptions, force bool) error {
	return replace(file, force, func(pending *os.File) error {
		return img.Export(ctx, pending, o)
	})
}

// replace has write fill a file that gets its name when it is complete and on disk. Without force no file is
// replaced, also none that appears meanwhile.
func replace(file string, force bool, write func(*os.File) error) (err error) {
	exists := &usageError{file + " exists", "--force to replace it"}
	if fi, err := os.Lstat(file); err == nil && fi.IsDir() {
		return &usageError{file + " is a directory", ""}
	} else if err == nil && !force {
		return exists
	}
	pending, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".")
	if err != nil {
		return err
	}
	defer func() {
		if removed := os.Remove(pending.Name()); err == nil && !errors.Is(removed, os.ErrNotExist) {
			err = removed
		}
	}()
	defer pending.Close()
	if err := write(pending); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	umask := unix.Umask(0)
	unix.Umask(umask)
	if err := pending.Chmod(0o666 &^ os.FileMode(umask)); err != nil {
		return err
	}
	if err := pending.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if force {
		return os.Rename(pending.Name(), file)
	}
	switch err := os.Link(pending.Name(), file); {
	case errors.Is(err, os.ErrExist):
		return exists
	case err != nil: // a file system without hard links
		return os.Rename(pending.Name(), file)
	}
	return nil
}

// linkTo gives file a second name.
func linkTo(file, link string, force bool) error {
	if fi, err := os.Stat(link); err == nil && fi.IsDir() || strings.HasSuffix(link, "/") {
		link = filepath.Join(link, filepath.Base(file))
	}
	if _, err := os.Lstat(link); err == nil && force {
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	switch err := os.Link(file, link); {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrExist):
		return &usageError{link + " exists", "--force to replace it"}
	case errors.Is(err, os.ErrNotExist):
		return err
	}
	return replace(link, force, func(pending *os.File) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(pending, f)
		return err
	})
}
