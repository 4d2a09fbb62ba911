package image

import (
	"archive/tar"
	"io"
	"maps"
	"path"
	"strings"
	"time"
)

// Epoch is the modification time of everything that is made here.
var epoch = time.Unix(1700000000, 0)

// Entry is one member of a layer: its header and, for files, its content.
type Entry struct {
	Header  tar.Header
	Content string
}

func entry(kind byte, name string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: epoch, Format: tar.FormatPAX}}
}

// Dir is a directory; name ends in a slash.
func Dir(name string, mode int64) Entry { return entry(tar.TypeDir, name, mode) }

// File is a regular file.
func File(name string, mode int64, content string) Entry {
	e := entry(tar.TypeReg, name, mode)
	e.Header.Size, e.Content = int64(len(content)), content
	return e
}

// Symlink points to target, which need not exist.
func Symlink(name, target string) Entry {
	e := entry(tar.TypeSymlink, name, 0o777)
	e.Header.Linkname = target
	return e
}

// Hardlink is another name of target, a member of this layer or of a lower one.
// Mode is the target's: some unpackers set it again.
func Hardlink(name, target string, mode int64) Entry {
	e := entry(tar.TypeLink, name, mode)
	e.Header.Linkname = target
	return e
}

// Device is a character device.
func Device(name string, mode, major, minor int64) Entry {
	e := entry(tar.TypeChar, name, mode)
	e.Header.Devmajor, e.Header.Devminor = major, minor
	return e
}

// Fifo is a named pipe.
func Fifo(name string, mode int64) Entry { return entry(tar.TypeFifo, name, mode) }

// Whiteout hides name of the lower layers.
func Whiteout(name string) Entry {
	return File(path.Join(path.Dir(name), ".wh."+path.Base(name)), 0, "")
}

// Opaque hides what the lower layers have in dir.
func Opaque(dir string) Entry { return File(path.Join(dir, ".wh..wh..opq"), 0, "") }

// Xattr is e with an extended attribute.
func (e Entry) Xattr(name, value string) Entry {
	e.Header.PAXRecords = maps.Clone(e.Header.PAXRecords)
	if e.Header.PAXRecords == nil {
		e.Header.PAXRecords = map[string]string{}
	}
	e.Header.PAXRecords["SCHILY.xattr."+name] = value
	return e
}

// Owner is e owned by uid and gid; the default is root.
func (e Entry) Owner(uid, gid int) Entry {
	e.Header.Uid, e.Header.Gid = uid, gid
	return e
}

// Layer writes itself as an uncompressed tar stream, the same at each call.
type Layer func(w io.Writer) error

// Entries is a layer made of entries.
func Entries(list ...Entry) Layer {
	return func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for _, e := range list {
			if err := tw.WriteHeader(&e.Header); err != nil {
				return err
			}
			if _, err := io.Copy(tw, strings.NewReader(e.Content)); err != nil {
				return err
			}
		}
		return tw.Close()
	}
}
