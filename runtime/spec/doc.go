// Package spec describes a run: image config, options and facts about the host
// go in, an OCI runtime spec comes out. `dlrun --dry-run` prints it, package
// runtime runs it.
//
// The package is pure. It opens no file, reads no environment variable and asks
// the kernel nothing; what it must know of the host is in [Host]. Paths whose
// presence matters are named by [Paths], looked up by the caller, and handed
// back in Host.Paths.
//
// # The order of setup
//
// Mounts are made in the order in which the spec lists them. A mount at or above
// an earlier one would hide it, so the hidden one is left out: what is listed is
// what the command sees.
//
//	/               overlay: the image's layers below, SCRATCH/upper (--persist: DIR/upper) on top
//	/proc           the host's; --pid private: a new one
//	/sys            the host's, read-only all the way down
//	/dev            a small tmpfs, then one bind a device, a new /dev/pts, the host's shm and mqueue
//	/etc            the host's hosts and resolv.conf, read-only
//	/tmp            SCRATCH/tmp; --tmp host: the host's; --tmp DIR: DIR
//	HOME            SCRATCH/home, unless the image sets HOME; --home binds one
//	--tmpfs         those that hold the caller's directory, so as not to hide it
//	job             what a variable of the job names: a node file, a server's directory, make's fifo
//	data            the datasets that hold cwd, their annex objects read-only, cwd itself
//	--tmpfs, -v, --mount, --device
//
// Annex objects are read-only wherever a bind shows them, so the read-only bind is
// repeated below every bind of a directory that holds them (--annex-rw lifts it), and
// .git and .git/annex are bound onto themselves, so that they cannot be renamed away.
// So is the store of unpacked images, where a bind shows it; the directory in which runs keep their state is
// shown as an empty one.
// When the caller spells cwd by a symlink, the dataset is bound at its physical
// path and once more where that spelling leads to.
//
// # How the spec speaks to package runtime
//
// Everything is plain OCI, but for these conventions:
//
//   - The first mount has destination "/" and type "overlay". Its options are one
//     `lowerdir+=PATH` a layer, topmost first, then `upperdir=`, `workdir=` and
//     `userxattr`. spec.Root.Path, SCRATCH/state/root, is where it is mounted. With spec.Root.Readonly
//     the upper holds mount points alone, and the root is made read-only after.
//   - Every bind is recursive. `rro` is read-only all the way down.
//   - Mount points are made in the overlay, in a tmpfs and below SCRATCH, never in
//     a directory of the host.
//   - One id is mapped: the caller's own onto itself, or with --root onto 0. The
//     supplementary groups are the caller's: additionalGids is absent and the
//     annotation run.oci.keep_original_groups says so in crun's words.
//   - The annotations org.dlrun.passwd and org.dlrun.group hold the line that
//     /etc/passwd and /etc/group must answer the caller's id and name with.
//   - No rlimit, scheduler, affinity or cgroup setting: the caller's stay.
package spec
