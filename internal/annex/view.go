package annex

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Bind is a host directory that a run sees at its own path. The path of an
// annex objects directory may lead through symlinks: where a link in a dataset
// names it so, it is listed under that name too.
type Bind struct {
	Path     string
	ReadOnly bool
}

// View is what a command sees of the host beside its working directory.
type View struct {
	// Datasets are datasets and git directories, sorted: outermost first. None lies in another writable one.
	Datasets []Bind
	// Objects are annex objects directories, sorted, all read-only, to be mounted after the datasets.
	Objects []Bind
}

// Options say who the caller is.
type Options struct {
	// Home is the caller's home directory; empty means $HOME.
	Home string
	// Owned reports whether a directory belongs to the caller; nil compares its owner with os.Getuid.
	Owned func(path string) bool
}

// Find returns what a command in dir must see so that git and the annexed
// files work there. Dir is absolute, physical (no symlink in it) and exists;
// it is itself bound by the caller and only listed when it is a dataset.
//
// The dataset that holds dir is bound, then its superdatasets as far as each
// registers the next in .gitmodules, up to the first that is the home
// directory, holds it, or is another user's. Where this already stops at the
// dataset that holds dir, its annex objects are listed without it. Where dir is in no
// dataset, the annex objects of the datasets directly in dir are listed.
//
// What cannot be read counts as absent. An error means that dir is unusable,
// or that there are more subdatasets than Find follows.
func Find(dir string, o Options) (View, error) {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return View{}, fmt.Errorf("find the dataset of %q: not an absolute, clean path", dir)
	}
	if fi, err := os.Stat(dir); errors.Is(err, fs.ErrPermission) {
		return View{}, nil // as all that cannot be read; a process may be in a directory that it could not go to
	} else if err != nil {
		return View{}, fmt.Errorf("find the dataset: %w", err)
	} else if !fi.IsDir() {
		return View{}, fmt.Errorf("find the dataset: %s is not a directory", dir)
	}
	s := newSearch(o)
	outermost, ok := enclosing(dir)
	if !ok {
		s.visible = func(path string) bool { return within(path, dir) }
		if err := s.children(dir); err != nil {
			return View{}, err
		}
		return s.view(nil), nil
	}
	chain, err := s.climb(outermost)
	if err != nil {
		return View{}, err
	}
	if len(chain) > 0 {
		outermost = chain[len(chain)-1]
	}
	datasets := s.datasets(chain)
	s.visible = func(path string) bool {
		return within(path, dir) || slices.ContainsFunc(datasets, func(b Bind) bool { return within(path, b.Path) })
	}
	// Whoever may write above dir could plant a repository there that has too
	// many submodules; it must not keep the caller from running.
	if err := s.repository(outermost); err != nil && s.owned(outermost.root) {
		return View{}, err
	}
	return s.view(datasets), nil
}

func (s *search) view(datasets []Bind) View {
	view := View{Datasets: datasets}
	for _, path := range s.found() {
		view.Objects = append(view.Objects, Bind{Path: path, ReadOnly: true})
	}
	return view
}

// climb returns r and its superdatasets, innermost first, as far as they may be bound.
func (s *search) climb(r repository) ([]repository, error) {
	var chain []repository
	for ok := true; ok && s.narrow(r.root) && s.owned(r.root); {
		if len(chain) > 0 {
			paths, err := s.submodules(r.root)
			if err != nil {
				return nil, err
			}
			sub := chain[len(chain)-1].root
			if !slices.Contains(paths, strings.TrimPrefix(sub, r.root+"/")) {
				break
			}
		}
		chain = append(chain, r)
		r, ok = enclosing(filepath.Dir(r.root))
	}
	return chain, nil
}

// datasets returns the binds of a chain: its outermost root, which holds the
// others, and the git directories that lie outside of it.
func (s *search) datasets(chain []repository) []Bind {
	var binds []Bind
	for i, r := range slices.Backward(chain) {
		if i == len(chain)-1 {
			binds = append(binds, Bind{Path: r.root})
		}
		if s.narrow(r.common) && !within(r.common, binds[0].Path) {
			binds = append(binds, Bind{Path: r.common, ReadOnly: !s.owned(r.common) || !r.leadsBack()})
		}
	}
	slices.SortFunc(binds, func(a, b Bind) int { return strings.Compare(a.Path, b.Path) })
	// Sorted, whatever covers a bind comes before it.
	var kept []Bind
	for _, b := range binds {
		covered := func(k Bind) bool {
			return within(b.Path, k.Path) && (!k.ReadOnly || k.Path == b.Path)
		}
		if !slices.ContainsFunc(kept, covered) {
			kept = append(kept, b)
		}
	}
	return kept
}

// narrow reports whether binding path would leave the home directory unseen.
func (s *search) narrow(path string) bool {
	return path != "/" && (s.home == "" || !within(s.home, path))
}

// ownedByUser is the ownership test of the zero Options.
func ownedByUser(path string) bool {
	fi, err := os.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// within reports whether path is dir or lies below it; both are clean and absolute.
func within(path, dir string) bool {
	if !strings.HasPrefix(path, dir) {
		return false
	}
	return len(path) == len(dir) || dir == "/" || path[len(dir)] == '/'
}
