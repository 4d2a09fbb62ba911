package layout

import (
	"bytes"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/dlrun/dlrun/internal/lazy"
)

// objects is the part of a path below which git-annex keeps content, in a
// symlink's target and at the head of a pointer file.
const objects = "/annex/objects/"

// annexKey matches BACKEND[-sSIZE][-mMTIME][-SCHUNK-CCHUNK]--NAME, see
// https://git-annex.branchable.com/internals/key_format/.
var annexKey = lazy.Regexp(`^[A-Z0-9_]+(?:-[a-zA-Z][0-9]+)*--[^/\x00\n]+$`)

var annexKeySize = lazy.Regexp(`^[A-Z0-9_]+(?:-[a-zA-Z][0-9]+)*?-s([0-9]+)-`)

// keySize is the number of bytes that a key says its content has, 0 if it says none.
func keySize(key string) int64 {
	m := annexKeySize().FindStringSubmatch(key)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// pointerKey is the key that a pointer file with this content stands for,
// empty if it is none.
func pointerKey(content []byte) string {
	if len(content) >= maxPointerSize || !bytes.HasPrefix(content, []byte(objects)) {
		return ""
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	// A clone with core.autocrlf ends the line with CR LF.
	key := path.Base(strings.TrimSuffix(string(line), "\r"))
	if !annexKey().MatchString(key) {
		return ""
	}
	return key
}

// filePointerKey is pointerKey of an open file of the given size; the file's
// offset stays.
func filePointerKey(f io.ReaderAt, size int64) string {
	if size >= maxPointerSize {
		return ""
	}
	content := make([]byte, size)
	n, err := f.ReadAt(content, 0)
	if err != nil && err != io.EOF {
		return ""
	}
	return pointerKey(content[:n])
}

// linkKey is the key of the annex object at the end of a chain of symlinks,
// whether the object is there or not; empty if the chain ends elsewhere.
func linkKey(name string) string {
	key := ""
	for range maxLinks {
		target, err := os.Readlink(name)
		if err != nil {
			return key
		}
		if base := path.Base(target); strings.Contains(target, objects) && annexKey().MatchString(base) {
			key = base
		}
		name = besideLink(name, target)
	}
	return ""
}

// besideLink is the path that the symlink name with this target leads to. It
// is joined without cleaning: a/../b is not b where a is itself a symlink.
func besideLink(name, target string) string {
	if path.IsAbs(target) {
		return target
	}
	return dirOf(name) + "/" + target
}

// dirOf is all before the last slash, uncleaned, "." when there is none.
func dirOf(name string) string {
	switch i := strings.LastIndexByte(name, '/'); {
	case i < 0:
		return "."
	case i == 0:
		return "/"
	default:
		return name[:i]
	}
}
