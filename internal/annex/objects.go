package annex

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// lookupsMax bounds the submodules that one search looks for, installed or not.
	lookupsMax = 1 << 16
	// linksMax is the kernel's bound on symlinks in one path.
	linksMax = 40
	// childrenMax is how many entries of a directory are looked at for datasets.
	childrenMax = 256
	// hashDirsMax is how many names prove a directory to be an annex's.
	hashDirsMax = 64
)

// search collects annex objects directories.
type search struct {
	home    string                 // physical, empty if unknown
	owned   func(path string) bool // belongs to the caller
	visible func(path string) bool // is seen inside, apart from the objects

	objects map[string]bool     // found so far
	visited map[string]bool     // roots
	modules map[string][]string // root -> registered paths
	lookups int
}

func newSearch(o Options) *search {
	s := &search{
		owned:   o.Owned,
		objects: map[string]bool{},
		visited: map[string]bool{},
		modules: map[string][]string{},
	}
	if s.owned == nil {
		s.owned = ownedByUser
	}
	home := o.Home
	if home == "" {
		home = os.Getenv("HOME")
	}
	if home, err := filepath.EvalSymlinks(home); err == nil && filepath.IsAbs(home) {
		s.home = home
	}
	return s
}

// ObjectsBelow returns the annex objects directories that files at or below
// path lead to: those of the repository that path lies in, also when path is
// an annexed file or a bare repository, and of the subdatasets installed
// below it; where path lies in none, those of the datasets directly in it. The paths are the host's, and as in [View] one directory may have
// two; a caller that binds path elsewhere must move those that lie within it.
// An error means that path does not resolve, or that there are more
// subdatasets than are followed.
func ObjectsBelow(path string) ([]string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fmt.Errorf("find annex objects: %w", err)
	}
	s := newSearch(Options{})
	s.visible = func(path string) bool { return within(path, real) }
	for dir := real; ; dir = filepath.Dir(dir) {
		r, ok := openRepository(dir)
		if !ok {
			r, ok = openGitDir(dir)
		}
		if ok {
			if err := s.repository(r); err != nil {
				return nil, err
			}
			return s.found(), nil
		}
		if dir == "/" {
			err := s.children(real)
			return s.found(), err
		}
	}
}

// children adds the objects of the datasets directly in dir: a directory of datasets is a common thing to work in
// or to bind. A directory with very many entries holds data, and is not looked through.
func (s *search) children(dir string) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil // a file, or nothing that can be listed
	}
	defer f.Close()
	entries, err := f.ReadDir(childrenMax + 1)
	if err != nil || len(entries) > childrenMax {
		return nil
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		// Whoever may write in dir could plant a repository there that keeps the caller from running.
		if r, ok := openRepository(filepath.Join(dir, e.Name())); ok && s.owned(r.root) {
			if err := s.repository(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *search) found() []string { return slices.Sorted(maps.Keys(s.objects)) }

// repository adds the objects of r, of the submodules kept in its git
// directory, and of the visible subdatasets installed below.
func (s *search) repository(r repository) error {
	if s.visited[r.root] {
		return nil
	}
	s.visited[r.root] = true
	s.annex(r)
	if s.visible(r.common) {
		if err := s.absorbed(r.common); err != nil {
			return err
		}
	}
	paths, err := s.submodules(r.root)
	if err != nil {
		return err
	}
	for _, path := range paths {
		root := filepath.Join(r.root, path)
		if !s.visible(root) {
			continue
		}
		if err := s.count(root); err != nil {
			return err
		}
		sub, ok := openRepository(root)
		if !ok || !withoutLinks(r.root, path) {
			continue
		}
		if err := s.repository(sub); err != nil {
			return err
		}
	}
	return nil
}

// submodules returns what the .gitmodules in root registers. One that is
// missing or unreadable registers nothing; one too large is an error, because
// the objects below would stay writable unnoticed.
func (s *search) submodules(root string) ([]string, error) {
	if paths, ok := s.modules[root]; ok {
		return paths, nil
	}
	text, err := readFile(filepath.Join(root, ".gitmodules"), gitmodulesMax)
	if errors.Is(err, errTooLarge) {
		return nil, fmt.Errorf("find subdatasets: %w", err)
	}
	if err == nil {
		s.modules[root] = submodulePaths(text)
	} else {
		s.modules[root] = nil
	}
	return s.modules[root], nil
}

// count bounds what a hostile or circular tree can cost.
func (s *search) count(path string) error {
	if s.lookups++; s.lookups > lookupsMax {
		return fmt.Errorf("find subdatasets: more than %d, stopped at %s", lookupsMax, path)
	}
	return nil
}

// absorbed adds the objects of submodules whose git directories lie in common,
// of this work tree and of linked ones, installed at present or not: they are
// seen with common, so they must be read-only with it.
func (s *search) absorbed(common string) error {
	if err := s.gitDirs(filepath.Join(common, "modules")); err != nil {
		return err
	}
	for _, worktree := range subdirectories(filepath.Join(common, "worktrees")) {
		if err := s.gitDirs(filepath.Join(worktree, "modules")); err != nil {
			return err
		}
	}
	return nil
}

// gitDirs descends from modules to the git directories: a submodule's name may have slashes.
func (s *search) gitDirs(modules string) error {
	for _, dir := range subdirectories(modules) {
		if err := s.count(dir); err != nil {
			return err
		}
		descend := s.gitDirs
		if r, ok := openGitDir(dir); ok {
			s.annex(r)
			descend = s.absorbed
		}
		if err := descend(dir); err != nil {
			return err
		}
	}
	return nil
}

func subdirectories(dir string) []string {
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

// annex adds the objects of r alone.
func (s *search) annex(r repository) {
	s.add(r, r.entry)
	if r.common != r.gitDir {
		s.add(r, r.common)
	}
}

// add adds the objects of r reached from entry. They are listed at their
// physical path and, if the way there leads through a link that the command
// does not see, also at the path where it would meet that link.
func (s *search) add(r repository, entry string) {
	objects, alias, err := s.follow(filepath.Dir(entry), filepath.Base(entry)+"/annex/objects")
	if err != nil || objects != filepath.Join(r.common, "annex/objects") && !holdsObjects(objects) {
		return
	}
	if !within(objects, r.root) && s.owned(objects) && !s.owned(r.root) {
		return
	}
	s.objects[objects] = true
	if alias != "" {
		s.objects[alias] = true
	}
}

// follow resolves path below dir, which is physical, to a directory. Alias is
// the path at which the first invisible link on the way would be met.
func (s *search) follow(dir, path string) (real, alias string, err error) {
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			dir = filepath.Dir(dir)
			continue
		}
		here := filepath.Join(dir, name)
		fi, err := os.Lstat(here)
		if err != nil {
			return "", "", err
		}
		if fi.Mode()&os.ModeSymlink == 0 {
			if !fi.IsDir() {
				return "", "", &fs.PathError{Op: "follow", Path: here, Err: syscall.ENOTDIR}
			}
			dir = here
			continue
		}
		if links++; links > linksMax {
			return "", "", &fs.PathError{Op: "follow", Path: here, Err: syscall.ELOOP}
		}
		if alias == "" && !s.visible(here) && !slices.Contains(rest, "..") {
			alias = filepath.Join(here, filepath.Join(rest...))
		}
		target, err := os.Readlink(here)
		if err != nil {
			return "", "", err
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return dir, alias, nil
}

// withoutLinks reports whether every component of path below root is a directory itself.
func withoutLinks(root, path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		root = filepath.Join(root, name)
		if fi, err := os.Lstat(root); err != nil || !fi.IsDir() {
			return false
		}
	}
	return true
}

// holdsObjects reports whether a directory that a link led to is an annex's
// objects: by its place in a git directory, or, for objects that were moved
// to another file system, by its hash directories ("vK" or "3a8").
func holdsObjects(dir string) bool {
	if gitDir, ok := strings.CutSuffix(dir, "/annex/objects"); ok && isGitDir(gitDir) {
		return true
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(hashDirsMax)
	return len(names) > 0 && !slices.ContainsFunc(names, func(name string) bool { return !isHashDir(name) })
}

// isHashDir knows both layouts of git-annex's internals/hashing: two letters or digits of either case, or three of hex.
func isHashDir(name string) bool {
	const hex = "0123456789abcdef"
	switch len(name) {
	case 2:
		return isKeyByte(name[0]) && isKeyByte(name[1]) && !strings.Contains(name, "-")
	case 3:
		return strings.Trim(name, hex) == ""
	}
	return false
}
