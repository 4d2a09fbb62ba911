package unpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/userns"
)

// trusted are the uids that may have written what is used.
type trusted []int

// overflowUID stands for all users that a user namespace does not map. In one, as in a container, the directories
// above are root's and show it: whoever made the container rules there anyway.
const overflowUID = 65534

// judge returns why others could have written to path, or nil. A directory on
// the way may be sticky: what lies in it is judged in its turn, and no one but
// its owner can replace it.
func (t trusted) judge(path string, fi fs.FileInfo, onTheWay bool) error {
	uid := owner(fi)
	if !slices.Contains(t, uid) && !(onTheWay && uid == overflowUID && userns.RunningInUserNS()) {
		return &UntrustedError{path, fmt.Sprintf("belongs to uid %d", uid)}
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return nil
	}
	if fi.Mode().Perm()&0o022 != 0 && !(onTheWay && fi.IsDir() && fi.Mode()&os.ModeSticky != 0) {
		return &UntrustedError{path, fmt.Sprintf("can be written by others (mode %04o)", fi.Mode().Perm())}
	}
	return nil
}

// check judges path itself, which is not to be a symlink.
func (t trusted) check(path string) (fs.FileInfo, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return nil, &UntrustedError{path, "is a symlink"}
	}
	return fi, t.judge(path, fi, false)
}

// place is a directory that was judged together with all on the way to it.
type place struct {
	path   string      // without symlinks
	info   fs.FileInfo // nil when it does not exist
	closed bool        // a directory on the way keeps others out
}

// resolve walks from / to path, which is absolute, and judges each step and each
// symlink. Below the first directory that does not exist nothing is judged.
func (t trusted) resolve(path string) (place, error) {
	p := place{path: "/"}
	todo := strings.Split(path, "/")
	for links := 0; ; {
		fi, err := os.Lstat(p.path)
		if errors.Is(err, fs.ErrNotExist) {
			p.path = filepath.Join(append([]string{p.path}, todo...)...)
			return p, nil
		}
		if err != nil {
			return p, err
		}
		for len(todo) > 0 && (todo[0] == "" || todo[0] == ".") {
			todo = todo[1:]
		}
		if err := t.judge(p.path, fi, len(todo) > 0); err != nil {
			return p, err
		}
		switch {
		case fi.Mode()&os.ModeSymlink != 0:
			if links++; links > 40 {
				return p, &UntrustedError{path, "has too many symlinks"}
			}
			target, err := os.Readlink(p.path)
			if err != nil {
				return p, err
			}
			todo = append(strings.Split(target, "/"), todo...)
			p.path = filepath.Dir(p.path)
			if filepath.IsAbs(target) {
				p.path = "/"
			}
			continue
		case !fi.IsDir():
			return p, fmt.Errorf("%s is not a directory", p.path)
		case len(todo) == 0:
			p.info = fi
			return p, nil
		}
		p.closed = p.closed || fi.Mode().Perm()&0o011 == 0
		p.path = filepath.Join(p.path, todo[0]) // ".." too: no symlink is before it
		todo = todo[1:]
	}
}

func owner(fi fs.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Uid) }
