package spec

import (
	"errors"
	"fmt"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Root is the image's root file system as it lies on disk: Layers, or Dir.
type Root struct {
	Layers []string // one directory a layer, in overlay form, lowest first
	Dir    string   // one merged directory
}

// File is a file that an option names, with its content.
type File struct {
	Name string // as the caller spells it
	Data []byte // what it holds
}

// Options are the flags of a run. The zero value, with Args, is the default run.
type Options struct {
	Args []string // the command, byte for byte

	Workdir   string // -w: where the command starts; a relative one is below cwd; "" is cwd
	WorkdirAs string // --workdir-as: where cwd is seen too, and the command starts, an absolute path; "" is nowhere else

	Env      []string // -e: K=V, or K for the host's value
	EnvFiles []File   // --env-file: lines of the same form, `#` comments
	KeepEnv  []string // --keep-env: globs of host variables that pass besides the job's own
	UnsetEnv []string // --unset-env: globs of variables taken away last
	EnvHost  bool     // --env-host: the host's whole environment, below the image's
	Terminal bool     // the command gets a terminal, and with it TERM

	Home     *string  // --home: nil is a private one, "" the caller's own, else this directory
	Tmp      string   // --tmp: "" or private, host, or a directory
	Tmpfs    []string // --tmpfs: DST[:size=N,mode=M]
	ReadOnly bool     // --read-only: no writable layer
	Persist  string   // --persist: a directory that keeps upper and work
	Volumes  []string // -v: SRC[:DST[:ro|rw]]
	Mounts   []string // --mount: type=bind,src=,dst=[,ro] or type=tmpfs,dst=; they follow Volumes
	Devices  []string // --device: paths below /dev
	AnnexRW  bool     // --annex-rw: annex objects are not made read-only

	Root     bool   // --root: be uid 0 inside
	As       *IDs   // the image's USER: be called so inside; nil is the caller
	Hostname string // --hostname: the name in a UTS namespace of its own
	Network  string // --network: "" or host, none
	PID      string // --pid: "" or host, private
	Seccomp  File   // --seccomp: Name "" or default, unconfined, or a profile with its Data
}

// Host is what a run must know of the host it starts on.
type Host struct {
	UID, GID        int    // the caller's ids, outside any namespace of ours
	Name, GroupName string // their names, "" where the host knows none
	Home            string // the caller's home directory

	Env         []string // the caller's environment
	Umask       uint32   // the caller's file mode mask
	Cwd         string   // the caller's directory as the caller spells it, absolute and clean
	PhysicalCwd string   // the same without symlinks

	Datasets      []Bind   // seen besides cwd, physical: the dataset that holds it, its superdatasets, git directories elsewhere
	Objects       []string // annex object directories of these, seen read-only
	VolumeObjects []string // further annex object directories, read-only where a bind shows them

	Devices []string        // the names in /dev
	Paths   map[string]Path // of what [Paths] names, that which exists
	Store   string          // where unpacked images lie, physical: read-only inside
	Hidden  string          // where runs keep their state, physical: an empty directory inside
	Scratch string          // the 0700 directory of this run; upper, work, tmp, home and state in it
}

// Path is a path that exists on the host.
type Path struct {
	Physical string // without symlinks
	Dir      bool   // a directory
}

// Paths names the absolute paths that New needs to find in host.Paths when they
// exist. It uses host's Cwd, which is absolute, Home and Env. Its errors are those of New about the
// arguments of --tmpfs, -v, --mount and --device.
func Paths(o Options, host Host) ([]string, error) {
	explicit, err := parseVolumes(o, host.Cwd)
	if err != nil {
		return nil, err
	}
	paths := []string{"/etc/hosts", "/etc/resolv.conf", host.Home}
	for dir := host.Cwd; len(dir) > 1; dir = path.Dir(dir) {
		paths = append(paths, dir)
	}
	if dir := homeSource(o, host); dir != "" {
		paths = append(paths, dir)
	}
	if dir := tmpSource(o, host); dir != "" {
		paths = append(paths, dir)
	}
	for _, v := range explicit {
		if v.source != "" {
			paths = append(paths, v.source)
		}
	}
	for _, f := range jobFiles(parseVars(host.Env)) {
		paths = append(paths, f.path)
	}
	return paths, nil
}

// New describes the run of o.Args in root, an image with this config. An error
// with something to type has a Hint method.
func New(config *v1.ConfigFile, root Root, host Host, o Options) (*specs.Spec, error) {
	if len(o.Args) == 0 {
		return nil, errors.New("no command to run")
	}
	for _, arg := range o.Args {
		if strings.ContainsRune(arg, 0) { // an image's ENTRYPOINT may
			return nil, fmt.Errorf("the argument %q holds a zero byte", arg)
		}
	}
	explicit, err := parseVolumes(o, host.Cwd)
	if err != nil {
		return nil, err
	}
	show, err := showCwd(host, o, explicit)
	if err != nil {
		return nil, err
	}
	workdir := absolute(o.Workdir, host.Cwd)
	if o.WorkdirAs != "" && o.Workdir == "" {
		workdir = path.Clean(o.WorkdirAs)
	}
	env, err := environment(config.Config.Env, workdir, host, o)
	if err != nil {
		return nil, err
	}
	mounts, err := mountTable(config.Config.Env, root, host, o, explicit, env, show)
	if err != nil {
		return nil, err
	}
	namespaces, err := namespaces(o)
	if err != nil {
		return nil, err
	}
	user, uids, gids := user(host, o)
	s := &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Terminal:        o.Terminal,
			User:            user,
			Args:            o.Args,
			Env:             env.list(),
			Cwd:             workdir,
			Capabilities:    capabilities(o.Root),
			NoNewPrivileges: true,
		},
		Root:        &specs.Root{Path: path.Join(host.Scratch, "state", "root"), Readonly: o.ReadOnly},
		Hostname:    o.Hostname,
		Mounts:      mounts,
		Annotations: identity(host, o),
		Linux: &specs.Linux{
			UIDMappings:   uids,
			GIDMappings:   gids,
			Namespaces:    namespaces,
			MaskedPaths:   maskedPaths(),
			ReadonlyPaths: readonlyPaths(),
		},
	}
	// Last, for the profile depends on the capabilities.
	if s.Linux.Seccomp, err = filter(s, o.Seccomp); err != nil {
		return nil, err
	}
	return s, nil
}

// namespaces are always user, mount and cgroup; MPI breaks with any other that is
// not asked for.
func namespaces(o Options) ([]specs.LinuxNamespace, error) {
	types := []specs.LinuxNamespaceType{specs.UserNamespace, specs.MountNamespace, specs.CgroupNamespace}
	switch o.PID {
	case "", "host":
	case "private":
		types = append(types, specs.PIDNamespace)
	default:
		return nil, fmt.Errorf("pid namespace %q is neither host nor private", o.PID)
	}
	switch o.Network {
	case "", "host":
	case "none":
		types = append(types, specs.NetworkNamespace)
	default:
		return nil, fmt.Errorf("network %q is neither host nor none", o.Network)
	}
	if o.Hostname != "" {
		types = append(types, specs.UTSNamespace)
	}
	list := make([]specs.LinuxNamespace, len(types))
	for i, t := range types {
		list[i].Type = t
	}
	return list, nil
}

// hinted is an error with something to type.
type hinted struct{ text, hint string }

func (e *hinted) Error() string { return e.text }

// Hint returns what to type.
func (e *hinted) Hint() string { return e.hint }
