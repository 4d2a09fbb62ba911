package runtime

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // its C constructor, for libcontainer's init
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// Init must be the first call of main. In libcontainer's init it does not return.
func Init() {
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		libcontainer.Init()
	}
}

// Serve answers the outside until it has handed over a run or has gone, and returns the exit code of the run.
// An error, told to nobody yet, says why the run failed. With code 0 and none, the outside has told why nothing was run.
// What the caller should know of a run that goes on is told to note, unless Options.Quiet.
func Serve(note func(string)) (code int, err error) {
	// Libcontainer warns on every start that a container without a cgroup and without a pid namespace of its own
	// cannot be killed as a whole; the subreapers do that here.
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.FatalLevel)
	// What is sent to every process of a job step (Slurm) must not end the inside before the command.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM)

	peer := prelude.Peer()
	enc, dec := json.NewEncoder(peer), json.NewDecoder(peer)
	for {
		var r request
		if err := dec.Decode(&r); err != nil {
			if errors.Is(err, io.EOF) {
				return 0, nil // the outside has ended without a run, and has said why
			}
			return 125, err
		}
		if err := prelude.Entered(); err != nil {
			answer := refuse(explain(err))
			answer.NoNamespaces = true
			if err := enc.Encode(answer); err != nil {
				return 125, err
			}
			continue // an overlay is asked for first, where something is unpacked
		}
		if r.Overlay != "" {
			if err := enc.Encode(refuse(tryOverlay(r.Overlay))); err != nil {
				return 125, err
			}
			continue
		}
		return serveRun(r.Run, peer, enc, note)
	}
}

func refuse(err error) reply {
	if err == nil {
		return reply{}
	}
	a := reply{Error: err.Error()}
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		a.Hint = h.Hint()
	}
	return a
}

func serveRun(j *job, peer *os.File, enc *json.Encoder, note func(string)) (int, error) {
	if j.Options.Quiet {
		note = func(string) {}
	}
	hold(string(j.Hold)) // until this process ends
	scratch, err := holdScratch(j.Options.Scratch, unix.LOCK_SH)
	if e := enc.Encode(refuse(err)); err != nil || e != nil {
		return 0, e
	}
	_ = peer.Close()
	var ending sync.Mutex // for good: by who comes first
	end := func(frontDied bool) {
		prelude.EndTree()
		// Whether others are left in a shared container the front knows, as long as it lives.
		if !j.Options.Shared || frontDied && prelude.LeaveShare() {
			scratch.remove()
		}
	}
	go func() {
		waitForFront()
		ending.Lock()
		syscall.ForkLock.Lock() // what run starts from here on would outlive the end
		end(true)
		os.Exit(128 + int(unix.SIGKILL))
	}()
	code, err := run(j, scratch, note)
	ending.Lock() // after the front's death err tells of nothing else
	end(false)
	return code, err
}

// hold takes a shared lock on a file for as long as the descriptor that it returns is open; -1 where that cannot be had.
// The outside holds one until it is answered.
func hold(file string) int {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
		_ = unix.Close(fd)
		return -1
	}
	return fd
}

// waitForFront returns when the front has died, or has given up the run.
func waitForFront() {
	_, _ = prelude.FrontAlive().Read(make([]byte, 1))
	prelude.RestoreTerminal()
}
