package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// shown is a host directory and where it is seen.
type shown struct{ source, destination string }

// seen lists what a run sees of the host unasked: datasets and cwd at their physical
// paths, once more where the caller's spelling of cwd leads, and annex objects that
// lie elsewhere.
func seen(host Host) []shown {
	var list []shown
	show := func(dir string) {
		if !slices.ContainsFunc(list, func(s shown) bool { return within(dir, s.destination) }) {
			list = append(list, shown{dir, dir})
		}
	}
	datasets := slices.Sorted(slices.Values(host.Datasets)) // outer ones first
	for _, dir := range datasets {
		show(dir)
	}
	show(host.PhysicalCwd)
	// A spelling that runs through what is seen already needs no bind: the symlink
	// itself lies there.
	if s := spelled(host, datasets); !slices.ContainsFunc(list, func(o shown) bool { return within(s.destination, o.destination) }) {
		list = append(list, s)
	}
	// cwd = HOME by another spelling: the bind wins over the private HOME.
	if home := homeDir(host); host.Paths[host.Home].Physical == host.PhysicalCwd && home != host.Cwd && home != host.PhysicalCwd {
		list = append(list, shown{host.PhysicalCwd, home})
	}
	for _, dir := range slices.Sorted(slices.Values(host.Objects)) {
		show(dir)
	}
	return list
}

// spelled is the bind that makes host.Cwd, the caller's spelling, work inside: of
// the outermost dataset whose paths the spelling ends in, so that annex symlinks out
// of cwd work there too, else of cwd alone.
func spelled(host Host, datasets []string) shown {
	for _, dir := range datasets {
		if !within(host.PhysicalCwd, dir) {
			continue
		}
		prefix, ok := strings.CutSuffix(host.Cwd, strings.TrimPrefix(host.PhysicalCwd, dir))
		if ok && prefix != "" && !systemDir(prefix) {
			return shown{dir, prefix}
		}
	}
	return shown{host.PhysicalCwd, host.Cwd}
}

// showCwd reports whether cwd and its datasets are bound. They are not when cwd is a
// system directory, which is an error unless -w or a volume says where to start.
func showCwd(host Host, o Options, explicit []volume) (bool, error) {
	dir := host.Cwd
	if !systemDir(dir) {
		if dir = host.PhysicalCwd; !systemDir(dir) {
			return true, nil
		}
	}
	covers := func(v volume) bool { return within(host.Cwd, v.destination) }
	if o.Workdir != "" || slices.ContainsFunc(explicit, covers) {
		return false, nil
	}
	return false, &hinted{
		fmt.Sprintf("the current directory %s is the system's: bound, it would hide the image's", dir),
		"-w PATH to start elsewhere, or -v SRC:DST to bind what is needed",
	}
}

// systemDir reports whether p is the root or belongs to the operating system, so that
// a bind of the host's would break the image. /dev/shm is the host's in any case.
func systemDir(p string) bool {
	if p == "/" {
		return true
	}
	if within(p, "/dev/shm") {
		return false
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path.Clean(p), "/"), "/")
	switch first {
	case "usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "dev", "proc", "sys", "boot":
		return true
	}
	return false
}
