package spec_test

import (
	"testing"

	"github.com/dlrun/dlrun/runtime/spec"
)

func TestData(t *testing.T) {
	ds := spec.Host{Datasets: []spec.Bind{{Path: "/d/s"}}, Objects: []string{"/d/s/.git/annex/objects"}}
	objects := "/d/s/.git/annex/objects /d/s/.git/annex/objects ro"
	for _, c := range []vcase{
		{name: "cwd is the dataset", at: "/d/s", host: ds, want: []string{tmp, home, "/d/s /d/s", objects}},
		{name: "cwd below it", at: "/d/s/code", host: ds, want: []string{tmp, home, "/d/s /d/s", objects}},
		{name: "a name that only begins so", at: "/d/s2", host: ds, want: []string{tmp, home, "/d/s /d/s", objects, "/d/s2 /d/s2"}},
		{name: "--annex-rw", at: "/d/s", host: ds, o: spec.Options{AnnexRW: true}, want: []string{tmp, home, "/d/s /d/s"}},
		{name: "superdataset in any order", at: "/d/s/sub",
			host: spec.Host{Datasets: []spec.Bind{{Path: "/d/s/sub"}, {Path: "/d/s"}}, Objects: []string{"/d/s/.git/modules/sub/annex/objects", "/d/s/.git/annex/objects"}},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/.git/modules/sub/annex/objects /d/s/.git/modules/sub/annex/objects ro", objects}},
		{name: "objects of another clone", at: "/e", host: spec.Host{Datasets: []spec.Bind{{Path: "/e"}}, Objects: []string{"/d/s/.git/annex/objects"}},
			want: []string{tmp, home, "/e /e", objects}},
		{name: "the same with --annex-rw", at: "/e", host: spec.Host{Datasets: []spec.Bind{{Path: "/e"}}, Objects: []string{"/d/s/.git/annex/objects"}}, o: spec.Options{AnnexRW: true},
			want: []string{tmp, home, "/e /e", "/d/s/.git/annex/objects /d/s/.git/annex/objects"}},
		{name: "git directory elsewhere", at: "/w/t", host: spec.Host{Datasets: []spec.Bind{{Path: "/w/t"}, {Path: "/d/s/.git"}}, Objects: []string{"/d/s/.git/annex/objects"}},
			want: []string{tmp, home, "/d/s/.git /d/s/.git", objects, "/w/t /w/t"}},
		{name: "in the objects themselves", at: "/d/s/.git/annex/objects/ab", host: spec.Host{Objects: ds.Objects},
			want: []string{tmp, home, objects}},

		{name: "below the private /tmp", at: "/tmp/s", host: spec.Host{Datasets: []spec.Bind{{Path: "/tmp/s"}}, Objects: []string{"/tmp/s/o"}},
			want: []string{tmp, home, "/tmp/s /tmp/s", "/tmp/s/o /tmp/s/o ro"}},
		{name: "the dataset is HOME", at: "/home/ann/x", host: spec.Host{Datasets: []spec.Bind{{Path: "/home/ann"}}, Objects: []string{"/home/ann/o"}},
			want: []string{tmp, "/home/ann /home/ann", "/home/ann/o /home/ann/o ro"}},
		{name: "in /dev/shm", at: "/dev/shm/s", host: spec.Host{Datasets: []spec.Bind{{Path: "/dev/shm/s"}}}, want: []string{tmp, home}},

		{name: "cwd by a symlink to the dataset", at: "/l=/d/s", host: ds,
			want: []string{tmp, home, "/d/s /d/s", objects, "/d/s /l", "/d/s/.git/annex/objects /l/.git/annex/objects ro"}},
		{name: "by one above it", at: "/l/s/code=/d/s/code", host: ds, exist: []string{"/l/s=/d/s/", "/l=/d/"},
			want: []string{tmp, home, "/d/s /d/s", objects, "/d/s /l/s", "/d/s/.git/annex/objects /l/s/.git/annex/objects ro"}},
		{name: "by one below it", at: "/l=/d/s/code", host: ds, want: []string{tmp, home, "/d/s /d/s", objects, "/d/s/code /l"}},
		{name: "by one of the same name", at: "/home/ann/code=/d/s/code", host: ds, exist: []string{"/home/ann/", "/home/"},
			want: []string{tmp, home, "/d/s /d/s", objects, "/d/s/code /home/ann/code"}},
		{name: "by one inside it", at: "/d/s/l/x=/d/s/code/x", host: ds, want: []string{tmp, home, "/d/s /d/s", objects}},
		{name: "by one in HOME", at: "/home/ann/l/code=/d/s/code", host: ds, exist: []string{"/home/ann/l=/d/s/", "/home/ann/"},
			want: []string{tmp, home, "/d/s /d/s", objects, "/d/s /home/ann/l", "/d/s/.git/annex/objects /home/ann/l/.git/annex/objects ro"}},
		{name: "by one into the superdataset's middle", at: "/l/code=/d/s/sub/code", host: spec.Host{Datasets: []spec.Bind{{Path: "/d/s"}}, Objects: []string{"/d/s/sub/o"}}, exist: []string{"/l=/d/s/sub/"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/sub/o /d/s/sub/o ro", "/d/s/sub /l", "/d/s/sub/o /l/o ro"}},
		{name: "the root leads there", at: "/code=/d/s/code", host: ds, want: []string{tmp, home, "/d/s /d/s", objects, "/d/s/code /code"}},

		{name: "another user's git directory", at: "/w/t", host: spec.Host{Datasets: []spec.Bind{{Path: "/d/s/.git", ReadOnly: true}, {Path: "/w/t"}}, Objects: []string{"/d/s/.git/annex/objects"}},
			want: []string{tmp, home, "/d/s/.git /d/s/.git ro", "/w/t /w/t"}},
		{name: "cwd in what is read-only", at: "/d/s/w", host: spec.Host{Datasets: []spec.Bind{{Path: "/d/s", ReadOnly: true}}},
			want: []string{tmp, home, "/d/s /d/s ro", "/d/s/w /d/s/w"}},
		{name: "no dataset at all", at: "/l/x=/d/x", want: []string{tmp, home, "/d/x /d/x", "/d/x /l/x"}},
	} {
		t.Run(c.name, c.run)
	}
}

func TestSystemCwd(t *testing.T) {
	bound := []string{"/srv/"}
	for _, c := range []struct {
		at    string
		o     spec.Options
		want  string // "" is no error
		shown bool
	}{
		{at: "/", want: "the current directory / is the system's"},
		{at: "/usr", want: "/usr is"},
		{at: "/usr/local/share/x", want: "/usr/local/share/x is"},
		{at: "/etc", want: "/etc"}, {at: "/bin", want: "/bin"}, {at: "/sbin", want: "/sbin"}, {at: "/boot", want: "/boot"},
		{at: "/lib", want: "/lib"}, {at: "/lib32", want: "/lib32"}, {at: "/lib64/x", want: "/lib64/x"}, {at: "/libx32", want: "/libx32"},
		{at: "/dev", want: "/dev"}, {at: "/dev/pts", want: "/dev/pts"}, {at: "/proc/self", want: "/proc/self"}, {at: "/sys/fs", want: "/sys/fs"},
		{at: "/home/ann/l=/usr/share/x", want: "/usr/share/x is"},
		{at: "/usr/l=/data/x", want: "/usr/l is"},
		{at: "/usr2", shown: true}, {at: "/library", shown: true}, {at: "/run/user/1001", shown: true}, {at: "/var/x", shown: true}, {at: "/home", shown: true},
		{at: "/usr", o: spec.Options{Workdir: "/srv"}},
		{at: "/", o: spec.Options{Workdir: "/"}},
		{at: "/usr/share/x", o: spec.Options{Volumes: []string{"/srv:/usr/share/x"}}},
		{at: "/usr/share/x", o: spec.Options{Mounts: []string{"src=/srv,dst=/usr/share"}}},
		{at: "/usr/share/x", o: spec.Options{Volumes: []string{"/srv:/usr/share/x/y"}}, want: "/usr/share/x is"},
		{at: "/usr/share/x", o: spec.Options{Volumes: []string{"/srv:/usr/share/x2"}}, want: "/usr/share/x is"},
		{at: "/", o: spec.Options{Volumes: []string{"/srv"}}, want: "directory / is"},
	} {
		t.Run(c.at, func(t *testing.T) {
			row := vcase{at: c.at}
			h := row.place(ann())
			h.Datasets = []spec.Bind{{Path: h.PhysicalCwd}}
			h = exist(t, h, c.o, bound...)
			s, err := create(nil, h, c.o)
			if c.want != "" {
				checkError(t, err, c.want, "-w PATH")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			shown := false
			for _, m := range s.Mounts {
				shown = shown || m.Source == h.PhysicalCwd && m.Destination == h.Cwd
			}
			if shown != c.shown {
				t.Errorf("cwd is bound: %v, want %v", shown, c.shown)
			}
		})
	}
}

func TestWorkdir(t *testing.T) {
	for _, c := range []struct{ workdir, want string }{
		{"", "/home/ann/l"}, {"/x/../y/", "/y"}, {"sub", "/home/ann/l/sub"}, {"..", "/home/ann"}, {"/", "/"},
	} {
		h := ann()
		h.Cwd, h.PhysicalCwd = "/home/ann/l", "/d"
		s := describe(t, nil, h, spec.Options{Workdir: c.workdir})
		if s.Process.Cwd != c.want {
			t.Errorf("-w %q: cwd is %s, want %s", c.workdir, s.Process.Cwd, c.want)
		}
		if last := s.Mounts[len(s.Mounts)-1]; last.Destination != "/home/ann/l" {
			t.Errorf("-w %q: the caller's directory is not bound, last is %+v", c.workdir, last)
		}
	}
	h := ann()
	h.Paths = map[string]spec.Path{h.Cwd: {Physical: h.PhysicalCwd, Dir: true}}
	for workdir, want := range map[string]string{"": "/tmp/x", "/y": "/y"} {
		if s := describe(t, nil, h, spec.Options{Workdir: workdir, WorkdirAs: "/tmp/x/"}); s.Process.Cwd != want {
			t.Errorf("--workdir-as, -w %q: cwd is %s, want %s", workdir, s.Process.Cwd, want)
		}
	}
}
