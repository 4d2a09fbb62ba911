package spec

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/common/pkg/seccomp"
)

// CompileSeccomp turns a filter of a spec into the program that the kernel takes: an array of struct sock_filter,
// 8 bytes each, for this machine's architecture. libseccomp takes as long for podman's profile as the whole rest
// of a start, so callers keep the result.
func CompileSeccomp(s *specs.LinuxSeccomp) ([]byte, error) {
	filter, err := seccomp.BuildFilter(s)
	if err != nil {
		return nil, fmt.Errorf("compile the seccomp profile: %w", err)
	}
	defer filter.Release()
	// ExportBPFMem needs libseccomp 2.6 (Debian 13). The kernel takes 4096 instructions, which fit into a pipe.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	err = filter.ExportBPF(w)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("compile the seccomp profile: %w", err)
	}
	return io.ReadAll(r)
}
