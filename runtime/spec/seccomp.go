package spec

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/common/pkg/seccomp"
)

// filter is the seccomp filter for the run that s describes.
func filter(s *specs.Spec, profile File) (*specs.LinuxSeccomp, error) {
	switch profile.Name {
	case "unconfined":
		return nil, nil
	case "", "default":
		f, err := seccomp.LoadProfileFromConfig(defaultProfile(), s)
		if err != nil {
			return nil, fmt.Errorf("default seccomp profile: %w", err)
		}
		return f, nil
	}
	f, err := seccomp.LoadProfileFromBytes(profile.Data, s)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", profile.Name, err)
	}
	if f == nil {
		return nil, fmt.Errorf("seccomp profile %s: no default action and no syscall in it", profile.Name)
	}
	return f, nil
}

// allowed are syscalls that podman's profile refuses and a run gets:
//
//   - move_pages: MPI libraries and numactl place pages with it. Without capabilities
//     it reaches the caller's own processes alone.
//   - perf_event_open: profilers. The host's perf_event_paranoid rules as it does
//     outside.
//   - request_key: the session keyring is the caller's, and Kerberos and AFS look for
//     their tickets there. keyctl is in podman's profile already. add_key stays
//     refused: what an image plants in that keyring would outlive the run.
//   - setns: podman's profile both allows and refuses it. The kernel asks for
//     CAP_SYS_ADMIN over the namespace, and nested runs join their own.
func allowed() []string {
	return []string{"move_pages", "perf_event_open", "request_key", "setns"}
}

// defaultProfile is podman's with the allowed syscalls taken out of every other rule,
// for which of two contrary rules libseccomp follows is nowhere promised.
func defaultProfile() *seccomp.Seccomp {
	profile := seccomp.DefaultProfile()
	for _, rule := range profile.Syscalls {
		rule.Names = slices.DeleteFunc(rule.Names, func(name string) bool { return slices.Contains(allowed(), name) })
	}
	profile.Syscalls = append(profile.Syscalls, &seccomp.Syscall{Names: allowed(), Action: seccomp.ActAllow, Args: []*seccomp.Arg{}})
	return profile
}
