package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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
	Hold    string `json:"-"` // a file to hold a shared flock on while the run lives, where that can be had; "" for none
	Quiet   bool   // say nothing but errors
	Offer   string // what the launcher offers an MPI program: its failure may be explained by it; "" says nothing

	// AlikeEnv is the command's environment as ranks with the same command line are to have it (Seat.Start): a name without
	// a value stands for each rank's own. nil: they describe their runs themselves.
	AlikeEnv []string `json:"-"`
	Shared   bool     // others may join; set by Seat.Start
}

// request is one message of the outside. Exactly one field is set.
type request struct {
	Overlay string `json:",omitempty"` // try an overlay mount below this directory
	Run     *job   `json:",omitempty"`
}

// job is a run: what of a spec this package honours, and no more, since a whole specs.Spec takes JSON a millisecond.
// Arguments, variables and paths may hold any bytes, which JSON strings cannot.
type job struct {
	Args, Env        [][]byte
	Cwd              []byte
	Terminal         bool
	User             specs.User
	Capabilities     *specs.LinuxCapabilities
	NoNewPrivileges  bool
	Root             *specs.Root
	Hostname         string
	Mounts           []mount
	Namespaces       []specs.LinuxNamespace
	Masked, ReadOnly []string
	Annotations      map[string]string
	Hold             []byte
	Options          Options
}

// mount is a specs.Mount in bytes.
type mount struct {
	Destination, Source []byte
	Type                string
	Options             [][]byte
}

// newJob packs s.
func newJob(s *specs.Spec, o Options) *job {
	p := s.Process
	j := &job{
		Args: toBytes(p.Args), Env: toBytes(p.Env), Cwd: []byte(p.Cwd), Terminal: p.Terminal,
		User: p.User, Capabilities: p.Capabilities, NoNewPrivileges: p.NoNewPrivileges,
		Root: s.Root, Hostname: s.Hostname, Namespaces: s.Linux.Namespaces,
		Masked: s.Linux.MaskedPaths, ReadOnly: s.Linux.ReadonlyPaths, Annotations: s.Annotations, Hold: []byte(o.Hold), Options: o,
	}
	for _, m := range s.Mounts {
		j.Mounts = append(j.Mounts, mount{[]byte(m.Destination), []byte(m.Source), m.Type, toBytes(m.Options)})
	}
	return j
}

// spec is what newJob packed.
func (j *job) spec() *specs.Spec {
	s := &specs.Spec{
		Process: &specs.Process{
			Args: toStrings(j.Args), Env: toStrings(j.Env), Cwd: string(j.Cwd), Terminal: j.Terminal,
			User: j.User, Capabilities: j.Capabilities, NoNewPrivileges: j.NoNewPrivileges,
		},
		Root: j.Root, Hostname: j.Hostname, Annotations: j.Annotations,
		Linux: &specs.Linux{Namespaces: j.Namespaces, MaskedPaths: j.Masked, ReadonlyPaths: j.ReadOnly},
	}
	for _, m := range j.Mounts {
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: string(m.Destination), Source: string(m.Source), Type: m.Type, Options: toStrings(m.Options),
		})
	}
	return s
}

func toBytes(list []string) [][]byte {
	b := make([][]byte, len(list))
	for i, s := range list {
		b[i] = []byte(s)
	}
	return b
}

func toStrings(list [][]byte) []string {
	s := make([]string, len(list))
	for i, b := range list {
		s[i] = string(b)
	}
	return s
}

type reply struct {
	Error, Hint  string
	NoNamespaces bool
}

// InsideError is what the inside answered. Hint says what to type, or is empty.
type InsideError struct {
	Message, hint string
	NoNamespaces  bool // nothing can be run: the kernel gives this user no namespaces
}

func (e *InsideError) Error() string { return e.Message }

// Hint is the next step.
func (e *InsideError) Hint() string { return e.hint }

// outside is the caller's end of the socket, nil as long as there is no inside.
type outside struct {
	sync.Mutex
	peer *os.File
	enc  *json.Encoder
	dec  *json.Decoder
}

var inside outside

// connect finds the inside, or starts it where it waits to be asked for.
func (o *outside) connect() error {
	if o.peer != nil {
		return nil
	}
	peer := prelude.Peer()
	if prelude.Waits() {
		var err error
		if peer, err = prelude.StartInside(false); err != nil {
			return err
		}
	}
	o.use(peer)
	return nil
}

func (o *outside) use(peer *os.File) {
	o.peer, o.enc, o.dec = peer, json.NewEncoder(peer), json.NewDecoder(peer)
}

// renew starts an inside in place of one that has been of use, or waits. With inner it has the inner user namespace ready.
func renew(inner bool) error {
	inside.Lock()
	defer inside.Unlock()
	peer, err := prelude.StartInside(inner)
	if err == nil {
		inside.use(peer)
	}
	return err
}

func call(r request) error {
	o := &inside
	o.Lock()
	defer o.Unlock()
	if err := o.connect(); err != nil {
		return err
	}
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
		return &InsideError{a.Error, a.Hint, a.NoNamespaces}
	}
	return nil
}

// Run hands the run over. When it returns nil this process has nothing left to do but to exit with 0: the
// scratch directory belongs to the inside, and the front returns the command's exit code.
func Run(s *specs.Spec, o Options) error {
	if err := checkFilter(s, o); err != nil {
		return err
	}
	return call(request{Run: newJob(s, o)})
}

func checkFilter(s *specs.Spec, o Options) error {
	if (s.Linux.Seccomp != nil) != (len(o.Filter) > 0) {
		return errors.New("the seccomp filter of the spec is not compiled")
	}
	return nil
}

// TryOverlay reports, by doing, whether layers below dir can be mounted as an overlay in the namespaces of a run.
func TryOverlay(dir string) error { return call(request{Overlay: dir}) }
