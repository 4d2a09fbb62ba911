// Package runtime turns an OCI runtime spec into a process, its signals and its exit code, for an ordinary
// user: no daemon, no setuid helper, no subordinate ids, no cgroup right, no XDG_RUNTIME_DIR.
//
// A run is three processes (package prelude). The outside calls Run, which hands spec and options over the
// socket between them and returns; the inside, already in its namespaces, serves that call:
//
//	outside                     inside                                     libcontainer's init
//	Run(spec) ── request ─────▶ lock the scratch directory
//	   ◀── accepted ──────────  clone every bind source
//	exit 0                      mount the root, then each mount in order
//	                            libcontainer: Create, Start ─────────────▶ pivot, masks, capabilities
//	                            affinity of the caller, Exec ────────────▶ exec "__enter": own uid,
//	                            wait; end the tree; remove scratch         chdir, seccomp, exec CMD
//
// The order of setup is the order of spec.Mounts. The first is the root ("/", type overlay). What libcontainer
// would do slowly or not at all for an ordinary user is done here: the overlay, binds by file descriptor,
// /dev, the user's lines in passwd and group. It is left what it is good at.
//
// Sources are opened before the root is mounted, so that no bind shows the root again. Targets are resolved inside the
// root, never on the host, whatever symbolic links the image holds; what is missing is made only on file
// systems of this run (root, scratch, tmpfs), never in a directory that was bound from the host.
//
// A kernel may lack the calls that this is made of (mountapi.go), or refuse overlays (underlay.go). No version is
// compared: the errno of what was tried decides.
//
// The ranks of a job step on one node share a container (share.go, package rendezvous). The first one's outside founds it and
// goes on as above; before the command begins, the inside gives the container's namespaces to the front, which lets others
// in. Another rank's outside gets them by the rendezvous and has its front start the command there (prelude/join.c): nothing is mounted,
// and neither an inside nor libcontainer is started.
//
//	outside                     front                        the others' outsides
//	Meet(plan) ─ place ───────▶ hold it
//	Prepare ──── start ───────▶ fork the inside              Meet(plan) … wait
//	Start ────── scratch ─────▶ hold it
//	             inside: namespaces ▶ hold them
//	                            answer ────────────────────▶ all of these
//	                                                         Join ── letter ──▶ its front: fork, setns, exec
//	                            leave; the last one tidies
//
// On disk: one directory a run below SCRATCH/dlrun-UID, mode 0700, held by a shared flock and removed at the end or
// by the next run (scratch.go).
package runtime
