package runtime

import (
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// Options is what a run needs besides its description.
type Options struct {
	Scratch string // the run's own directory, from NewScratch
	Filter  []byte // the seccomp filter of the spec, compiled: an array of struct sock_filter
	Files   []int  // numbers, ascending, of the open files above 2 that the command keeps
	Hint    string // printed where the command is not found
	Quiet   bool   // say nothing but errors
}

// request is one message of the outside. Exactly one field is set.
type request struct {
	Overlay string // try an overlay mount below this directory
	Run     *job
}

// job is a run. JSON turns what is no UTF-8 into something else, and arguments, variables and paths may be any bytes:
// those that come from outside of dlrun travel beside the spec.
type job struct {
	Spec    []byte // JSON, without the fields below
	Args    []string
	Env     []string
	Cwd     string
	Mounts  []specs.Mount
	Options Options
}

// newJob packs s.
func newJob(s specs.Spec, o Options) (*job, error) {
	process, linux := *s.Process, *s.Linux
	j := &job{Args: process.Args, Env: process.Env, Cwd: process.Cwd, Mounts: s.Mounts, Options: o}
	process.Args, process.Env, process.Cwd, s.Mounts = nil, nil, "", nil
	linux.Seccomp = nil // Options.Filter
	s.Process, s.Linux = &process, &linux
	var err error
	if j.Spec, err = json.Marshal(s); err != nil {
		return nil, fmt.Errorf("hand the run over: %w", err)
	}
	return j, nil
}

// spec is what newJob packed.
func (j *job) spec() (*specs.Spec, error) {
	var s specs.Spec
	if err := json.Unmarshal(j.Spec, &s); err != nil {
		return nil, fmt.Errorf("take the run over: %w", err)
	}
	s.Process.Args, s.Process.Env, s.Process.Cwd, s.Mounts = j.Args, j.Env, j.Cwd, j.Mounts
	return &s, nil
}

type reply struct {
	Error, Hint string
}

// InsideError is what the inside answered. Hint says what to type, or is empty.
type InsideError struct{ Message, hint string }

func (e *InsideError) Error() string { return e.Message }

// Hint is the next step.
func (e *InsideError) Hint() string { return e.hint }

// outside is the caller's end of the socket.
type outside struct {
	sync.Mutex
	enc *gob.Encoder
	dec *gob.Decoder
}

var connect = sync.OnceValue(func() *outside {
	peer := prelude.Peer()
	return &outside{enc: gob.NewEncoder(peer), dec: gob.NewDecoder(peer)}
})

func call(r request) error {
	o := connect()
	o.Lock()
	defer o.Unlock()
	if err := o.enc.Encode(r); err != nil {
		return fmt.Errorf("ask the inside: %w", err)
	}
	var a reply
	if err := o.dec.Decode(&a); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the inside of the run has ended before it began")
		}
		return fmt.Errorf("ask the inside: %w", err)
	}
	if a.Error != "" {
		return &InsideError{a.Error, a.Hint}
	}
	return nil
}

// Run hands the run over. When it returns nil this process has nothing left to do but to exit with 0: the
// scratch directory belongs to the inside, and the front returns the command's exit code.
func Run(s *specs.Spec, o Options) error {
	if (s.Linux.Seccomp != nil) != (len(o.Filter) > 0) {
		return errors.New("the seccomp filter of the spec is not compiled")
	}
	j, err := newJob(*s, o)
	if err != nil {
		return err
	}
	return call(request{Run: j})
}

// TryOverlay reports, by doing, whether layers below dir can be mounted as an overlay in the namespaces of a run.
func TryOverlay(dir string) error { return call(request{Overlay: dir}) }
