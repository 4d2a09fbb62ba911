package unpack

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// kind is what the name of an entry makes of it.
type kind int

const (
	plain    kind = iota
	root          // the root directory itself
	whiteout      // base does not exist in lower layers
	opaque        // dir shows nothing of lower layers
	skipped       // AUFS book-keeping, which old Docker wrote into layers
)

const (
	whPrefix = ".wh."
	whMeta   = ".wh..wh."
	whOpaque = ".wh..wh..opq"
)

// parse splits the name of an entry into the directory and the name in it,
// which for a whiteout is the name that is hidden. Both are clean, relative and
// without "..": as tar does, what leads out of the root is cut off.
func (l Limits) parse(name string) (dir, base string, k kind, err error) {
	clean, err := l.clean(name)
	if err != nil {
		return "", "", 0, err
	}
	if clean == "." {
		return ".", ".", root, nil
	}
	dir, base = path.Dir(clean), path.Base(clean)
	for c := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(c, whMeta) {
			return "", "", skipped, nil
		}
		if strings.HasPrefix(c, whPrefix) {
			return "", "", 0, errors.New("invalid name: it lies below a whiteout")
		}
	}
	hidden, isWhiteout := strings.CutPrefix(base, whPrefix)
	switch {
	case !isWhiteout:
		return dir, base, plain, nil
	case base == whOpaque:
		return dir, base, opaque, nil
	case strings.HasPrefix(base, whMeta):
		return "", "", skipped, nil
	case hidden == "", hidden == ".", hidden == "..":
		// umoci 0.6.0 takes ".wh..." for a whiteout of the parent, and at
		// the root removes the directory that holds the root.
		return "", "", 0, errors.New("invalid whiteout name")
	}
	return dir, hidden, whiteout, nil
}

// quote spells a name for a message, the beginning of a long one.
func quote(name string) string {
	const most = 120
	if len(name) > most {
		return fmt.Sprintf("%q… (%d bytes)", name[:most], len(name))
	}
	return strconv.Quote(name)
}

// clean returns name relative to the root, or why it cannot be a name.
func (l Limits) clean(name string) (string, error) {
	switch {
	case name == "":
		return "", errors.New("invalid name: it is empty")
	case int64(len(name)) > l.Path:
		return "", fmt.Errorf("invalid name: %d bytes, more than %d", len(name), l.Path)
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("invalid name: it holds a NUL byte")
	}
	clean := path.Clean("/" + name)[1:]
	if clean == "" {
		return ".", nil
	}
	depth := int64(0)
	for c := range strings.SplitSeq(clean, "/") {
		if len(c) > 255 {
			return "", fmt.Errorf("invalid name: a component of %d bytes, more than 255", len(c))
		}
		depth++
	}
	if depth > l.Depth {
		return "", &LimitError{"depth", "directories below each other", l.Depth}
	}
	return clean, nil
}
