// Package rendezvous is where the ranks of a job step on one node find the container that one of them has made.
//
// It owns one directory, /tmp/dlrun-UID/steps or the like in /var/tmp: node-local, mode 0700, in no container. In it are
// sockets:
//
//	KEY          a container that is being made or in use: whoever is in it has the listening end
//	STEP.RANK    a rank takes part already; nobody answers there
//	alike.HASH   where ranks ask that have the same command line as one which is in such a container (prelude/alike.c)
//	new-RANDOM   a socket before it has its name
//
// The first to publish a socket under a key makes the container; the others connect and wait for the answer, a message with the
// container's open files. Publishing is link(2), which fails where the name is taken, so no lock is needed. All ends
// of a listening socket are closed by the kernel when their processes have died, however: whoever waits sees the end of
// the connection and begins again, as does whoever finds a name behind which nobody listens.
//
// An answer is believed only if its sender is the caller's, alive, and in the caller's own user namespace, where no process of
// a container is, and if the namespaces belong to each other and to the caller.
package rendezvous
