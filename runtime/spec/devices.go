package spec

import (
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// device is a family of names in /dev that a run gets.
type device struct {
	glob string
	data bool // a file system that holds no device node
}

// devices is the one table of what the host's /dev lends: no disk, no kvm, no kmsg.
func devices() []device {
	return []device{
		{"null", false},
		{"zero", false},
		{"full", false},
		{"random", false},
		{"urandom", false},
		{"tty", false},
		{"fuse", false},
		{"infiniband", false}, // verbs
		{"hfi1_*", false},     // Omni-Path
		{"cxi*", false},       // Slingshot
		{"knem", false},       // copies between the ranks of a node
		{"xpmem", false},
		{"hugepages", true},
		{"shm", true}, // the host's, for the ranks of a node
		{"mqueue", true},
	}
}

// dev makes /dev: a tmpfs, a new devpts, and those of devices that the host has.
func (t *table) dev(names []string) {
	t.add(specs.Mount{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}})
	t.add(specs.Mount{
		Destination: "/dev/pts", Type: "devpts", Source: "devpts",
		// No gid=5: the group of ttys is not mapped.
		Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"},
	})
	names = slices.Sorted(slices.Values(names))
	for _, d := range devices() {
		for _, name := range names {
			if match, _ := path.Match(d.glob, name); match {
				t.bind("/dev/"+name, "/dev/"+name, false, !d.data)
			}
		}
	}
}
