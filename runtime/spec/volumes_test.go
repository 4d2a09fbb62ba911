package spec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/dlrun/dlrun/runtime/spec"
)

func TestVolumes(t *testing.T) {
	ds := spec.Host{Datasets: []spec.Bind{{Path: "/d/s"}}, Objects: []string{"/d/s/o"}}
	here := []string{tmp, home, cwd}
	vol := func(v ...string) spec.Options { return spec.Options{Volumes: v} }
	mount := func(v ...string) spec.Options { return spec.Options{Mounts: v} }
	for _, c := range []vcase{
		{name: "source alone", o: vol("/s"), exist: []string{"/s/"}, want: append(here, "/s /s")},
		{name: "destination", o: vol("/s:/x/"), exist: []string{"/s/"}, want: append(here, "/s /x")},
		{name: "read-only", o: vol("/s:/x:ro"), exist: []string{"/s/"}, want: append(here, "/s /x ro")},
		{name: "writable", o: vol("/s:/x:rw"), exist: []string{"/s/"}, want: append(here, "/s /x")},
		{name: "labels of SELinux", o: vol("/s:/x:ro,z", "/s:/y:Z"), exist: []string{"/s/"}, want: append(here, "/s /x ro", "/s /y")},
		{name: "relative", o: vol("s", "./t:/t", "../u"), exist: []string{"/data/project/s", "/data/project/t/", "/data/u/"},
			want: append(here, "/data/project/s /data/project/s", "/data/project/t /t", "/data/u /data/u")},
		{name: "symlink", o: vol("/l"), exist: []string{"/l=/s/"}, want: append(here, "/s /l")},
		{name: "the last one wins", o: vol("/s:/x", "/t:/x"), exist: []string{"/s/", "/t/"}, want: append(here, "/t /x")},
		{name: "what it hides is left out", o: vol("/s:/data", "/t:/tmp"), exist: []string{"/s/", "/t/"}, want: []string{home, "/s /data", "/t /tmp"}},
		{name: "on a file of the system", o: vol("/s:/etc/hosts"), exist: []string{"/etc/hosts", "/s"}, want: append(here, "/s /etc/hosts")},
		{name: "mount", o: mount("type=bind,src=/a:b,dst=/x", "source=/s,target=/y,ro", "destination=/z,src=/s,readonly=true", "src=/s,dst=/v,ro=false"), exist: []string{"/a:b", "/s/"},
			want: append(here, "/a:b /x", "/s /y ro", "/s /z ro", "/s /v")},
		{name: "mount, quoted", o: mount(`"src=/a,b",dst=/x`), exist: []string{"/a,b"}, want: append(here, "/a,b /x")},
		{name: "mount, tmpfs", o: mount("type=tmpfs,dst=/x", "type=tmpfs,dst=/y,ro"), want: append(here, "tmpfs /x nosuid,nodev", "tmpfs /y nosuid,nodev,ro")},
		{name: "tmpfs", o: spec.Options{Tmpfs: []string{"/x:size=10m,mode=700", "/y"}}, want: append(here, "tmpfs /x nosuid,nodev,size=10m,mode=700", "tmpfs /y nosuid,nodev")},
		{name: "tmpfs above cwd", o: spec.Options{Tmpfs: []string{"/data"}}, want: []string{tmp, home, "tmpfs /data nosuid,nodev", cwd}},
		{name: "tmpfs on cwd", o: spec.Options{Tmpfs: []string{"/data/project"}}, want: []string{tmp, home, "tmpfs /data/project nosuid,nodev"}},
		{name: "tmpfs in cwd", o: spec.Options{Tmpfs: []string{"/data/project/x"}}, want: append(here, "tmpfs /data/project/x nosuid,nodev")},

		{name: "cwd elsewhere too", o: spec.Options{WorkdirAs: "/x/"}, exist: []string{"/data/project/"}, want: append(here, "/data/project /x")},
		{name: "cwd in place of /tmp", o: spec.Options{WorkdirAs: "/tmp"}, exist: []string{"/data/project/"}, want: []string{home, cwd, "/data/project /tmp"}},
		{name: "a volume in it", o: spec.Options{WorkdirAs: "/tmp", Volumes: []string{"/s:/tmp/s"}}, exist: []string{"/data/project/", "/s/"}, want: []string{home, cwd, "/data/project /tmp", "/s /tmp/s"}},
		{name: "the dataset as /tmp", at: "/d/s", host: ds, o: spec.Options{WorkdirAs: "/tmp"}, exist: []string{"/d/s/"},
			want: []string{home, "/d/s /d/s", "/d/s/o /d/s/o ro", "/d/s /tmp", "/d/s/o /tmp/o ro"}},
		{name: "the dataset once more", at: "/d/s", host: ds, o: vol("/d/s:/x"), exist: []string{"/d/s/"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/o /d/s/o ro", "/d/s /x", "/d/s/o /x/o ro"}},
		{name: "over itself", at: "/d/s", host: ds, o: vol("."), exist: []string{"/d/s/"}, want: []string{tmp, home, "/d/s /d/s", "/d/s/o /d/s/o ro"}},
		{name: "above the dataset", at: "/d/s", host: ds, o: vol("/d:/x"), exist: []string{"/d/"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/o /d/s/o ro", "/d /x", "/d/s/o /x/s/o ro"}},
		{name: "the whole host", at: "/d/s", host: ds, o: vol("/:/x"), exist: []string{"//"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/o /d/s/o ro", "/ /x", "/d/s/o /x/d/s/o ro"}},
		{name: "the objects", at: "/d/s", host: ds, o: vol("/d/s/o:/x:rw"), exist: []string{"/d/s/o/"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/o /d/s/o ro", "/d/s/o /x ro"}},
		{name: "an annexed file", at: "/d/s", host: ds, o: vol("in.nii:/x"), exist: []string{"/d/s/in.nii=/d/s/o/aa/KEY"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/o /d/s/o ro", "/d/s/o/aa/KEY /x ro"}},
		{name: "by a symlink", at: "/d/s", host: ds, o: vol("/l:/x"), exist: []string{"/l=/d/s/"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s/o /d/s/o ro", "/d/s /x", "/d/s/o /x/o ro"}},
		{name: "objects stay writable with --annex-rw", at: "/d/s", host: ds, o: spec.Options{Volumes: []string{"/d/s:/x", "/d/s/o:/y"}, AnnexRW: true}, exist: []string{"/d/s/", "/d/s/o/"},
			want: []string{tmp, home, "/d/s /d/s", "/d/s /x", "/d/s/o /y"}},
		{name: "another dataset", host: spec.Host{VolumeObjects: []string{"/e/o"}}, o: vol("/e:/x"), exist: []string{"/e/"}, want: append(here, "/e /x", "/e/o /x/o ro")},
		{name: "its objects are not shown otherwise", host: spec.Host{VolumeObjects: []string{"/e/o"}}, o: vol("/e/sub:/x"), exist: []string{"/e/sub/"}, want: append(here, "/e/sub /x")},
		{name: "all of it read-only", host: spec.Host{VolumeObjects: []string{"/e/o"}}, o: vol("/e:/x:ro"), exist: []string{"/e/"}, want: append(here, "/e /x ro")},
		{name: "objects in a bound home", host: spec.Host{VolumeObjects: []string{"/home/ann/ds/o"}}, o: spec.Options{Home: ptr("")}, exist: []string{"/home/ann/"},
			want: []string{tmp, "/home/ann /home/ann", "/home/ann/ds/o /home/ann/ds/o ro", cwd}},
		{name: "objects in the host's /tmp", host: spec.Host{VolumeObjects: []string{"/tmp/o"}}, o: spec.Options{Tmp: "host"}, exist: []string{"/tmp/"},
			want: []string{"/tmp /tmp", "/tmp/o /tmp/o ro", home, cwd}},
	} {
		t.Run(c.name, c.run)
	}
}

func TestDevices(t *testing.T) {
	o := spec.Options{Devices: []string{"/dev/dri", "/dev/null/"}, Volumes: []string{"/dev/kvm:/dev/kvm"}}
	got := map[string][]string{}
	s := describe(t, nil, exist(t, ann(), o, "/dev/dri/", "/dev/null", "/dev/kvm"), o)
	for _, m := range s.Mounts {
		got[m.Destination] = m.Options
	}
	for _, d := range []string{"/dev/dri", "/dev/null", "/dev/kvm"} {
		if diff := cmp.Diff([]string{"rbind", "nosuid"}, got[d]); diff != "" {
			t.Errorf("%s: -want +got\n%s", d, diff)
		}
	}

	o = spec.Options{Volumes: []string{"/dev:/dev"}}
	s = describe(t, nil, exist(t, ann(), o, "/dev/"), o)
	if n := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev" }); s.Mounts[n].Source != "/dev" {
		t.Errorf("/dev is %+v", s.Mounts[n])
	}
}

func TestVolumesRefused(t *testing.T) {
	for _, c := range []struct {
		o          spec.Options
		want, hint string
	}{
		{spec.Options{Volumes: []string{"/nowhere:/x"}}, "-v /nowhere:/x: no such file or directory: /nowhere", ""},
		{spec.Options{Volumes: []string{"nowhere"}}, "no such file or directory: /data/project/nowhere", ""},
		{spec.Options{Volumes: []string{""}}, "no source", ""},
		{spec.Options{Volumes: []string{":/x"}}, "no source", ""},
		{spec.Options{Volumes: []string{"/s:"}}, "no destination", ""},
		{spec.Options{WorkdirAs: "tmp"}, `--workdir-as tmp: destination "tmp" is not an absolute path`, "SRC:DST"},
		{spec.Options{WorkdirAs: "/"}, "the root itself cannot be mounted on", ""},
		{spec.Options{Volumes: []string{"/s:ro"}}, `destination "ro" is not an absolute path`, "SRC:DST"},
		{spec.Options{Volumes: []string{"/s:./x"}}, "not an absolute path", "SRC:DST"},
		{spec.Options{Volumes: []string{"/s:/"}}, "root itself", ""},
		{spec.Options{Volumes: []string{"/"}}, "root itself", ""},
		{spec.Options{Volumes: []string{"/s:/proc"}}, "in /proc", ""},
		{spec.Options{Volumes: []string{"/s:/proc/sys"}}, "in /proc", ""},
		{spec.Options{Volumes: []string{"/s://."}}, "root itself", ""},
		{spec.Options{Volumes: []string{"/s:/x/../y"}}, "holds `..`", ""},
		{spec.Options{Volumes: []string{"/s:/x\x00"}}, "zero byte", ""},
		{spec.Options{Volumes: []string{"/s:/x:exec"}}, `unknown option "exec", neither ro nor rw`, ""},
		{spec.Options{Volumes: []string{"/s:/x:"}}, `unknown option ""`, ""},
		{spec.Options{Volumes: []string{"/s:/x:ro:z"}}, "two colons", "--mount"},
		{spec.Options{Mounts: []string{"src=/s"}}, "no destination", ""},
		{spec.Options{Mounts: []string{"dst=/x"}}, "no src", ""},
		{spec.Options{Mounts: []string{"src=,dst=/x"}}, "empty src", ""},
		{spec.Options{Mounts: []string{""}}, "--mount", ""},
		{spec.Options{Mounts: []string{"src=/s,dst=x"}}, "not an absolute path", "SRC:DST"},
		{spec.Options{Mounts: []string{"type=volume,src=a,dst=/x"}}, `unknown type "volume", neither bind nor tmpfs`, ""},
		{spec.Options{Mounts: []string{"type=tmpfs,src=/s,dst=/x"}}, "a tmpfs has no src", ""},
		{spec.Options{Mounts: []string{"src=/s,dst=/x,volume-opt=y"}}, `unknown key "volume-opt"`, ""},
		{spec.Options{Mounts: []string{"src=/s,dst=/x,ro=maybe"}}, `"maybe"`, ""},
		{spec.Options{Tmpfs: []string{""}}, "no destination", ""},
		{spec.Options{Tmpfs: []string{"x"}}, "not an absolute path", "SRC:DST"},
		{spec.Options{Tmpfs: []string{"/x:size=lots"}}, `unknown option "size=lots"`, ""},
		{spec.Options{Tmpfs: []string{"/x:size=1g,uid=0"}}, `unknown option "uid=0"`, ""},
		{spec.Options{Devices: []string{"/etc/passwd"}}, "not a path below /dev", ""},
		{spec.Options{Devices: []string{"/dev"}}, "not a path below /dev", ""},
		{spec.Options{Devices: []string{"/dev/../etc"}}, "not a path below /dev", ""},
		{spec.Options{Devices: []string{"vendor.com/gpu=all"}}, "not a path below /dev", ""},
		{spec.Options{Devices: []string{"/dev/gone"}}, "--device /dev/gone: no such file", ""},
	} {
		h := ann()
		if _, err := spec.Paths(c.o, h); err == nil {
			h = exist(t, h, c.o, "/s/")
		}
		_, err := create(nil, h, c.o)
		checkError(t, err, c.want, c.hint)
	}
}

// TestHidden: no bind shows where runs keep their state.
func TestHidden(t *testing.T) {
	const hidden = " nosuid,nodev,noexec,ro,mode=555,size=4k"
	for _, c := range []struct {
		volume string
		want   []string
	}{
		{"/tmp:/x", []string{"/tmp /x", "tmpfs /x/dlrun-1001" + hidden}},
		{"/tmp:/x:ro", []string{"/tmp /x ro", "tmpfs /x/dlrun-1001" + hidden}},
		{"/tmp/dlrun-1001:/x", []string{"tmpfs /x" + hidden}},
		{"/tmp/dlrun-1001/steps:/x", []string{"tmpfs /x" + hidden}},
		{"/tmp/other:/x", []string{"/tmp/other /x"}},
	} {
		h := ann()
		h.Hidden = "/tmp/dlrun-1001"
		o := spec.Options{Volumes: []string{c.volume}}
		h = exist(t, h, o, "/tmp/", "/tmp/dlrun-1001/", "/tmp/dlrun-1001/steps/", "/tmp/other/")
		got := slices.DeleteFunc(visible(describe(t, nil, h, o)), func(m string) bool { return !strings.Contains(m, " /x") })
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.volume, diff)
		}
	}
}
