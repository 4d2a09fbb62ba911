package prelude

/*
#include <stdlib.h>
#include "prelude.h"
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

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
	Alike     ShareFile = C.SHARE_ALIKE   // a listening socket, where ranks that are alike ask to join
	Letter    ShareFile = C.SHARE_LETTER  // what they run: see AlikeLetter
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

// ErrGone says that whoever was to answer has ended, or does not want this rank.
var ErrGone = errors.New("has gone")

// UntrustedError says why an answer was not believed.
type UntrustedError struct{ Reason string }

func (e *UntrustedError) Error() string {
	return "what answers there is not to be trusted: " + e.Reason
}

// Ask asks at a socket to join the container that goes by key, and waits for the answer, which it verifies (ask.c). The error
// is ErrGone, an *UntrustedError or an errno: ENOENT where there is no such socket, ECONNREFUSED where nobody listens.
func Ask(socket, key string) (Files, error) {
	path, say := C.CString(socket), C.CString(key)
	defer C.free(unsafe.Pointer(path))
	defer C.free(unsafe.Pointer(say))
	var o C.struct_order
	var fds [shareFiles]C.int
	var why [C.WHY]C.char
	switch answer, err := C.share_ask(path, unsafe.Pointer(say), C.size_t(len(key)), nil, &o, &fds[0], &why[0]); answer {
	case C.ANSWER_GONE:
		return nil, ErrGone
	case C.ANSWER_UNTRUSTED:
		return nil, &UntrustedError{C.GoString(&why[0])}
	case C.ANSWER_ERROR:
		return nil, err
	}
	files := Files{}
	for f, fd := range fds {
		if fd >= 0 {
			files[ShareFile(f)] = int(fd)
		}
	}
	return files, nil
}

// RankVariables are the variables that each rank of a step has for itself.
func RankVariables() (names []string) {
	for i := C.int(0); C.rank_variable(i) != nil; i++ {
		names = append(names, C.GoString(C.rank_variable(i)))
	}
	return names
}

// AlikeLetter returns the file that says to ranks that are alike what they run: letter, in which a variable without a value stands for
// each rank's own. It is nil where this rank is not the first of its kind.
func AlikeLetter(letter []byte) []byte {
	if C.prelude.alike < 0 {
		return nil
	}
	card := C.GoBytes(unsafe.Pointer(C.prelude.card.text), C.int(C.prelude.card.n))
	name := C.GoBytes(unsafe.Pointer(&C.prelude.share.alike), C.PATH)
	return append(append(binary.NativeEndian.AppendUint64(name, uint64(len(card))), card...), letter...)
}

// FirstAlike reports whether ranks that are alike wait for this one.
func FirstAlike() bool { return C.prelude.alike >= 0 }

// LeaveShare takes this rank out of its container, where the front has died, and reports whether nobody is left in it: then what
// remains is to remove the scratch directory.
func LeaveShare() bool { return bool(C.share_leave()) }
