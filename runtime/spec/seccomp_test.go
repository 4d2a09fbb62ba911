package spec_test

import (
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/runtime/spec"
)

// actions are what the filter does about a syscall, whatever its arguments.
func actions(f *specs.LinuxSeccomp, name string) []specs.LinuxSeccompAction {
	var list []specs.LinuxSeccompAction
	for _, rule := range f.Syscalls {
		if slices.Contains(rule.Names, name) && len(rule.Args) == 0 {
			list = append(list, rule.Action)
		}
	}
	if list == nil {
		return []specs.LinuxSeccompAction{f.DefaultAction}
	}
	return slices.Compact(list)
}

func TestSeccompDefault(t *testing.T) {
	for _, name := range []string{"", "default"} {
		for _, root := range []bool{false, true} {
			f := describeSeccomp(t, spec.Options{Root: root, Seccomp: spec.File{Name: name}})
			for call, want := range map[string]specs.LinuxSeccompAction{
				"read": specs.ActAllow, "execve": specs.ActAllow, "process_vm_readv": specs.ActAllow, "unshare": specs.ActAllow,
				"set_mempolicy": specs.ActAllow, "mbind": specs.ActAllow, "keyctl": specs.ActAllow,
				"move_pages": specs.ActAllow, "perf_event_open": specs.ActAllow, "request_key": specs.ActAllow, "setns": specs.ActAllow,
				"add_key": specs.ActErrno, "bpf": specs.ActErrno, "userfaultfd": specs.ActErrno, "io_uring_setup": specs.ActErrno,
				"open_by_handle_at": specs.ActErrno, "kexec_load": specs.ActErrno, "init_module": specs.ActErrno, "no_such_call": specs.ActErrno,
			} {
				if got := actions(f, call); len(got) != 1 || got[0] != want {
					t.Errorf("profile %q, root %v: %s is %v, want %s", name, root, call, got, want)
				}
			}
			chroot := specs.ActErrno
			if root {
				chroot = specs.ActAllow
			}
			if got := actions(f, "chroot"); len(got) != 1 || got[0] != chroot {
				t.Errorf("root %v: chroot is %v, want %s", root, got, chroot)
			}
			if len(f.Architectures) == 0 {
				t.Error("the filter names no architecture")
			}
		}
	}
}

func TestSeccompProfile(t *testing.T) {
	profile := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`
	f := describeSeccomp(t, spec.Options{Seccomp: spec.File{Name: "p.json", Data: []byte(profile)}})
	if f.DefaultAction != specs.ActAllow || !slices.Equal(actions(f, "chmod"), []specs.LinuxSeccompAction{specs.ActErrno}) {
		t.Errorf("filter is %+v", f)
	}
}

func TestSeccompUnconfined(t *testing.T) {
	if f := describeSeccomp(t, spec.Options{Seccomp: spec.File{Name: "unconfined", Data: []byte("x")}}); f != nil {
		t.Errorf("filter is %+v", f)
	}
}

func TestSeccompRefused(t *testing.T) {
	for _, c := range []struct{ data, want string }{
		{"", "seccomp profile p.json: decoding"},
		{"not JSON", "seccomp profile p.json: decoding"},
		{"{}", "seccomp profile p.json: no default action"},
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}`, "seccomp profile p.json: 'name' and 'names'"},
	} {
		_, err := create(nil, ann(), spec.Options{Seccomp: spec.File{Name: "p.json", Data: []byte(c.data)}})
		checkError(t, err, c.want, "")
	}
}

// describeSeccomp describes with just the filter that o asks for.
func describeSeccomp(t *testing.T, o spec.Options) *specs.LinuxSeccomp {
	t.Helper()
	if o.Seccomp.Name == "" {
		o.Args = []string{"true"}
		s, err := spec.New(&v1.ConfigFile{}, spec.Root{Dir: "/r"}, ann(), o)
		if err != nil {
			t.Fatal(err)
		}
		return s.Linux.Seccomp
	}
	return describe(t, nil, ann(), o).Linux.Seccomp
}
