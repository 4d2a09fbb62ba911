package unpack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/unpack"
)

const helperEnv = "UNPACK_TEST_HELPER"

// TestMain runs all tests a second time as an ordinary user when it is root:
// the same is to come out.
func TestMain(m *testing.M) {
	if h := os.Getenv(helperEnv); h != "" {
		if err := helper(h, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	unix.Umask(0o022)
	code := m.Run()
	fuzzing := slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz=") || a == "-test.fuzzworker" })
	if code == 0 && os.Geteuid() == 0 && !fuzzing {
		code = asUser()
	}
	os.Exit(code)
}

func asUser() int {
	const id = 65533
	tmp, err := os.MkdirTemp("", "unpack-user")
	if err == nil {
		defer os.RemoveAll(tmp)
		err = errors.Join(os.Chmod(tmp, 0o755), os.Chown(tmp, id, id))
	}
	if err == nil {
		// Files of the go command's are out of an ordinary user's reach.
		args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool {
			return strings.HasPrefix(a, "-test.testlogfile") || strings.HasPrefix(a, "-test.gocoverdir") || strings.Contains(a, "profile=")
		})
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "as an ordinary user:", err)
		return 1
	}
	return 0
}

// helper is what the test binary does as another process.
func helper(name string, args []string) error {
	switch name {
	case "list":
		var root unpack.Root
		if err := json.Unmarshal([]byte(args[0]), &root); err != nil {
			return err
		}
		dir, err := mounted(&root, args[1])
		if err != nil {
			return err
		}
		list, err := list(dir)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(list)
	case "unpack":
		return unpackHelper(args)
	case "memory":
		return memoryHelper(args)
	}
	return errors.New("no helper " + name)
}

// mounted mounts the layers of root as a run does, or returns its directory.
func mounted(root *unpack.Root, tmp string) (string, error) {
	if root.Dir != "" {
		return root.Dir, nil
	}
	mnt, empty := filepath.Join(tmp, "mnt"), filepath.Join(tmp, "empty")
	for _, d := range []string{mnt, empty} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	// mount(2) takes one page of options: short names, from the store.
	store := filepath.Join(root.Layers[0], "../../..")
	if err := os.Chdir(store); err != nil {
		return "", err
	}
	lower := []string{empty}
	for _, l := range root.Layers {
		rel, err := filepath.Rel(store, l)
		if err != nil {
			return "", err
		}
		lower = append([]string{rel}, lower...)
	}
	if err := unix.Mount("overlay", mnt, "overlay", 0, "userxattr,lowerdir="+strings.Join(lower, ":")); err != nil {
		return "", fmt.Errorf("mount overlay of %d layers: %w", len(lower), err)
	}
	return mnt, nil
}

// list describes what lies below root, one line each.
func list(root string) ([]string, error) {
	links := map[uint64]string{}
	var lines []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		line := fmt.Sprintf("%04o %d %q", st.Mode&0o7777, st.Mtim.Sec, rel)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			line = "d " + line
		case unix.S_IFLNK:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line = fmt.Sprintf("l %s -> %q", line, target)
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line = fmt.Sprintf("f %s %q", line, b)
		case unix.S_IFIFO:
			line = "p " + line
		default:
			line = fmt.Sprintf("? %s %o", line, st.Mode)
		}
		if st.Nlink > 1 && !d.IsDir() {
			if first := links[st.Ino]; first != "" {
				line += " = " + first
			} else {
				links[st.Ino] = rel
			}
		}
		buf := make([]byte, 4096)
		if n, err := unix.Llistxattr(p, buf); err == nil && n > 0 {
			names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
			sort.Strings(names)
			for _, name := range names {
				if strings.HasPrefix(name, "user.") {
					line += " " + name
				}
			}
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

// run starts the test binary as helper name in another process.
func runHelper(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+name)
	return cmd
}

// view returns what a run sees of root: a real overlay mount, in namespaces of
// its own, where the caller may read all that it owns.
func view(t *testing.T, root *unpack.Root) []string {
	t.Helper()
	b := must[[]byte](t)(json.Marshal(root))
	cmd := runHelper("list", string(b), tempDir(t)) // no comma in its name
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("view of the root: %v: %s", err, stderr.String())
	}
	var lines []string
	if err := json.Unmarshal(out, &lines); err != nil {
		t.Fatal(err)
	}
	return lines
}

// tempDir is as t.TempDir, for trees that os.RemoveAll cannot remove as an
// ordinary user.
func tempDir(t *testing.T) string {
	t.Helper()
	d := must[string](t)(os.MkdirTemp("", "unpack"))
	t.Cleanup(func() {
		filepath.WalkDir(d, func(p string, e fs.DirEntry, err error) error {
			if e != nil && e.IsDir() {
				os.Chmod(p, 0o700)
				if err != nil {
					return nil
				}
			}
			return nil
		})
		if err := os.RemoveAll(d); err != nil {
			exec.Command("chmod", "-R", "u+rwx", d).Run()
			if err := os.RemoveAll(d); err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

func store(t *testing.T, o unpack.Options) *unpack.Store {
	t.Helper()
	return must[*unpack.Store](t)(unpack.Open(filepath.Join(tempDir(t), "store"), o))
}

// both returns stores that make the two forms.
func both(t *testing.T) map[string]*unpack.Store {
	return map[string]*unpack.Store{
		"overlay": store(t, unpack.Options{}),
		"merged":  store(t, unpack.Options{Overlay: func(string) error { return errors.New("refused") }}),
	}
}
