package rendezvous

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir returns the directory of meetings, and makes it. All ranks of a step on one node find the same one, whatever their
// environments say.
func Dir() (string, error) {
	var why []string
	for _, base := range []string{"/tmp", "/var/tmp"} {
		dir := filepath.Join(base, fmt.Sprintf("dlrun-%d", os.Getuid()), "steps")
		err := ownDir(filepath.Dir(dir))
		if err == nil {
			err = ownDir(dir)
		}
		if err == nil {
			return dir, nil
		}
		why = append(why, err.Error())
	}
	return "", errors.New("no place where ranks can meet: " + strings.Join(why, "; "))
}

// ownDir makes a directory that is closed to others, or refuses one that is not.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is not a directory", dir)
	case int(st.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to uid %d", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return fmt.Errorf("%s is open to others (mode %04o)", dir, st.Mode&0o7777)
	}
	return nil
}
