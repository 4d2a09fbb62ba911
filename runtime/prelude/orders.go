package prelude

/*
#include "prelude.h"
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ShareFile is one of the open files that a shared container consists of.
type ShareFile int

// The files, in the order in which they are sent. InnerUser, Net and UTS are there only where the container has such a namespace,
// Hold only where files can be locked.
const (
	Listen    ShareFile = C.SHARE_LISTEN  // a listening socket, where others ask to join
	CountRead ShareFile = C.SHARE_READ    // a pipe that holds one byte
	CountIn   ShareFile = C.SHARE_WRITE   // its other end: open as long as somebody is in the container
	ScratchIn ShareFile = C.SHARE_SCRATCH // the scratch directory, with a lock
	Claim     ShareFile = C.SHARE_CLAIM   // a listening socket, for this rank alone
	Hold      ShareFile = C.SHARE_HOLD    // a locked file: the image is in use as long as somebody is in the container
	User      ShareFile = C.SHARE_USER    // the outer user namespace
	InnerUser ShareFile = C.SHARE_INNER   // the inner user namespace
	Mounts    ShareFile = C.SHARE_MNT
	Cgroup    ShareFile = C.SHARE_CGROUP
	Net       ShareFile = C.SHARE_NET
	UTS       ShareFile = C.SHARE_UTS

	shareFiles = C.SHARE_FILES
)

// Files are open files of a shared container.
type Files map[ShareFile]int

// Close closes all of them.
func (f Files) Close() {
	for _, fd := range f {
		_ = unix.Close(fd)
	}
}

// TidyWord is the first word of a command line by which the front has a scratch directory emptied.
const TidyWord = "__tidy"

// orderHead is the length of an order before its text, in bytes.
const orderHead = C.ORDER_HEAD

// order asks the front for something.
func order(what, flags uint32, fds []int, text string) error {
	message := binary.NativeEndian.AppendUint32(nil, what)
	message = append(binary.NativeEndian.AppendUint32(message, flags), text...)
	if err := unix.Sendmsg(int(C.prelude.control), message, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("ask the front: %w", err)
	}
	return nil
}

// StartInside starts an inside in place of the one that waits, if there is one, and returns the socket to it. With inner it
// makes the inner user namespace too, for a container that others join.
func StartInside(inner bool) (*os.File, error) {
	peers, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(peers[1])
	flags := uint32(0)
	if inner {
		flags = C.INSIDE_INNER
	}
	if err := order(C.ORDER_INSIDE, flags, []int{peers[1], 0, 1}, ""); err != nil {
		_ = unix.Close(peers[0])
		return nil, err
	}
	return os.NewFile(uintptr(peers[0]), "peer"), nil
}

// Waits reports whether there is no inside yet.
func Waits() bool { return bool(C.prelude.waits) }

// Share gives the front files of the container that this rank shares. The first call for a container names its socket, the
// claim, each at most 107 bytes, and its key.
func Share(files Files, socket, claim, key string) error {
	var fds []int
	var mask uint32
	for f := range ShareFile(shareFiles) {
		if fd, ok := files[f]; ok {
			fds, mask = append(fds, fd), mask|1<<f
		}
	}
	text := ""
	if socket != "" {
		text = socket + "\x00" + claim + "\x00" + key + "\x00"
	}
	return order(C.ORDER_SHARE, mask, fds, text)
}

// Join starts the command that letter describes in the container whose files the front has.
func Join(letter *os.File) error {
	return order(C.ORDER_JOIN, 0, []int{int(letter.Fd()), 0, 1}, "")
}

// ReadShare takes apart what a front answers to one who asks to join: the message and the files that came with it.
func ReadShare(message []byte, fds []int) (Files, error) {
	files := Files{}
	if len(message) < orderHead || binary.NativeEndian.Uint32(message) != C.ORDER_SHARE {
		return nil, unix.EPROTO
	}
	mask := binary.NativeEndian.Uint32(message[4:])
	for f := range ShareFile(shareFiles) {
		if mask>>f&1 == 1 && len(fds) > 0 {
			files[f], fds = fds[0], fds[1:]
		}
	}
	for _, needed := range []ShareFile{Listen, CountRead, CountIn, ScratchIn, User, Mounts} {
		if _, ok := files[needed]; !ok {
			return nil, unix.EPROTO
		}
	}
	if len(fds) > 0 {
		return nil, unix.EPROTO
	}
	return files, nil
}

// LeaveShare takes this rank out of its container, where the front has died, and reports whether nobody is left in it: then what
// remains is to remove the scratch directory.
func LeaveShare() bool { return bool(C.share_leave()) }
