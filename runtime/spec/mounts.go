package spec

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// mountTable lists the mounts in the order in which they are made.
func mountTable(imageEnv []string, root Root, host Host, o Options, explicit []volume, env vars, show bool) ([]specs.Mount, error) {
	t := table{store: host.Store, hidden: host.Hidden}
	if !o.AnnexRW {
		t.objects = slices.Concat(host.Objects, host.VolumeObjects)
	}
	if err := t.root(root, host.Scratch, o, host.Cwd); err != nil {
		return nil, err
	}
	t.proc(o.PID)
	t.sys()
	t.dev(host.Devices)
	t.etc(host.Paths)
	if err := t.tmp(o, host); err != nil {
		return nil, err
	}
	if err := t.home(imageEnv, o, host); err != nil {
		return nil, err
	}

	var data []shown
	if show {
		data = seen(host, o.AnnexRW)
	}
	// A tmpfs that would hide the caller's directory comes before it.
	holdsData := func(v volume) bool {
		return v.source == "" && slices.ContainsFunc(data, func(s shown) bool {
			return v.destination != s.destination && within(s.destination, v.destination)
		})
	}
	for _, v := range explicit {
		if holdsData(v) {
			t.tmpfs(v)
		}
	}
	t.job(host, env)
	for _, s := range data {
		t.hostBind(s.source, s.destination, s.readOnly)
	}
	for _, v := range explicit {
		if holdsData(v) {
			continue
		}
		if err := t.volume(v, host.Paths); err != nil {
			return nil, err
		}
	}
	return t.mounts, nil
}

// table is a mount table under way.
type table struct {
	mounts  []specs.Mount
	objects []string // annex object directories to keep read-only, physical
	store   string   // the store of unpacked images, never to be written
	hidden  string   // the state of runs, never to be seen
}

// add appends m and leaves out what it hides.
func (t *table) add(m specs.Mount) {
	for i := range t.mounts {
		if within(t.mounts[i].Destination, m.Destination) {
			t.mounts = slices.DeleteFunc(t.mounts, func(o specs.Mount) bool { return within(o.Destination, m.Destination) })
			break
		}
	}
	t.mounts = append(t.mounts, m)
}

// bind adds a recursive bind. Device nodes work only without nodev.
func (t *table) bind(source, destination string, readOnly, device bool) {
	options := []string{"rbind", "nosuid"}
	if !device {
		options = append(options, "nodev")
	}
	if readOnly {
		options = append(options, "rro")
	}
	t.add(specs.Mount{Destination: destination, Type: "bind", Source: source, Options: options})
}

// hostBind binds a physical path, writable but for the annex objects and the store in it. The state of other runs is not seen.
func (t *table) hostBind(source, destination string, readOnly bool) {
	hide := func(at string) {
		t.add(specs.Mount{Destination: at, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "ro", "mode=555", "size=4k"}})
	}
	if t.hidden != "" && within(source, t.hidden) {
		hide(destination)
		return
	}
	t.openBind(source, destination, readOnly)
	if t.hidden != "" && within(t.hidden, source) {
		hide(path.Join(destination, strings.TrimPrefix(t.hidden, source)))
	}
}

func (t *table) openBind(source, destination string, readOnly bool) {
	closed := t.objects
	if t.store != "" {
		closed = append(slices.Clone(closed), t.store)
	}
	inClosed := slices.ContainsFunc(closed, func(o string) bool { return within(source, o) })
	if readOnly || inClosed {
		t.bind(source, destination, true, false)
		return
	}
	t.bind(source, destination, false, within(source, "/dev"))
	at := func(dir string) string { return path.Join(destination, strings.TrimPrefix(dir, source)) }
	for _, dir := range t.pins(source) {
		t.bind(dir, at(dir), false, false)
	}
	for _, dir := range closed {
		if within(dir, source) {
			t.bind(dir, at(dir), true, false)
		}
	}
}

// pins are the directories of git and git-annex that lead from source to annex objects, outer ones first. Each is bound
// onto itself: a mount point cannot be renamed, and a renamed .git/annex would leave its read-only mount, or
// be taken for no annex by the next run.
func (t *table) pins(source string) []string {
	var pins []string
	for _, o := range t.objects {
		for dir := path.Dir(o); dir != source && within(dir, source); dir = path.Dir(dir) {
			if path.Base(dir) == "annex" || strings.Contains(dir+"/", "/.git/") {
				pins = append(pins, dir)
			}
		}
	}
	slices.Sort(pins)
	return slices.Compact(pins)
}

func (t *table) root(root Root, scratch string, o Options, cwd string) error {
	lowers := slices.Clone(root.Layers)
	slices.Reverse(lowers)
	if len(lowers) == 0 && root.Dir != "" {
		lowers = []string{root.Dir}
	}
	if len(lowers) == 0 {
		return errors.New("the image has no layer")
	}
	keep := scratch
	if o.Persist != "" {
		if o.ReadOnly {
			return errors.New("--persist keeps writes and --read-only forbids them")
		}
		keep = absolute(o.Persist, cwd)
	}
	var options []string
	for _, dir := range lowers {
		options = append(options, "lowerdir+="+dir)
	}
	options = append(options, "upperdir="+path.Join(keep, "upper"), "workdir="+path.Join(keep, "work"), "userxattr")
	t.add(specs.Mount{Destination: "/", Type: "overlay", Source: "overlay", Options: options})
	return nil
}

func (t *table) proc(pid string) {
	if pid == "private" {
		t.add(specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}})
		return
	}
	t.add(specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "nosuid", "noexec", "nodev"}})
}

func (t *table) sys() {
	t.add(specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "rro"}})
}

func (t *table) etc(paths map[string]Path) {
	for _, name := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		if p, ok := paths[name]; ok {
			t.bind(p.Physical, name, true, false)
		}
	}
}

// tmpSource is the host directory that --tmp names, "" for a private one.
func tmpSource(o Options, host Host) string {
	switch o.Tmp {
	case "", "private":
		return ""
	case "host":
		return "/tmp"
	}
	return absolute(o.Tmp, host.Cwd)
}

func (t *table) tmp(o Options, host Host) error {
	dir := tmpSource(o, host)
	if dir == "" {
		t.bind(path.Join(host.Scratch, "tmp"), "/tmp", false, false)
		return nil
	}
	return t.hostDir("--tmp", dir, "/tmp", host.Paths)
}

// homeSource is the host directory that --home names, "" for none.
func homeSource(o Options, host Host) string {
	switch {
	case o.Home == nil:
		return ""
	case *o.Home == "":
		return host.Home
	}
	return absolute(*o.Home, host.Cwd)
}

func (t *table) home(imageEnv []string, o Options, host Host) error {
	if dir := homeSource(o, host); dir != "" {
		return t.hostDir("--home", dir, homeDir(host), host.Paths)
	}
	if parseVars(imageEnv)["HOME"] == "" {
		t.bind(path.Join(host.Scratch, "home"), homeDir(host), false, false)
	}
	return nil
}

func (t *table) hostDir(flag, dir, destination string, paths map[string]Path) error {
	p, ok := paths[dir]
	switch {
	case !ok:
		return fmt.Errorf("%s: %s: no such directory", flag, dir)
	case !p.Dir:
		return fmt.Errorf("%s: %s is not a directory", flag, dir)
	}
	t.hostBind(p.Physical, destination, false)
	return nil
}

func (t *table) tmpfs(v volume) {
	t.add(specs.Mount{Destination: v.destination, Type: "tmpfs", Source: "tmpfs", Options: append([]string{"nosuid", "nodev"}, v.options...)})
}

// job binds what the job's own variables name, unless the command gets another value.
func (t *table) job(host Host, env vars) {
	outside := parseVars(host.Env)
	for _, f := range jobFiles(outside) {
		p, ok := host.Paths[f.path]
		if !ok || p.Dir != (f.names == directory) || p.Dir && systemDir(f.path) || env[f.variable] != outside[f.variable] {
			continue
		}
		t.hostBind(p.Physical, f.path, f.names == file)
	}
}

func (t *table) volume(v volume, paths map[string]Path) error {
	if v.source == "" {
		t.tmpfs(v)
		return nil
	}
	p, ok := paths[v.source]
	if !ok {
		return fmt.Errorf("%s: no such file or directory: %s", v.flag, v.source)
	}
	if v.device {
		t.bind(v.source, v.destination, false, true)
		return nil
	}
	t.hostBind(p.Physical, v.destination, v.readOnly)
	return nil
}

// maskedPaths are podman's, without the throttle counters of each processor: a mount
// each costs too much on a node of hundreds, and they tell a user nothing new.
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
	}
}

func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}
