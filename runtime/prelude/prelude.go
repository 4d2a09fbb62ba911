package prelude

/*
#include <stdlib.h>
#include "prelude.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// Role is what this process is in a run.
type Role int

const (
	Plain   Role = C.ROLE_PLAIN   // nothing is run: the caller's only process
	Outside Role = C.ROLE_OUTSIDE // the caller's side of a run
	Inside  Role = C.ROLE_INSIDE  // the side in the namespaces
)

// Self returns this process's role.
func Self() Role { return Role(C.prelude.role) }

// WantsNamespaces reports whether a command line whose first word is word is split into three processes.
func WantsNamespaces(word string) bool {
	s := C.CString(word)
	defer C.free(unsafe.Pointer(s))
	return bool(C.prelude_wants_namespaces(s))
}

// Peer returns the socket between outside and inside. It may be called once.
func Peer() *os.File { return os.NewFile(uintptr(C.prelude.peer), "peer") }

// Inner returns the inner user namespace where StartInside asked for it. For the inside, once.
func Inner() (*os.File, error) {
	if C.prelude.inner < 0 {
		return nil, errors.New("cannot make the inner user namespace")
	}
	return os.NewFile(uintptr(C.prelude.inner), "user namespace"), nil
}

// FrontAlive returns a pipe that reads EOF when the front has died. For the inside, once.
func FrontAlive() *os.File { return os.NewFile(uintptr(C.prelude.front_alive), "front") }

// Ignored returns the signals that the caller had set to be ignored, bit N-1 for signal N.
func Ignored() uint64 { return uint64(C.prelude.ignored) }

// Blocked returns the signals that the caller had blocked, bit N-1 for signal N.
func Blocked() uint64 { return uint64(C.prelude.blocked) }

// Terminal reports whether fds 0 and 1 are the caller's terminal: a pty is to stand in for it.
func Terminal() bool { return C.prelude.tty >= 0 }

// Leader returns the socket over which the leader of the command's session hears the front. For the inside, once.
func Leader() *os.File { return os.NewFile(uintptr(C.prelude.leader), "leader") }

// SetCommand tells the front which process signals are for; negative once it has ended. With led that process is a leader.
func SetCommand(pid int, led bool) {
	C.prelude.shared.led = C.bool(led)
	C.prelude.shared.command = C.pid_t(pid)
}

// RestoreTerminal gives the caller's terminal the modes that it had, where the front has changed them.
func RestoreTerminal() { C.terminal_restore() }

// DropProgram takes this process's pages of the program out of memory; those that are needed come back from the file. It is
// the last that its goroutine does.
func DropProgram() { C.rest() }

// EndTree kills and reaps every descendant of this process, daemonised ones included.
func EndTree() { C.tree_end() }

// EnterError says which step into the namespaces the kernel refused. It wraps the errno.
type EnterError struct {
	Step string
	Err  syscall.Errno
}

func (e *EnterError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Err) }
func (e *EnterError) Unwrap() error { return e.Err }

// Entered returns nil where the inside is in its namespaces, else an *EnterError.
func Entered() error {
	steps := map[C.enum_step]string{
		C.STEP_UNSHARE:   "cannot make a user namespace",
		C.STEP_SETGROUPS: "cannot set up the user namespace (setgroups)",
		C.STEP_UIDMAP:    "cannot map the user id",
		C.STEP_GIDMAP:    "cannot map the group id",
		C.STEP_MOUNTS:    "cannot change mounts in the user namespace",
	}
	if C.prelude.failed == C.STEP_NONE {
		return nil
	}
	return &EnterError{Step: steps[C.prelude.failed], Err: syscall.Errno(C.prelude.err)}
}
