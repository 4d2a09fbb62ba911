package spec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/runtime/spec"
)

func TestUser(t *testing.T) {
	s := describe(t, nil, ann(), spec.Options{})
	if diff := cmp.Diff(specs.User{UID: 1001, GID: 1002, Umask: ptr(uint32(0o027))}, s.Process.User); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]specs.LinuxIDMapping{{ContainerID: 1001, HostID: 1001, Size: 1}}, s.Linux.UIDMappings); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff(&specs.LinuxCapabilities{}, s.Process.Capabilities); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !s.Process.NoNewPrivileges {
		t.Error("new privileges are possible")
	}
}

func TestUserRoot(t *testing.T) {
	s := describe(t, nil, ann(), spec.Options{Root: true})
	if s.Process.User.UID != 0 || s.Process.User.GID != 0 {
		t.Errorf("user is %+v", s.Process.User)
	}
	if diff := cmp.Diff([]specs.LinuxIDMapping{{ContainerID: 0, HostID: 1002, Size: 1}}, s.Linux.GIDMappings); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	c := s.Process.Capabilities
	if len(c.Bounding) != 9 || !slices.Equal(c.Bounding, c.Effective) || !slices.Equal(c.Bounding, c.Permitted) {
		t.Errorf("capabilities are %+v", c)
	}
	if len(c.Inheritable)+len(c.Ambient) != 0 {
		t.Errorf("inheritable and ambient are %v, %v", c.Inheritable, c.Ambient)
	}
	for _, name := range []string{"CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"} {
		if slices.Contains(c.Bounding, name) {
			t.Errorf("%s is in the set", name)
		}
	}
	if !s.Process.NoNewPrivileges {
		t.Error("new privileges are possible")
	}
}

func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		name, user, group, home string
		root                    bool
		passwd, groupLine       string
	}{
		{"plain", "ann", "lab", "/home/ann", false, "ann:x:1001:1002::/home/ann:/bin/sh", "lab:x:1002:"},
		{"a directory service's name", `DOM\ann`, "dom users", "/home/ann", false, `DOM\ann:x:1001:1002::/home/ann:/bin/sh`, "dom users:x:1002:"},
		{"unknown", "", "", "/home/ann", false, "1001:x:1001:1002::/home/ann:/bin/sh", "1002:x:1002:"},
		{"root", "ann", "lab", "/home/ann", true, "root:x:0:0::/home/ann:/bin/sh", "root:x:0:"},
		{"hostile", "a:x:0:0\nroot", "g:\n", "/h:\n", false, "ax00root:x:1001:1002::/h:/bin/sh", "g:x:1002:"},
		{"a daemon", "sys", "sys", "/dev", false, "sys:x:1001:1002::/home/sys:/bin/sh", "sys:x:1002:"},
		{"home is the root", "sys", "sys", "/", false, "sys:x:1001:1002::/home/sys:/bin/sh", "sys:x:1002:"},
		{"no home", "../x", "sys", "", false, "../x:x:1001:1002::/home/.._x:/bin/sh", "sys:x:1002:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := ann()
			h.Name, h.GroupName, h.Home = c.user, c.group, c.home
			got := describe(t, nil, h, spec.Options{Root: c.root}).Annotations
			want := map[string]string{"org.dlrun.passwd": c.passwd, "org.dlrun.group": c.groupLine, "run.oci.keep_original_groups": "1"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if strings.Count(got["org.dlrun.passwd"], ":") != 6 {
				t.Error("a passwd line has seven fields")
			}
		})
	}
}
