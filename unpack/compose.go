package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stackedLayer is a layer in overlay form as compose looks at it.
type stackedLayer struct {
	fs      string
	implied map[string]bool
	hiding  [][]byte // directories that hold whiteouts
}

// compose marks the image as a stack of layers that are all in the store, with
// one more on top where an implied directory would hide what a lower layer says
// of it.
func (u *unpacking) compose(ctx context.Context) error {
	lock, err := u.lock(ctx, imageLock(u.id.chain), func() bool { return false })
	if err != nil {
		return err
	}
	defer lock.Close()
	if root, err := u.find(u.id); root != nil || err != nil {
		return err
	}
	mark := marker{Chain: u.id.chain}
	for i, d := range u.id.diffIDs {
		m, err := u.meta(d)
		if errors.Is(err, os.ErrNotExist) {
			return errGone
		}
		if err != nil {
			return fmt.Errorf("layer sha256:%s: %w", d, err)
		}
		if m.Opaque {
			// overlayfs takes no notice of an opaque root directory.
			mark.From = i
		}
	}
	mark.Layers = u.id.stack(mark.From)
	layers, times, err := u.Store.stack(mark.Layers)
	if err != nil {
		return err
	}
	mark.Times = times
	mends, err := mendings(ctx, layers)
	if err != nil {
		return err
	}
	if len(mends) > 0 {
		mark.Mended = true
		time, err := u.mend(mends)
		if err != nil {
			return fmt.Errorf("mend implied directories: %w", err)
		}
		mark.Times = append(mark.Times, time)
	}
	return u.mark(mark)
}

// stack returns layers as compose looks at them, and the times of their fs/.
func (s *Store) stack(diffIDs []string) (layers []stackedLayer, times []int64, err error) {
	for _, d := range diffIDs {
		m, err := s.meta(d)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, errGone
		}
		if err != nil {
			return nil, nil, fmt.Errorf("layer sha256:%s: %w", d, err)
		}
		l := stackedLayer{fs: filepath.Join(s.dir, "layers", d, "fs"), implied: map[string]bool{}, hiding: m.Hiding}
		for _, dir := range m.Implied {
			l.implied[string(dir)] = true
		}
		layers, times = append(layers, l), append(times, m.Time)
	}
	return layers, times, nil
}

// mendings returns the directories that the top layer is to hold, with those on
// the way to them. It returns errMerge where a directory is implied in place of
// something else, and where the caller cannot see what a layer has.
func mendings(ctx context.Context, layers []stackedLayer) (map[string]attributes, error) {
	mends := map[string]attributes{}
	mend := func(dir string) error {
		for a := dir; ; a = path.Dir(a) {
			if _, done := mends[a]; done {
				return nil
			}
			shown, err := look(layers, a)
			if err != nil {
				return err
			}
			mends[a] = shown.attributes
			if a == "." {
				return nil
			}
		}
	}
	for i, l := range layers {
		// The directory of one layer alone is shown as it is, whiteouts included; one of two layers is merged.
		for _, dir := range l.hiding {
			below, err := look(layers[:i], string(dir))
			if err != nil {
				return nil, err
			}
			shown, err := look(layers, string(dir))
			if err != nil {
				return nil, err
			}
			if !below.explicit && !below.implied && (shown.explicit || shown.implied) && string(dir) != "." {
				if err := mend(string(dir)); err != nil {
					return nil, err
				}
			}
		}
		for dir := range l.implied {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			below, err := look(layers[:i], dir)
			if err != nil {
				return nil, err
			}
			if below.other {
				return nil, errMerge
			}
			shown, err := look(layers, dir)
			if err != nil {
				return nil, err
			}
			if !shown.implied || !shown.explicit || shown.equal(attributes{mode: impliedMode, mtime: impliedTime}) {
				continue
			}
			// The upper layer of a run hides the time of the root anyway.
			if dir == "." && shown.mode == impliedMode && shown.xattrs == nil {
				continue
			}
			if err := mend(dir); err != nil {
				return nil, err
			}
		}
	}
	return mends, nil
}

// sight is what a stack of layers shows at a name.
type sight struct {
	attributes      // of a directory; those of the highest layer that has an entry for it
	implied    bool // the highest layer that has the directory implies it
	explicit   bool // some layer that shows has an entry for it
	other      bool // it is no directory
}

// look returns what the layers show at name, as overlayfs merges them.
func look(layers []stackedLayer, name string) (sight, error) {
	s := sight{attributes: attributes{mode: impliedMode, mtime: impliedTime}}
	for i, l := range slices.Backward(layers) {
		fi, covered, err := l.lookup(name)
		if err != nil {
			return s, err
		}
		switch {
		case fi == nil:
		case !fi.IsDir():
			// Below a directory that was seen, overlayfs stops here.
			s.other = !s.implied && !isWhiteout(fi)
			return s, nil
		case l.implied[name]:
			s.implied = true
		default:
			s.explicit = true
			s.attributes, err = attributesOf(filepath.Join(l.fs, name), fi)
			return s, err
		}
		if covered || i == 0 {
			break
		}
	}
	return s, nil
}

// lookup returns what the layer has at name, nil when nothing. covered says that
// it hides what lower layers have there.
func (l stackedLayer) lookup(name string) (fi os.FileInfo, covered bool, err error) {
	at := l.fs
	components := strings.Split(name, "/")
	for i, c := range components {
		at = filepath.Join(at, c)
		fi, err := os.Lstat(at)
		if errors.Is(err, os.ErrNotExist) {
			return nil, covered, nil
		}
		if errors.Is(err, os.ErrPermission) {
			return nil, false, errMerge // below a directory of mode 0000, say
		}
		if err != nil || i == len(components)-1 {
			return fi, covered, err
		}
		if !fi.IsDir() {
			return nil, true, nil
		}
		var value [2]byte
		if n, err := unix.Lgetxattr(at, opaqueXattr, value[:]); err == nil && n > 0 {
			covered = true
		}
	}
	return nil, covered, nil
}

// isWhiteout reports whether overlayfs takes it for one.
func isWhiteout(fi os.FileInfo) bool {
	return fi.Mode()&os.ModeCharDevice != 0 && fi.Sys().(*syscall.Stat_t).Rdev == 0
}

// mend makes the layer of directories and returns its time. What is there may be damaged, or the marker would be too.
func (u *unpacking) mend(mends map[string]attributes) (int64, error) {
	if err := u.retire("roots", u.id.chain); err != nil {
		return 0, err
	}
	w, err := u.newWork()
	if err != nil {
		return 0, err
	}
	defer w.discard()
	var dirs []string
	for dir := range mends {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs) // parents first
	for _, dir := range dirs {
		if dir != "." {
			if err := os.Mkdir(filepath.Join(w.fs(), dir), 0o700); err != nil {
				return 0, err
			}
		}
	}
	for _, dir := range slices.Backward(dirs) {
		if dir != "." {
			if err := mends[dir].apply(filepath.Join(w.fs(), dir)); err != nil {
				return 0, err
			}
		}
	}
	if err := mends["."].apply(w.fs()); err != nil {
		return 0, err
	}
	time, err := timeOf(w.fs())
	if err != nil {
		return 0, err
	}
	return time, w.publish("roots", u.id.chain)
}
