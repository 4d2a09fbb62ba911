package spec

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// IDs are a user and a group.
type IDs struct{ UID, GID int }

// user is the caller inside, and the single id that is mapped. AdditionalGids stays
// nil: with one gid mapped setgroups(2) is denied, and the kernel keeps the groups.
func user(host Host, o Options) (specs.User, []specs.LinuxIDMapping, []specs.LinuxIDMapping) {
	uid, gid := uint32(host.UID), uint32(host.GID)
	inUID, inGID := uid, gid
	if o.As != nil {
		inUID, inGID = uint32(o.As.UID), uint32(o.As.GID)
	}
	if o.Root {
		inUID, inGID = 0, 0
	}
	return specs.User{UID: inUID, GID: inGID, Umask: &host.Umask},
		[]specs.LinuxIDMapping{{ContainerID: inUID, HostID: uid, Size: 1}},
		[]specs.LinuxIDMapping{{ContainerID: inGID, HostID: gid, Size: 1}}
}

// capabilities are none. With --root they are podman's default set without
// DAC_OVERRIDE, DAC_READ_SEARCH and FOWNER: these would let a run write straight
// through an annex symlink into the 0444 object.
func capabilities(root bool) *specs.LinuxCapabilities {
	if !root {
		return &specs.LinuxCapabilities{}
	}
	set := func() []string {
		return []string{
			"CAP_CHOWN", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
			"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
		}
	}
	return &specs.LinuxCapabilities{Bounding: set(), Effective: set(), Permitted: set()}
}

// identity are the lines with which /etc/passwd and /etc/group must answer for the
// caller. The shell is /bin/sh: the caller's own may be absent from the image.
func identity(host Host, o Options) map[string]string {
	keep := map[string]string{"run.oci.keep_original_groups": "1"}
	if o.As != nil && !o.Root {
		return keep // the image knows them, or nobody does
	}
	name, group, uid, gid := userName(host), host.GroupName, host.UID, host.GID
	if group == "" {
		group = strconv.Itoa(gid)
	}
	if o.Root {
		name, group, uid, gid = "root", "root", 0, 0
	}
	keep["org.dlrun.passwd"] = fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", field(name), uid, gid, field(homeDir(host)))
	keep["org.dlrun.group"] = fmt.Sprintf("%s:x:%d:", field(group), gid)
	return keep
}

func userName(host Host) string {
	if host.Name == "" {
		return strconv.Itoa(host.UID)
	}
	return host.Name
}

// field keeps a name from ending its field or its line.
func field(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ':' || r == '\n' || r == 0 {
			return -1
		}
		return r
	}, s)
}

// homeDir is where the caller's home lies inside: at its own path, unless that is
// no place for a mount, as with the accounts of daemons (/, /usr/sbin, /bin).
func homeDir(host Host) string {
	home := path.Clean(host.Home)
	if !path.IsAbs(home) || systemDir(home) {
		return path.Join("/home", strings.ReplaceAll(userName(host), "/", "_"))
	}
	return home
}
