package layout

import (
	"fmt"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// MissingError says that content of the image is not here: a dropped annexed
// file, or a blob that was never there. Errors from [Open], [Image.CheckLayers]
// and a layer's Compressed wrap it; CheckLayers is the one that names all
// missing layers at once.
type MissingError struct {
	// Dir holds the blobs, spelled as the caller spelled it.
	Dir string
	// Blobs are the missing ones, in the order of the manifest, never empty.
	Blobs []MissingBlob
}

// MissingBlob is one file whose content is not here.
type MissingBlob struct {
	// Digest is sha256:HEX; empty for index.json.
	Digest string
	// Path is where the content was looked for.
	Path string
	// Key is the git-annex key of the content; empty when the file is not annexed.
	Key string
	// Size of the content in bytes, from the descriptor, else from the key; 0 when unknown.
	Size int64
}

// Error names the first blob and its key, and counts all.
func (e *MissingError) Error() string {
	first := e.Blobs[0]
	name := first.Path
	if first.Digest != "" {
		name = "blob " + first.Digest
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s is missing in %s", name, e.Dir)
	if first.Key != "" {
		fmt.Fprintf(&b, " (annex key %s)", first.Key)
	}
	// A docker save does not call its layers by digests.
	if file, ok := strings.CutPrefix(first.Path, e.Dir+"/"); ok && first.Digest != "" && !strings.Contains(file, strings.TrimPrefix(first.Digest, "sha256:")) {
		fmt.Fprintf(&b, " at %s", file)
	}
	var size int64
	for _, m := range e.Blobs {
		size += m.Size
	}
	files := "1 file"
	if n := len(e.Blobs); n != 1 {
		files = fmt.Sprintf("%d files", n)
	}
	fmt.Fprintf(&b, "; %s", files)
	if size > 0 {
		fmt.Fprintf(&b, ", %s in all", humanBytes(size))
	}
	return b.String()
}

// Hint is the command that gets the content, or empty when no missing file is
// annexed, for then no command is known to help.
func (e *MissingError) Hint() string {
	for _, m := range e.Blobs {
		if m.Key != "" {
			return "datalad get " + shellQuote(e.Dir)
		}
	}
	return ""
}

// DamagedError says that a file of the image is here and is not what it should be: of another digest or size, or no document.
type DamagedError struct {
	// Digest is the one that it should have; the zero value for index.json, which has none.
	Digest v1.Hash
	text   string
}

func (e *DamagedError) Error() string { return e.text }

// damaged is the error for the blob d in a place.
func damaged(d v1.Descriptor, in, format string, args ...any) error {
	return &DamagedError{d.Digest, fmt.Sprintf("blob %s in %s: ", d.Digest, in) + fmt.Sprintf(format, args...)}
}

// humanBytes gives a size in decimal units, as git-annex does, and exactly.
func humanBytes(n int64) string {
	if n == 1 {
		return "1 byte"
	}
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		value /= 1000
		if value < 999.95 {
			break
		}
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + unit + fmt.Sprintf(" (%d bytes)", n)
}
