package rendezvous

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// ask connects, says the key and waits for the answer, which it verifies.
func ask(socket, key string) (prelude.Files, error) {
	fd, err := newSocket(0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := connect(fd, socket); err != nil {
		return nil, err
	}
	if err := unix.Send(fd, []byte(key), unix.MSG_NOSIGNAL); err != nil {
		return nil, errGone
	}
	message, oob := make([]byte, 64), make([]byte, 512)
	n, on, err := receive(fd, message, oob)
	if err != nil || n == 0 {
		return nil, errGone
	}
	sender, fds, err := takeApart(oob[:on])
	var files prelude.Files
	if err == nil {
		files, err = prelude.ReadShare(message[:n], fds)
	}
	if err == nil {
		err = verify(sender, files)
	}
	if err != nil {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	return files, nil
}

func receive(fd int, message, oob []byte) (n, on int, err error) {
	for {
		n, on, _, _, err = unix.Recvmsg(fd, message, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return n, on, err
		}
	}
}

// takeApart returns who has sent a message, as the kernel says, and the files that came with it.
func takeApart(oob []byte) (*unix.Ucred, []int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, nil, err
	}
	var sender *unix.Ucred
	var fds []int
	for _, m := range messages {
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			sender, err = unix.ParseUnixCredentials(&m)
		case unix.SCM_RIGHTS:
			fds, err = unix.ParseUnixRights(&m)
		}
		if err != nil {
			return nil, fds, err
		}
	}
	if sender == nil {
		return nil, fds, unix.EPROTO
	}
	return sender, fds, nil
}

// UntrustedError says why an answer was not believed.
type UntrustedError struct{ Reason string }

func (e *UntrustedError) Error() string {
	return "what answers there is not to be trusted: " + e.Reason
}

// verify believes the caller's own processes outside of any container, as long as they live, and namespaces of a run of the
// caller's.
func verify(sender *unix.Ucred, files prelude.Files) error {
	if int(sender.Uid) != os.Getuid() {
		return &UntrustedError{fmt.Sprintf("uid %d", sender.Uid)}
	}
	// From here on the number is the sender's, or the check of its life fails. No pidfds before Linux 5.3.
	pidfd, err := unix.PidfdOpen(int(sender.Pid), 0)
	if errors.Is(err, unix.ESRCH) {
		return errGone
	}
	if err == nil {
		defer unix.Close(pidfd)
	}
	own, err := unix.Open("/proc/self/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /proc/self/ns/user: %w", err)
	}
	defer unix.Close(own)
	theirs, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", sender.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return errGone
	}
	if err != nil {
		return &UntrustedError{fmt.Sprintf("process %d: %v", sender.Pid, err)}
	}
	defer unix.Close(theirs)
	if pidfd > 0 && ended(pidfd) {
		return errGone
	}
	if !same(own, theirs) {
		return &UntrustedError{fmt.Sprintf("process %d is in another user namespace", sender.Pid)}
	}
	return verifyNamespaces(own, files)
}

func ended(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

func same(a, b int) bool {
	var sa, sb unix.Stat_t
	return unix.Fstat(a, &sa) == nil && unix.Fstat(b, &sb) == nil && sa.Dev == sb.Dev && sa.Ino == sb.Ino
}

// verifyNamespaces checks that the outer user namespace is the caller's and made in the caller's own, that the inner one was
// made in it, and that it owns all others.
func verifyNamespaces(own int, files prelude.Files) error {
	outer := files[prelude.User]
	uid, err := unix.IoctlGetUint32(outer, unix.NS_GET_OWNER_UID)
	if err != nil {
		return &UntrustedError{"its user namespace: " + err.Error()}
	}
	if int(uid) != os.Getuid() {
		return &UntrustedError{fmt.Sprintf("its user namespace belongs to uid %d", uid)}
	}
	for _, c := range []struct {
		file    prelude.ShareFile
		request uint
		above   int
	}{
		{prelude.User, unix.NS_GET_PARENT, own},
		{prelude.InnerUser, unix.NS_GET_PARENT, outer},
		{prelude.Mounts, unix.NS_GET_USERNS, outer},
		{prelude.Cgroup, unix.NS_GET_USERNS, outer},
		{prelude.Net, unix.NS_GET_USERNS, outer},
		{prelude.UTS, unix.NS_GET_USERNS, outer},
	} {
		fd, ok := files[c.file]
		if !ok {
			continue
		}
		above, err := unix.IoctlRetInt(fd, c.request)
		if err != nil {
			return &UntrustedError{fmt.Sprintf("namespace %d: %v", c.file, err)}
		}
		match := same(above, c.above)
		_ = unix.Close(above)
		if !match {
			return &UntrustedError{fmt.Sprintf("namespace %d is not the container's", c.file)}
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(files[prelude.ScratchIn], &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() {
		return &UntrustedError{"its scratch directory is not the caller's"}
	}
	return nil
}
