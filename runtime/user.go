package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Annotations of the spec: the lines of the caller, put before the image's own in /etc/passwd and /etc/group,
// so that a name of the image for the same number does not win.
const (
	passwdAnnotation = "org.dlrun.passwd"
	groupAnnotation  = "org.dlrun.group"
)

// maxFile bounds what is read of a file of an image, in bytes.
const maxFile = 4 << 20

// addUser binds a passwd and a group file that know the caller over the image's.
func addUser(annotations map[string]string, root *rootfs, scratch *Scratch) error {
	for _, a := range []struct{ annotation, name string }{
		{passwdAnnotation, "passwd"}, {groupAnnotation, "group"},
	} {
		line := annotations[a.annotation]
		if line == "" {
			continue
		}
		image, err := root.readFile("/etc/" + a.name)
		if err != nil {
			return err
		}
		if hasAccount(image, line) {
			continue
		}
		f, err := scratch.stateFile(a.name, append([]byte(line+"\n"), image...))
		if err != nil {
			return err
		}
		fd, err := root.api.clone(f.Name(), false, 0)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("bind %s: %w", f.Name(), err)
		}
		err = root.attach(fd, "/etc/"+a.name, false)
		_ = unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// hasAccount reports whether the first line for the number of line, or for its name, is for both.
func hasAccount(file []byte, line string) bool {
	want := strings.SplitN(line, ":", 4)
	for l := range bytes.Lines(file) {
		f := strings.SplitN(string(bytes.TrimRight(l, "\n")), ":", 4)
		if len(f) < 3 {
			continue
		}
		if sameName, sameID := f[0] == want[0], f[2] == want[2]; sameName || sameID {
			return sameName && sameID
		}
	}
	return false
}

// readFile reads a file of the image, up to a limit, from inside the root. What is not a regular file (a fifo, a
// directory, a link to the host) counts as empty.
func (r *rootfs) readFile(name string) ([]byte, error) {
	at, err := r.target(name, false)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", at))
	if errors.Is(err, os.ErrPermission) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read %s of the image: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read %s of the image: %w", name, err)
	}
	return data, nil
}
