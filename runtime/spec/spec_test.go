package spec_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/runtime/spec"
)

var update = flag.Bool("update", false, "write the golden files")

// ann is an ordinary user in her project.
func ann() spec.Host {
	return spec.Host{
		UID: 1001, GID: 1002, Name: "ann", GroupName: "lab", Home: "/home/ann",
		Umask: 0o027, Cwd: "/data/project", PhysicalCwd: "/data/project",
		Devices: []string{"fuse", "full", "kmsg", "kvm", "mqueue", "null", "random", "sda", "shm", "tty", "urandom", "zero"},
		Scratch: "/scratch/run",
	}
}

// exist adds to host.Paths what Paths asks for and the list has: PATH, PATH/ for a
// directory, and PATH=PHYSICAL for one with symlinks.
func exist(t *testing.T, host spec.Host, o spec.Options, list ...string) spec.Host {
	t.Helper()
	asked, err := spec.Paths(o, host)
	if err != nil {
		t.Fatal(err)
	}
	host.Paths = map[string]spec.Path{}
	for _, entry := range list {
		name, dir := strings.CutSuffix(entry, "/")
		name, physical, ok := strings.Cut(name, "=")
		if !ok {
			physical = name
		}
		if slices.Contains(asked, name) {
			host.Paths[name] = spec.Path{Physical: physical, Dir: dir}
		}
	}
	return host
}

func describe(t *testing.T, env []string, host spec.Host, o spec.Options) *specs.Spec {
	t.Helper()
	s, err := create(env, host, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// create describes without the long seccomp filter, unless o asks for one.
func create(env []string, host spec.Host, o spec.Options) (*specs.Spec, error) {
	if o.Args == nil {
		o.Args = []string{"true"}
	}
	if o.Seccomp.Name == "" {
		o.Seccomp.Name = "unconfined"
	}
	config := &v1.ConfigFile{Config: v1.Config{Env: env, User: "nobody", WorkingDir: "/w", Entrypoint: []string{"/entry"}, Cmd: []string{"cmd"}}}
	return spec.New(config, spec.Root{Layers: []string{"/store/a", "/store/b"}}, host, o)
}

func checkError(t *testing.T, err error, want, hint string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error is %q, want %q in it", err, want)
	}
	var h interface{ Hint() string }
	got := ""
	if errors.As(err, &h) {
		got = h.Hint()
	}
	if hint == "" && got != "" || !strings.Contains(got, hint) {
		t.Errorf("hint is %q, want %q in it", got, hint)
	}
}

func TestGolden(t *testing.T) {
	project := ann()

	dataset := ann()
	dataset.Cwd, dataset.PhysicalCwd = "/home/ann/link/sub/dir", "/data/super/sub/dir"
	dataset.Datasets = []spec.Bind{{Path: "/data/super/sub"}, {Path: "/data/super"}}
	dataset.Objects = []string{"/data/super/.git/modules/sub/annex/objects", "/data/super/.git/annex/objects"}
	dataset.Env = []string{"SLURM_JOB_ID=7", "SLURM_JWT=secret", "LD_PRELOAD=x", "TMPDIR=/t"}

	root := ann()

	private := ann()
	private.Cwd, private.PhysicalCwd = "/tmp/work", "/tmp/work"

	for _, c := range []struct {
		name  string
		env   []string
		host  spec.Host
		o     spec.Options
		exist []string
	}{
		{"plain", []string{"PATH=/opt/bin:/bin", "LANG=C.UTF-8"}, project, spec.Options{Args: []string{"sh", "-c", "echo 'a  b'"}}, []string{"/etc/hosts", "/etc/resolv.conf=/run/resolv.conf"}},
		{"dataset", []string{"HOME=/root"}, dataset, spec.Options{}, []string{"/home/ann/link/sub=/data/super/sub/", "/home/ann/link=/data/super/", "/home/ann/"}},
		{"root", nil, root, spec.Options{Root: true, ReadOnly: true, Volumes: []string{"/srv/in:/in:ro", "out"}, Devices: []string{"/dev/dri"}}, []string{"/srv/in/", "/data/project/out/", "/dev/dri/"}},
		{"private", nil, private, spec.Options{PID: "private", Network: "none", Hostname: "box", Persist: "/keep", Tmpfs: []string{"/big:size=1g"}, Workdir: "/big"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := json.MarshalIndent(describe(t, c.env, exist(t, c.host, c.o, c.exist...), c.o), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", c.name+".json")
			if *update {
				if err := os.WriteFile(file, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got)+"\n", "\n")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestImageConfigIsNotApplied(t *testing.T) {
	p := describe(t, nil, ann(), spec.Options{Args: []string{"a", "", "-b\n"}}).Process
	if diff := cmp.Diff([]string{"a", "", "-b\n"}, p.Args); diff != "" {
		t.Errorf("args: %s", diff)
	}
	if p.Cwd != "/data/project" {
		t.Errorf("cwd is %s, the image's WorkingDir must not count", p.Cwd)
	}
	if p.User.UID != 1001 {
		t.Errorf("uid is %d, the image's User must not count", p.User.UID)
	}
}

func TestNamespaces(t *testing.T) {
	always := []specs.LinuxNamespaceType{"user", "mount", "cgroup"}
	for _, c := range []struct {
		o    spec.Options
		more []specs.LinuxNamespaceType
	}{
		{spec.Options{}, nil},
		{spec.Options{Network: "host", PID: "host"}, nil},
		{spec.Options{Network: "none"}, []specs.LinuxNamespaceType{"network"}},
		{spec.Options{PID: "private"}, []specs.LinuxNamespaceType{"pid"}},
		{spec.Options{Hostname: "h"}, []specs.LinuxNamespaceType{"uts"}},
	} {
		s := describe(t, nil, ann(), c.o)
		var got []specs.LinuxNamespaceType
		for _, n := range s.Linux.Namespaces {
			got = append(got, n.Type)
			if n.Path != "" {
				t.Errorf("%+v: namespace %s has a path", c.o, n.Type)
			}
		}
		if diff := cmp.Diff(slices.Concat(always, c.more), got); diff != "" {
			t.Errorf("%+v: -want +got\n%s", c.o, diff)
		}
		if s.Hostname != c.o.Hostname {
			t.Errorf("hostname is %q", s.Hostname)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		o          spec.Options
	}{
		{"no command", "no command", spec.Options{Args: []string{}}},
		{"network", `network "bridge" is neither host nor none`, spec.Options{Network: "bridge"}},
		{"pid", `pid namespace "container:x"`, spec.Options{PID: "container:x"}},
		{"persist and read-only", "--read-only forbids", spec.Options{Persist: "p", ReadOnly: true}},
		{"home missing", "--home: /nowhere: no such directory", spec.Options{Home: ptr("/nowhere")}},
		{"home a file", "--home: /data/project/file is not a directory", spec.Options{Home: ptr("file")}},
		{"tmp missing", "--tmp: /nowhere: no such directory", spec.Options{Tmp: "/nowhere"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := create(nil, exist(t, ann(), c.o, "/data/project/file"), c.o)
			checkError(t, err, c.want, "")
		})
	}
	_, err := spec.New(&v1.ConfigFile{}, spec.Root{}, ann(), spec.Options{Args: []string{"x"}})
	checkError(t, err, "no layer", "")
}

func TestRoot(t *testing.T) {
	for _, c := range []struct {
		name string
		root spec.Root
		o    spec.Options
		want []string
	}{
		{"layers, topmost first", spec.Root{Layers: []string{"/1", "/2:,", "/3"}}, spec.Options{},
			[]string{"lowerdir+=/3", "lowerdir+=/2:,", "lowerdir+=/1", "upperdir=/scratch/run/upper", "workdir=/scratch/run/work", "userxattr"}},
		{"one directory", spec.Root{Dir: "/merged"}, spec.Options{ReadOnly: true},
			[]string{"lowerdir+=/merged", "upperdir=/scratch/run/upper", "workdir=/scratch/run/work", "userxattr"}},
		{"persist", spec.Root{Dir: "/merged"}, spec.Options{Persist: "keep"},
			[]string{"lowerdir+=/merged", "upperdir=/data/project/keep/upper", "workdir=/data/project/keep/work", "userxattr"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Args, c.o.Seccomp.Name = []string{"x"}, "unconfined"
			layers := slices.Clone(c.root.Layers)
			s, err := spec.New(&v1.ConfigFile{}, c.root, ann(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			want := specs.Mount{Destination: "/", Type: "overlay", Source: "overlay", Options: c.want}
			if diff := cmp.Diff(want, s.Mounts[0]); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if diff := cmp.Diff(&specs.Root{Path: "/scratch/run/state/root", Readonly: c.o.ReadOnly}, s.Root); diff != "" {
				t.Errorf("root: -want +got\n%s", diff)
			}
			if !slices.Equal(layers, c.root.Layers) {
				t.Errorf("the caller's layers became %v", c.root.Layers)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }
