package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/spec"
)

// maxFilter is the kernel's limit for one filter, in bytes.
const maxFilter = 4096 * 8

// compiledFilter returns the seccomp program for s, from STORE/seccomp/KEY where a run has left it. Such a file is
// the SHA-256 of the program and the program: half a filter would be a hole. A store that cannot be written costs
// each run the compilation.
func compiledFilter(s *specs.LinuxSeccomp, store string) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	file := filepath.Join(store, "seccomp", filterKey(s))
	if program, err := readFilter(file); err == nil {
		return program, nil
	}
	program, err := spec.CompileSeccomp(s)
	if err == nil {
		_ = writeFilter(file, program)
	}
	return program, err
}

// filterKey tells profiles apart, and compilers of them.
func filterKey(s *specs.LinuxSeccomp) string {
	h := sha256.New()
	number := func(n *uint) any {
		if n == nil {
			return nil
		}
		return *n
	}
	fmt.Fprintln(h, versionText(), s.DefaultAction, number(s.DefaultErrnoRet), s.Architectures, s.Flags)
	for _, rule := range s.Syscalls {
		fmt.Fprintln(h, rule.Names, rule.Action, number(rule.ErrnoRet), rule.Args)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16])
}

// readFilter trusts what nobody but the caller and root can have written. The store itself has been judged.
func readFilter(file string) ([]byte, error) {
	for _, name := range []string{filepath.Dir(file), file} {
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return nil, err
		}
		if st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Getuid() || st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil, unix.EPERM
		}
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, sha256.Size+maxFilter+1))
	if err != nil {
		return nil, err
	}
	sum, program, ok := cut(data, sha256.Size)
	if want := sha256.Sum256(program); !ok || !bytes.Equal(sum, want[:]) || len(program) == 0 || len(program)%8 != 0 {
		return nil, errors.New("not a seccomp program")
	}
	return program, nil
}

func cut(b []byte, n int) (head, rest []byte, ok bool) {
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

func writeFilter(file string, program []byte) error {
	dir := filepath.Dir(file)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	sum := sha256.Sum256(program)
	_, err = f.Write(append(sum[:], program...))
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
