// Package prelude is what happens before Go has threads: a C constructor splits a run into three
// processes, so that each does its part as what it should be.
//
//	caller ── front (C)            the pid that the caller sees: passes signals on, returns the code
//	            ├── outside (Go)   finds, unpacks, describes, as the caller; ends when it has handed over
//	            └── inside (Go)    in a user, mount and cgroup namespace; mounts, starts libcontainer, waits
//	                  └── command  libcontainer's init, which execs "__enter": the caller's own uid, then CMD
//
// Outside and inside are forks, not execs: they start side by side on two cores, share every page of
// the binary, and neither pays for the other. The outside keeps the caller's real credentials, so owners can be
// told apart, git-annex and credential helpers can be called; in a user namespace all foreign ids are one.
//
// Front and inside are child subreapers and each ends the whole tree when the other dies; the inside
// knows of the front's death by a pipe. Only both killed at once leaves something behind.
//
// Where the caller sits at a terminal, the front copies between it and a pty inside (terminal.c), and the command has
// a parent in its session (leader.c), which makes job control work across both.
//
// Where this may be one of several ranks on a node, the inside is started only when the outside asks the front for it (orders.go), or the front
// forks the command into a container that another rank has made, and a second process to wait for it (share.c, join.c).
//
// Ranks whose command line is the same as that of one before them are in its container before Go has started (alike.c).
//
// What is run, and what is not, is told by the first word of the command line (prelude.c), never by the environment; that tells
// whether the inside waits.
package prelude
