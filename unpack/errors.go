package unpack

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// UntrustedError says that someone else could have written what the store holds.
type UntrustedError struct {
	Path   string // the directory or file that was judged
	Reason string // why, to be read after the path
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("the store is not to be trusted: %s %s", e.Path, e.Reason)
}

// Hint says what to type.
func (e *UntrustedError) Hint() string {
	return "--cache DIR names another; whose stores are trusted besides, /etc/dlrun/config.toml says (owners)"
}

// StoreError says that the store cannot take the image.
type StoreError struct {
	Dir  string // the store
	Need int64  // bytes that are needed at least, 0 when unknown
	Free int64  // bytes free for the caller, -1 when unknown
	Err  error  // the cause
}

func (e *StoreError) Error() string {
	s := fmt.Sprintf("the store %s does not hold the image and cannot take it: %v", e.Dir, e.Err)
	if e.Free >= 0 && e.Need > e.Free { // else it is not by these that it failed
		s += fmt.Sprintf(" (at least %d bytes needed, %d free)", e.Need, e.Free)
	}
	return s
}

func (e *StoreError) Unwrap() error { return e.Err }

// Hint says what to type.
func (e *StoreError) Hint() string {
	return "name a directory on local disk that you can write to and that has room: --cache DIR"
}

// LimitError says that a layer goes beyond what [Limits] allows.
type LimitError struct {
	Name string // of the limit, as the command line calls it
	What string // the measure, as in "entries"
	Max  int64  // what is allowed
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("it goes beyond the limit of %d %s", e.Max, e.What)
}

// Hint says what to type.
func (e *LimitError) Hint() string {
	return fmt.Sprintf("if the image is to be trusted: --limit %s=N", e.Name)
}

// inodesError says that the file system can hold few more files.
type inodesError struct{}

func (*inodesError) Error() string { return "the file system has no room for more files (inodes)" }
func (*inodesError) Unwrap() error { return unix.ENOSPC }

// errMerge asks for the merged form. It never leaves the package.
var errMerge = errors.New("layers cannot be stacked")

// errGone says that a layer has been taken out of the store meanwhile. It never leaves the package.
var errGone = errors.New("a layer was removed")

// formatError is a fault of the tar stream: the blob may be damaged, which the
// digest tells better.
type formatError struct{ err error }

func (e *formatError) Error() string { return e.err.Error() }
func (e *formatError) Unwrap() error { return e.err }

// isFull reports whether err means that the file system or a quota is full. An attribute may also be larger than the file
// system takes for one file: that is another matter.
func isFull(err error) bool {
	if err != nil && strings.Contains(err.Error(), "lsetxattr") {
		return false
	}
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
