package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tmpdirMounts binds the temporary directories of `datalad run` that the command names: {tmpdir} of a call is a directory below
// $TMPDIR or /tmp, which the private /tmp would hide.
func tmpdirMounts(command []string) []string {
	var dirs []string
	// The order of Python's tempfile.gettempdir.
	for _, base := range []string{os.Getenv("TMPDIR"), os.Getenv("TEMP"), os.Getenv("TMP"), "/tmp", "/var/tmp"} {
		if !filepath.IsAbs(base) {
			continue
		}
		name := regexp.MustCompile(regexp.QuoteMeta(strings.TrimRight(base, "/")) + `/+datalad-run-[A-Za-z0-9_]+`)
		for _, word := range command {
			for _, dir := range name.FindAllString(word, -1) {
				if dir = filepath.Clean(dir); isOwnDirectory(dir) {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	slices.Sort(dirs)
	var mounts []string
	for _, dir := range slices.Compact(dirs) {
		quoted := strings.ReplaceAll(dir, `"`, `""`)
		mounts = append(mounts, fmt.Sprintf(`type=bind,"src=%s","dst=%s"`, quoted, quoted))
	}
	return mounts
}

func isOwnDirectory(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && int(st.Uid) == os.Getuid()
}
