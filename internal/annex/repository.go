package annex

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// pointerMax bounds the files that hold one path: .git, commondir, gitdir.
const pointerMax = 2 * unix.PathMax

// repository is a git work tree, or a git directory on its own.
type repository struct {
	root   string // the work tree, or a bare repository's git directory
	entry  string // where annexed files enter: root/.git unless that is a file, else gitDir
	gitDir string // physical; private to a linked worktree
	common string // physical; what all worktrees share
}

// enclosing returns the innermost repository whose work tree holds dir.
func enclosing(dir string) (repository, bool) {
	for {
		if r, ok := openRepository(dir); ok {
			return r, true
		}
		if dir == "/" {
			return repository{}, false
		}
		dir = filepath.Dir(dir)
	}
}

// openRepository returns the repository whose work tree is root, a physical
// path. A .git that leads to no git directory makes no repository.
func openRepository(root string) (repository, bool) {
	dotGit := filepath.Join(root, ".git")
	fi, err := os.Lstat(dotGit)
	if err != nil {
		return repository{}, false
	}
	r := repository{root: root, entry: dotGit, gitDir: dotGit}
	if fi.Mode()&os.ModeSymlink != 0 {
		if r.gitDir, err = filepath.EvalSymlinks(dotGit); err != nil {
			return repository{}, false
		}
		if fi, err = os.Lstat(r.gitDir); err != nil {
			return repository{}, false
		}
	}
	if fi.Mode().IsRegular() {
		target, ok := readPointer(r.gitDir, "gitdir: ", root)
		if !ok {
			return repository{}, false
		}
		r.entry, r.gitDir = target, target
	} else if !fi.IsDir() {
		return repository{}, false
	}
	return r.share()
}

// openGitDir returns the repository whose git directory dir is, a physical path.
func openGitDir(dir string) (repository, bool) {
	return repository{root: dir, entry: dir, gitDir: dir}.share()
}

// share fills in the common git directory and reports whether there is one.
// Git makes a worktree's own directory below the common one, so a commondir
// that leads anywhere else is not believed.
func (r repository) share() (repository, bool) {
	r.common = r.gitDir
	common, ok := readPointer(filepath.Join(r.gitDir, "commondir"), "", r.gitDir)
	if ok && within(r.gitDir, common) && exists(filepath.Join(r.gitDir, "HEAD")) {
		r.common = common
	}
	return r, isGitDir(r.common)
}

// leadsBack reports whether the git directory, lying outside of the work tree,
// names that work tree or lies where git keeps its submodules' directories. A
// .git that merely points at a git directory may have been made by anyone.
func (r repository) leadsBack() bool {
	if super, _, ok := strings.Cut(r.common, "/.git/modules/"); ok && within(r.root, super) {
		return true
	}
	text, err := readFile(filepath.Join(r.gitDir, "gitdir"), pointerMax)
	if err != nil {
		return false
	}
	dotGit := absolute(strings.TrimRight(string(text), "\r\n"), r.gitDir)
	root, err := filepath.EvalSymlinks(filepath.Dir(dotGit))
	return err == nil && root == r.root && filepath.Base(dotGit) == ".git"
}

// isGitDir reports whether dir looks like a git directory: HEAD and objects.
func isGitDir(dir string) bool {
	if !exists(filepath.Join(dir, "HEAD")) {
		return false
	}
	fi, err := os.Stat(filepath.Join(dir, "objects"))
	return err == nil && fi.IsDir()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// readPointer returns the physical directory that the file names after prefix, relative to base.
func readPointer(file, prefix, base string) (string, bool) {
	text, err := readFile(file, pointerMax)
	if err != nil {
		return "", false
	}
	target, ok := bytes.CutPrefix(text, []byte(prefix))
	target = bytes.TrimRight(target, "\r\n")
	if !ok || len(target) == 0 {
		return "", false
	}
	dir, err := filepath.EvalSymlinks(absolute(string(target), base))
	if err != nil {
		return "", false
	}
	fi, err := os.Lstat(dir)
	return dir, err == nil && fi.IsDir()
}

// absolute joins without cleaning: a ".." behind a symlink is the kernel's to resolve.
func absolute(path, base string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return base + "/" + path
}

// errTooLarge is wrapped by readFile for a file above its limit.
var errTooLarge = errors.New("file is larger than any real one")

// readFile reads a regular file of at most limit bytes. It never follows a
// link in the last place nor waits for a fifo's writer.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("read %s: %w (limit %d bytes)", path, errTooLarge, limit)
	}
	return data, err
}
