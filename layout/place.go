package layout

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// place is where the files of an image lie, by names relative to it and with
// slashes: a directory or an archive.
type place interface {
	// dir is the place in the caller's spelling, for messages.
	dir() string

	// kind is what the place is, for people: "directory", "archive (gzip)".
	kind() string

	// has says whether there is anything of this name, absent content included.
	has(name string) bool

	// names are the names of what is in a directory, sorted.
	names(dir string) []string

	// open opens a regular file and gives its size in bytes. Links are
	// followed. A file that is not there is a *MissingError that names it alone,
	// without a digest.
	open(name string) (io.ReadCloser, int64, error)

	// path is where the file is, for messages.
	path(name string) string

	// size is that of a file which need not be there, as far as it is known
	// without opening it, else 0.
	size(name string) int64

	// key is the git-annex key of a file, empty when it is not annexed or
	// nothing on disk tells.
	key(name string) string
}

// directory is a place whose files may be symlinks, annexed ones, pointers.
type directory string

func (d directory) dir() string             { return string(d) }
func (d directory) kind() string            { return "directory" }
func (d directory) path(name string) string { return string(d) + "/" + name }

func (d directory) has(name string) bool {
	_, err := os.Lstat(d.path(name))
	return err == nil
}

func (d directory) names(dir string) []string {
	entries, err := os.ReadDir(d.path(dir))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (d directory) open(name string) (io.ReadCloser, int64, error) {
	f, size, err := openPresent(d.path(name))
	var absent *absentError
	if errors.As(err, &absent) {
		return nil, 0, &MissingError{Dir: string(d), Blobs: []MissingBlob{absent.blob}}
	}
	if err != nil {
		return nil, 0, err
	}
	return f, size, nil
}

func (d directory) size(name string) int64 {
	fi, err := os.Stat(d.path(name))
	if err != nil {
		return keySize(linkKey(d.path(name)))
	}
	if fi.Size() < maxPointerSize {
		if key := d.pointer(name); key != "" {
			return keySize(key)
		}
	}
	return fi.Size()
}

func (d directory) key(name string) string {
	if key := linkKey(d.path(name)); key != "" {
		return key
	}
	return d.pointer(name)
}

// pointer is the key of a pointer file.
func (d directory) pointer(name string) string {
	f, size, err := openRegular(d.path(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	return filePointerKey(f, size)
}

// absentError says that there is no content at a path.
type absentError struct {
	blob MissingBlob
	err  error
}

func (e *absentError) Error() string { return e.err.Error() }
func (e *absentError) Unwrap() error { return e.err }

// openPresent is openRegular of a file whose content may be elsewhere, which is
// an *absentError: nothing is there, a locked file dangles, or a pointer file
// stands for the content.
func openPresent(path string) (*os.File, int64, error) {
	f, size, err := openRegular(path)
	key := ""
	switch {
	case errors.Is(err, os.ErrNotExist):
		key = linkKey(path)
	case err != nil:
		return nil, 0, err
	default:
		if key = filePointerKey(f, size); key == "" {
			return f, size, nil
		}
		f.Close()
		err = fmt.Errorf("%s is a git-annex pointer: %w", path, os.ErrNotExist)
	}
	return nil, 0, &absentError{MissingBlob{Path: path, Key: key, Size: keySize(key)}, err}
}

// readNamed reads a whole file that no descriptor vouches for, at most limit
// bytes; what says what it should be, limitName what the command line calls the
// limit, empty when it does not.
func readNamed(p place, name, what string, limit int64, limitName string) ([]byte, error) {
	f, _, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.path(name), err)
	}
	if int64(len(raw)) <= limit {
		return raw, nil
	}
	const tooLong = "%s is not %s: it has more than %d bytes"
	if limitName == "" {
		return nil, fmt.Errorf(tooLong, p.path(name), what, limit)
	}
	return nil, beyond(limitName, tooLong, p.path(name), what, limit)
}
