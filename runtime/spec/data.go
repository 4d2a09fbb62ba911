package spec

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Bind is a directory that is seen at its own path.
type Bind struct {
	Path     string
	ReadOnly bool
}

// shown is a host directory and where it is seen.
type shown struct {
	source, destination string
	readOnly            bool
}

// seen lists what a run sees of the host unasked: datasets and cwd at their physical
// paths, once more where the caller's spelling of cwd leads, and annex objects that
// lie elsewhere.
func seen(host Host, annexRW bool) []shown {
	var list []shown
	show := func(b Bind) {
		covered := func(s shown) bool { return within(b.Path, s.destination) && (b.ReadOnly || !s.readOnly) }
		if !slices.ContainsFunc(list, covered) {
			list = append(list, shown{b.Path, b.Path, b.ReadOnly})
		}
	}
	datasets := slices.Clone(host.Datasets)
	slices.SortFunc(datasets, func(a, b Bind) int { return strings.Compare(a.Path, b.Path) }) // outer ones first
	for _, b := range datasets {
		show(b)
	}
	show(Bind{Path: host.PhysicalCwd})
	// A spelling that runs through what is seen already needs no bind: the symlink
	// itself lies there.
	if !slices.ContainsFunc(list, func(s shown) bool { return within(host.Cwd, s.destination) }) {
		list = append(list, spelled(host, datasets))
	}
	// cwd = HOME by another spelling: the bind wins over the private HOME.
	if home := homeDir(host); host.Paths[host.Home].Physical == host.PhysicalCwd && home != host.Cwd && home != host.PhysicalCwd {
		list = append(list, shown{source: host.PhysicalCwd, destination: home})
	}
	for _, dir := range slices.Sorted(slices.Values(host.Objects)) {
		show(Bind{dir, !annexRW})
	}
	return list
}

// spelled is the bind that makes host.Cwd, the caller's spelling, work inside. It
// begins as far up in the dataset as that spelling leads, so that the relative
// symlinks into the annex work there too.
func spelled(host Host, datasets []Bind) shown {
	s := shown{source: host.PhysicalCwd, destination: host.Cwd}
	for _, dataset := range datasets {
		if dataset.ReadOnly || !within(s.source, dataset.Path) {
			continue
		}
		for s.source != dataset.Path {
			up := path.Dir(s.destination)
			if systemDir(up) || host.Paths[up].Physical != path.Dir(s.source) {
				break
			}
			s.source, s.destination = path.Dir(s.source), up
		}
		break
	}
	return s
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
