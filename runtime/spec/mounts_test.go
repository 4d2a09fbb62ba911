package spec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/runtime/spec"
)

// brief writes a mount as `SOURCE DESTINATION`, with ` ro` behind or the options of a
// tmpfs; a source in the run's scratch directory begins with `~`.
func brief(m specs.Mount) string {
	line := strings.Replace(m.Source, "/scratch/run/", "~", 1) + " " + m.Destination
	if m.Type == "tmpfs" {
		return line + " " + strings.Join(m.Options, ",")
	}
	if slices.Contains(m.Options, "rro") {
		line += " ro"
	}
	return line
}

// visible are the mounts besides the system's own.
func visible(s *specs.Spec) []string {
	var list []string
	for _, m := range s.Mounts {
		switch {
		case m.Destination == "/", m.Destination == "/proc", m.Destination == "/sys", m.Destination == "/dev", strings.HasPrefix(m.Destination, "/dev/"):
		default:
			list = append(list, brief(m))
		}
	}
	return list
}

const (
	tmp  = "~tmp /tmp"
	home = "~home /home/ann"
	cwd  = "/data/project /data/project"
)

// vcase is a table row of what a run sees.
type vcase struct {
	name  string
	env   []string // of the image
	at    string   // cwd, LOGICAL or LOGICAL=PHYSICAL
	host  spec.Host
	o     spec.Options
	exist []string
	want  []string
}

func (c vcase) run(t *testing.T) {
	t.Helper()
	h := c.place(ann())
	h.Datasets, h.Objects, h.VolumeObjects, h.Env = c.host.Datasets, c.host.Objects, c.host.VolumeObjects, c.host.Env
	h = exist(t, h, c.o, c.exist...)
	got := slices.DeleteFunc(visible(describe(t, c.env, h, c.o)), func(m string) bool {
		return isPin(m) && !slices.Contains(c.want, m) // TestPins
	})
	if diff := cmp.Diff(c.want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// place puts the caller where the row says.
func (c vcase) place(h spec.Host) spec.Host {
	if c.at == "" {
		return h
	}
	logical, physical, ok := strings.Cut(c.at, "=")
	if !ok {
		physical = logical
	}
	h.Cwd, h.PhysicalCwd = logical, physical
	return h
}

// isPin knows the directories of git that are bound so that they cannot be renamed.
func isPin(mount string) bool {
	return strings.Contains(mount, "/.git") && !strings.HasSuffix(mount, " ro")
}

// A renamed .git/annex would leave its read-only mount, and a renamed .git be no dataset for the next run.
func TestPins(t *testing.T) {
	host := spec.Host{
		UID: 1000, GID: 1000, Name: "ann", Home: "/home/ann", Scratch: "/scratch/run", Cwd: "/d/s", PhysicalCwd: "/d/s",
		Datasets: []spec.Bind{{Path: "/d/s"}},
		Objects:  []string{"/d/s/.git/annex/objects", "/d/s/.git/modules/sub/annex/objects", "/d/s/in/.git/annex/objects"},
		Paths:    map[string]spec.Path{"/d": {Physical: "/d", Dir: true}},
		Store:    "/d/cache/dlrun",
	}
	for _, c := range []struct {
		name string
		o    spec.Options
		want []string
	}{
		{"dataset", spec.Options{}, []string{
			"/d/s /d/s", "/d/s/.git /d/s/.git", "/d/s/.git/annex /d/s/.git/annex", "/d/s/.git/modules /d/s/.git/modules",
			"/d/s/.git/modules/sub /d/s/.git/modules/sub", "/d/s/.git/modules/sub/annex /d/s/.git/modules/sub/annex",
			"/d/s/in/.git /d/s/in/.git", "/d/s/in/.git/annex /d/s/in/.git/annex",
			"/d/s/.git/annex/objects /d/s/.git/annex/objects ro", "/d/s/.git/modules/sub/annex/objects /d/s/.git/modules/sub/annex/objects ro",
			"/d/s/in/.git/annex/objects /d/s/in/.git/annex/objects ro",
		}},
		{"its parent, elsewhere", spec.Options{Volumes: []string{"/d:/x"}}, []string{
			"/d /x", "/d/s/.git /x/s/.git", "/d/s/.git/annex /x/s/.git/annex", "/d/s/.git/modules /x/s/.git/modules",
			"/d/s/.git/modules/sub /x/s/.git/modules/sub", "/d/s/.git/modules/sub/annex /x/s/.git/modules/sub/annex",
			"/d/s/in/.git /x/s/in/.git", "/d/s/in/.git/annex /x/s/in/.git/annex",
			"/d/s/.git/annex/objects /x/s/.git/annex/objects ro", "/d/s/.git/modules/sub/annex/objects /x/s/.git/modules/sub/annex/objects ro",
			"/d/s/in/.git/annex/objects /x/s/in/.git/annex/objects ro", "/d/cache/dlrun /x/cache/dlrun ro",
		}},
		{"lifted, but for the store", spec.Options{AnnexRW: true, Volumes: []string{"/d:/x"}}, []string{"/d /x", "/d/cache/dlrun /x/cache/dlrun ro"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := slices.DeleteFunc(visible(describe(t, nil, host, c.o)), func(m string) bool {
				_, to, _ := strings.Cut(m, " ")
				_, first, _ := strings.Cut(c.want[0], " ")
				return !strings.HasPrefix(to, first)
			})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestHomeAndTmp(t *testing.T) {
	for _, c := range []vcase{
		{name: "private", want: []string{tmp, home, cwd}},
		{name: "image sets HOME", env: []string{"HOME=/root"}, want: []string{tmp, cwd}},
		{name: "image sets it empty", env: []string{"HOME="}, want: []string{tmp, home, cwd}},
		{name: "own home", o: spec.Options{Home: ptr("")}, exist: []string{"/home/ann=/nfs/ann/"}, want: []string{tmp, "/nfs/ann /home/ann", cwd}},
		{name: "a home", o: spec.Options{Home: ptr("h")}, env: []string{"HOME=/root"}, exist: []string{"/data/project/h/"}, want: []string{tmp, "/data/project/h /home/ann", cwd}},
		{name: "host tmp", o: spec.Options{Tmp: "host"}, exist: []string{"/tmp/"}, want: []string{"/tmp /tmp", home, cwd}},
		{name: "a tmp", o: spec.Options{Tmp: "t"}, exist: []string{"/data/project/t/"}, want: []string{"/data/project/t /tmp", home, cwd}},
		{name: "private tmp by name", o: spec.Options{Tmp: "private"}, want: []string{tmp, home, cwd}},
		{name: "cwd is /tmp", at: "/tmp", want: []string{home, "/tmp /tmp"}},
		{name: "cwd below /tmp", at: "/tmp/a/b", want: []string{tmp, home, "/tmp/a/b /tmp/a/b"}},
		{name: "cwd is HOME", at: "/home/ann", want: []string{tmp, "/home/ann /home/ann"}},
		{name: "cwd below HOME", at: "/home/ann/x", want: []string{tmp, home, "/home/ann/x /home/ann/x"}},
		{name: "HOME is a symlink, cwd in it", at: "/home/ann=/nfs/ann", want: []string{tmp, "/nfs/ann /nfs/ann", "/nfs/ann /home/ann"}},
		{name: "HOME is a symlink, cwd its target", at: "/nfs/ann", exist: []string{"/home/ann=/nfs/ann/"}, want: []string{tmp, "/nfs/ann /nfs/ann", "/nfs/ann /home/ann"}},
		{name: "tmpfs on /tmp", o: spec.Options{Tmpfs: []string{"/tmp"}}, want: []string{home, cwd, "tmpfs /tmp nosuid,nodev"}},
	} {
		t.Run(c.name, c.run)
	}
}

func TestHomeInSystemDirectory(t *testing.T) {
	h := ann()
	h.Home = "/usr/sbin"
	s := describe(t, nil, h, spec.Options{})
	if diff := cmp.Diff([]string{tmp, "~home /home/ann", cwd}, visible(s)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !slices.Contains(s.Process.Env, "HOME=/home/ann") {
		t.Errorf("environment is %v", s.Process.Env)
	}
}

func TestSystem(t *testing.T) {
	h := exist(t, ann(), spec.Options{}, "/etc/hosts", "/etc/resolv.conf=/run/r")
	h.Devices = append(h.Devices, "infiniband", "hfi1_0", "hfi1_1", "cxi0", "knem", "xpmem", "hugepages", "hfi1", "tty0", "null2", "nvidia0", "mem")
	var got []string
	for _, m := range describe(t, nil, h, spec.Options{}).Mounts[1:] {
		got = append(got, m.Type+" "+m.Source+" "+m.Destination+" "+strings.Join(m.Options, ","))
	}
	node := func(name string) string { return "bind /dev/" + name + " /dev/" + name + " rbind,nosuid" }
	dir := func(name string) string { return node(name) + ",nodev" }
	want := []string{
		"bind /proc /proc rbind,nosuid,noexec,nodev",
		"bind /sys /sys rbind,nosuid,noexec,nodev,rro",
		"tmpfs tmpfs /dev nosuid,noexec,mode=755,size=64k",
		"devpts devpts /dev/pts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620",
		node("null"), node("zero"), node("full"), node("random"), node("urandom"), node("tty"), node("fuse"),
		node("infiniband"), node("hfi1_0"), node("hfi1_1"), node("cxi0"), node("knem"), node("xpmem"),
		dir("hugepages"), dir("shm"), dir("mqueue"),
		"bind /etc/hosts /etc/hosts rbind,nosuid,nodev,rro",
		"bind /run/r /etc/resolv.conf rbind,nosuid,nodev,rro",
		"bind /scratch/run/tmp /tmp rbind,nosuid,nodev",
		"bind /scratch/run/home /home/ann rbind,nosuid,nodev",
		"bind /data/project /data/project rbind,nosuid,nodev",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestPrivateProc(t *testing.T) {
	for _, m := range describe(t, nil, ann(), spec.Options{PID: "private"}).Mounts {
		if m.Destination == "/proc" && m.Type != "proc" {
			t.Errorf("/proc is %+v", m)
		}
	}
}

func TestJobFiles(t *testing.T) {
	for _, c := range []vcase{
		{name: "node file", host: spec.Host{Env: []string{"PBS_NODEFILE=/var/spool/pbs/aux/1"}}, exist: []string{"/var/spool/pbs/aux/1"},
			want: []string{tmp, home, "/var/spool/pbs/aux/1 /var/spool/pbs/aux/1 ro", cwd}},
		{name: "gone", host: spec.Host{Env: []string{"PBS_NODEFILE=/var/spool/pbs/aux/1"}}, want: []string{tmp, home, cwd}},
		{name: "relative", host: spec.Host{Env: []string{"PBS_NODEFILE=nodes"}}, exist: []string{"nodes", "/data/project/nodes"}, want: []string{tmp, home, cwd}},
		{name: "a directory in its place", host: spec.Host{Env: []string{"PBS_NODEFILE=/"}}, exist: []string{"//"}, want: []string{tmp, home, cwd}},
		{name: "an unmarked variable", host: spec.Host{Env: []string{"PBS_O_WORKDIR=/w", "OMP_NUM_THREADS=/c"}}, exist: []string{"/w/", "/c"}, want: []string{tmp, home, cwd}},
		{name: "the image's value binds nothing", env: []string{"PBS_NODEFILE=/secret"}, exist: []string{"/secret"}, want: []string{tmp, home, cwd}},
		{name: "-e takes it elsewhere", host: spec.Host{Env: []string{"PBS_NODEFILE=/n"}}, o: spec.Options{Env: []string{"PBS_NODEFILE=/m"}}, exist: []string{"/n", "/m"}, want: []string{tmp, home, cwd}},
		{name: "unset", host: spec.Host{Env: []string{"PBS_NODEFILE=/n"}}, o: spec.Options{UnsetEnv: []string{"PBS_*"}}, exist: []string{"/n"}, want: []string{tmp, home, cwd}},
		{name: "a server's directory", host: spec.Host{Env: []string{"PMIX_SERVER_TMPDIR=/tmp/pmix.1"}}, exist: []string{"/tmp/pmix.1/"},
			want: []string{tmp, home, "/tmp/pmix.1 /tmp/pmix.1", cwd}},
		{name: "a system directory in its place", host: spec.Host{Env: []string{"PMIX_SERVER_TMPDIR=/usr/lib"}}, exist: []string{"/usr/lib/"}, want: []string{tmp, home, cwd}},
		{name: "make's fifo", host: spec.Host{Env: []string{"MAKEFLAGS=w -j4 --jobserver-auth=fifo:/tmp/GMfifo7"}}, exist: []string{"/tmp/GMfifo7"},
			want: []string{tmp, home, "/tmp/GMfifo7 /tmp/GMfifo7", cwd}},
		{name: "make's last fifo", host: spec.Host{Env: []string{"MAKEFLAGS=--jobserver-auth=fifo:/a --jobserver-auth=fifo:/b"}}, exist: []string{"/a", "/b"},
			want: []string{tmp, home, "/b /b", cwd}},
		{name: "make's descriptors", host: spec.Host{Env: []string{"MAKEFLAGS= -j --jobserver-auth=3,4"}}, want: []string{tmp, home, cwd}},
	} {
		t.Run(c.name, c.run)
	}
}

func TestMaskedPaths(t *testing.T) {
	l := describe(t, nil, ann(), spec.Options{}).Linux
	for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware", "/sys/devices/virtual/powercap"} {
		if !slices.Contains(l.MaskedPaths, p) {
			t.Errorf("%s is not masked", p)
		}
	}
	if diff := cmp.Diff([]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}, l.ReadonlyPaths); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
