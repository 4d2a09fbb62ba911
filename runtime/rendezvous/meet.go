package rendezvous

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// Place is what a rank got at the meeting.
type Place struct {
	First  bool          // nobody else was there: the caller makes the container
	Files  prelude.Files // the container's; where First, those that there are before it is made
	Socket string        // the name of the meeting, for the last one to remove
}

// backlog is how many may wait to be answered: the ranks of a large node.
const backlog = 4096

// maxGone is how often one and the same socket may end a connection without an answer.
const maxGone = 20

// Meet returns the container that goes by key, or the place of the one who makes it. It waits for the one who is making it.
func Meet(dir, key string) (*Place, error) {
	socket := filepath.Join(dir, key)
	var gone int
	var last uint64
	for {
		var st unix.Stat_t
		_ = unix.Lstat(socket, &st)
		files, err := prelude.Ask(socket, key)
		switch {
		case err == nil:
			return &Place{Files: files, Socket: socket}, nil
		case errors.Is(err, prelude.ErrGone):
			if st.Ino != last {
				last, gone = st.Ino, 0
			}
			if gone++; gone > maxGone {
				return nil, fmt.Errorf("%s: does not let this run join", socket)
			}
			pause()
			continue
		case errors.Is(err, unix.ECONNREFUSED):
			removeDead(dir, key)
			continue
		case !errors.Is(err, unix.ENOENT):
			return nil, fmt.Errorf("%s: %w", socket, err)
		}
		listen, err := publish(dir, key, backlog)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sweep(dir)
		place := &Place{First: true, Socket: socket, Files: prelude.Files{prelude.Listen: listen}}
		if err := place.count(); err != nil {
			return nil, errors.Join(err, unix.Unlink(socket))
		}
		return place, nil
	}
}

// count makes the pipe that tells the last one.
func (p *Place) count() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	p.Files[prelude.CountRead], p.Files[prelude.CountIn] = pipe[0], pipe[1]
	_, err := unix.Write(pipe[1], []byte{0})
	return err
}

// Take makes name the caller's, until the socket that it returns is closed. It returns -1 where somebody has it.
func Take(dir, name string) (int, error) {
	for {
		fd, err := publish(dir, name, 0)
		if !errors.Is(err, unix.EEXIST) {
			return fd, err
		}
		if lives(filepath.Join(dir, name)) {
			return -1, nil
		}
		removeDead(dir, name)
	}
}

// pause waits a moment, not the same one for all.
func pause() {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(4*time.Millisecond)))
	if err == nil {
		time.Sleep(time.Millisecond + time.Duration(n.Int64()))
	}
}

func newSocket(flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return fd, nil
}

// unborn begins the name of a socket that does not listen yet.
const unborn = "new-"

// publish listens under name. The error wraps EEXIST where there is such a name.
func publish(dir, name string, backlog int) (fd int, err error) {
	if fd, err = newSocket(unix.SOCK_NONBLOCK); err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	early := filepath.Join(dir, unborn+rand.Text())
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: early}); err != nil {
		return fd, fmt.Errorf("bind %s: %w", early, err)
	}
	defer func() { _ = unix.Unlink(early) }()
	if err := unix.Listen(fd, backlog); err != nil {
		return fd, os.NewSyscallError("listen", err)
	}
	if err := unix.Link(early, filepath.Join(dir, name)); err != nil {
		return fd, fmt.Errorf("link %s: %w", name, err)
	}
	return fd, nil
}

// connect retries where a signal (of the Go runtime's own) interrupts.
func connect(fd int, path string) error {
	for {
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// lives reports whether somebody listens at path: also who has no room for one more in its queue.
func lives(path string) bool {
	fd, err := newSocket(unix.SOCK_NONBLOCK)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	err = connect(fd, path)
	if err == nil {
		_ = unix.Send(fd, []byte("?"), unix.MSG_NOSIGNAL) // no key: it need not wait for one
	}
	return err == nil || errors.Is(err, unix.EAGAIN)
}

// removeDead removes a name behind which nobody listens. The lock keeps two from removing, the second one, what a third has
// published in between. Where there are no locks that takes a crash and three at the same moment.
func removeDead(dir, name string) {
	lock, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(lock)
	for errors.Is(unix.Flock(lock, unix.LOCK_EX), unix.EINTR) {
	}
	if path := filepath.Join(dir, name); !lives(path) {
		_ = unix.Unlink(path)
	}
}

// sweep removes what ranks that were killed have left, some at a time.
func sweep(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	entries, _ := f.ReadDir(256)
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > time.Minute && !lives(filepath.Join(dir, e.Name())) {
			removeDead(dir, e.Name())
		}
	}
}
