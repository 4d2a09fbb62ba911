package runtime

import (
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
}

// request is one message of the outside. Exactly one field is set.
type request struct {
	Overlay string `json:",omitempty"` // try an overlay mount below this directory
	Run     *job   `json:",omitempty"`
}

type job struct {
	Spec    *specs.Spec
	Options Options
}

type reply struct {
	Error string `json:",omitempty"`
	Hint  string `json:",omitempty"`
}

// InsideError is what the inside answered. Hint says what to type, or is empty.
type InsideError struct{ Message, hint string }

func (e *InsideError) Error() string { return e.Message }

// Hint is the next step.
func (e *InsideError) Hint() string { return e.hint }

// outside is the caller's end of the socket.
type outside struct {
	sync.Mutex
	enc *json.Encoder
	dec *json.Decoder
}

var connect = sync.OnceValue(func() *outside {
	peer := prelude.Peer()
	return &outside{enc: json.NewEncoder(peer), dec: json.NewDecoder(peer)}
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
	bare, linux := *s, *s.Linux
	linux.Seccomp = nil // long, and compiled already
	bare.Linux = &linux
	return call(request{Run: &job{&bare, o}})
}

// TryOverlay reports, by doing, whether layers below dir can be mounted as an overlay in the namespaces of a run.
func TryOverlay(dir string) error { return call(request{Overlay: dir}) }
