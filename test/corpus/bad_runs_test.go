package corpus

import (
	"archive/tar"
	"fmt"
	"os/exec"
	"strings"
)

// roots are images whose files would mislead what mounts and runs them.
func roots() []row {
	with := func(entries ...entry) image { return layers(tarOf(append([]entry{file("y", "y")}, entries...)...)) }
	rows := []row{
		{name: "/etc/passwd a fifo", image: with(dir("etc"), fifo("etc/passwd"), fifo("etc/group")), unlike: true},
		{name: "/etc/passwd a directory", image: with(dir("etc/passwd")), refused: []string{"/etc/passwd"}, late: true},
		{name: "/etc/passwd a link to outside", image: with(dir("etc"), link("etc/passwd", outside+"/passwd")).runs("User", "outsider"), unlike: true},
		{name: "/etc/passwd a link upwards", image: with(dir("etc"), link("etc/passwd", "../../../../../../../.."+outside+"/passwd")), unlike: true},
		{name: "/etc/passwd a device", image: with(dir("etc"), device(tar.TypeChar, "etc/passwd", 1, 5)), unlike: true},
		{name: "/etc/passwd of 50 MB", image: packed(zst, ociLayer+"+zstd", tarOf(dir("etc"), file("etc/passwd", strings.Repeat("x:x:1:1::/:/bin/sh\n", 2_600_000)), file("y", "y"))), unlike: true},
		{name: "/etc/passwd of one line without end", image: packed(zst, ociLayer+"+zstd", tarOf(dir("etc"), file("etc/passwd", strings.Repeat("x", 5_000_000)), file("y", "y"))), unlike: true},
		{name: "/etc a link to outside", image: with(link("etc", outside)), unlike: true},
		{name: "/etc a file", image: with(file("etc", "x")), refused: []string{"/etc/passwd: not a directory"}, late: true},
		{name: "/etc a loop of links", image: with(link("etc", "etc")), refused: []string{"/etc/passwd: too many levels"}, late: true},
		{name: "/etc of mode 0000", image: with(dir("etc", mode(0))), unlike: true},
		{name: "/etc/hosts and resolv.conf links to outside", image: with(dir("etc"), link("etc/hosts", outside+"/hosts"), link("etc/resolv.conf", outside+"/resolv.conf")), unlike: true},
		{name: "/etc/resolv.conf a dangling link", image: with(dir("etc"), link("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf")), unlike: true},
		{name: "/var a link to outside", image: with(link("var", outside)), refused: []string{"mount point"}, late: true},
		{name: "/home a link to outside", image: with(link("home", outside)), unlike: true},
		{name: "the bind's target a link to outside", image: with(link(".treecmp", outside+"/made")), unlike: true},
		{name: "the bind's target a fifo", image: with(fifo(".treecmp")), unlike: true},
		{name: "the root of mode 0000", image: layers(tarOf(dir("./", mode(0)), file("y", "y"))), unlike: true},
		{name: "the root of mode 0555", image: layers(tarOf(dir("./", mode(0o555)), file("y", "y"))), want: checks(hasFile("y", "y"))},
		{name: "all in layers of links", image: layers(tarOf(link("proc", "a"), link("a", "b")), tarOf(link("b", outside)), tarOf(file("y", "y"))), unlike: true},
	}
	for _, name := range []string{"proc", "dev", "sys", "tmp"} {
		for _, kind := range []struct {
			name string
			make func(string) entry
		}{
			{"a link to outside", func(n string) entry { return link(n, outside) }},
			{"a link upwards", func(n string) entry { return link(n, "../../../../../.."+outside) }},
			{"a link to itself", func(n string) entry { return link(n, n) }},
			{"a link to /proc/self/fd/3", func(n string) entry { return link(n, "/proc/self/fd/3") }},
			{"a file", func(n string) entry { return file(n, "x") }},
			{"a fifo", func(n string) entry { return fifo(n) }},
			{"of mode 0000", func(n string) entry { return dir(n, mode(0)) }},
		} {
			r := row{name: "/" + name + " " + kind.name, image: with(kind.make(name)), unlike: true}
			if name == "tmp" && (kind.name == "a link to itself" || kind.name == "a file" || kind.name == "a fifo") {
				r.refused, r.late = []string{"/tmp"}, true
			}
			rows = append(rows, r)
		}
	}
	for _, name := range []string{"proc/self", "proc/sys", "dev/null", "dev/console", "dev/pts", "dev/shm", "sys/fs/cgroup", "proc/self/attr", "run"} {
		top, _, _ := strings.Cut(name, "/")
		rows = append(rows, row{name: "/" + name + " a link to outside", image: with(dir(top), link(name, outside+"/made")), unlike: true})
	}
	return rows
}

// configs are configs that would mislead what describes the run.
func configs() []row {
	base := layers(tree(dir("etc"), file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nbad:x:4294967296:99999999999999999999::/:/bin/sh\nnegative:x:-1:-1::/:/bin/sh\n"),
		file("etc/group", "root:x:0:\nbad:x:18446744073709551616:\n")))
	user := func(u string) image { return base.runs("User", u) }
	run := func(name string, m image) row { return row{name: name, image: m, unlike: true} }
	return []row{
		run("USER of 32 bits", user("4294967295")),
		run("USER beyond 32 bits", user("4294967296")),
		run("USER beyond 64 bits", user("99999999999999999999999")),
		run("USER negative", user("-1")),
		run("USER and group negative", user("-1:-1")),
		run("USER that overflows in passwd", user("bad")),
		run("USER that is negative in passwd", user("negative:bad")),
		run("USER unknown", user("nobody-at-all")),
		run("USER that is a path", user("../../../"+outside+"/passwd")),
		run("USER of newlines", user("a\nb:c\nd")),
		run("USER of colons", user(":::")),
		run("USER of a megabyte", user(strings.Repeat("u", 1<<20))),
		run("WORKDIR through a link to outside", layers(tree(link("w", outside))).runs("WorkingDir", "/w/made/here")),
		run("WORKDIR upwards", base.runs("WorkingDir", "/../../../../../.."+outside+"/made")),
		run("WORKDIR relative", base.runs("WorkingDir", "relative/dir")),
		run("WORKDIR in /proc/self/fd", base.runs("WorkingDir", "/proc/self/fd/7")),
		run("WORKDIR in /proc/self/cwd", base.runs("WorkingDir", "/proc/self/cwd/../..")),
		run("WORKDIR a file", base.runs("WorkingDir", "/f")),
		run("WORKDIR of 5000 bytes", base.runs("WorkingDir", "/"+strings.Repeat("d/", 2500))),
		run("WORKDIR with a NUL", base.runs("WorkingDir", "/a\x00b")),
		run("Env without an equals sign", base.runs("Env", []any{"HOSTLEAK", "NOVALUE", "PATH=/bin"})),
		{name: "Env without an equals sign is not the host's", image: base.runs("Env", []any{"HOSTLEAK"}), flags: []string{"-v", busybox() + ":/busybox:ro"},
			command: []string{"/busybox", "sh", "-c", `echo "[${HOSTLEAK-unset}]"`}, out: "[unset]\n"},
		run("Env without a name", base.runs("Env", []any{"=value", "=", ""})),
		{name: "Env with a NUL", image: base.runs("Env", []any{"A=b\x00C=d"}), refused: []string{"zero byte"}, late: true},
		{name: "Entrypoint with a NUL", image: base.runs("Entrypoint", []any{"/f\x00x"}), verb: "run", refused: []string{"zero byte"}, late: true},
		{name: "Entrypoint of one empty word", image: base.runs("Entrypoint", []any{""}).runs("Cmd", nil), verb: "run", refused: []string{"neither ENTRYPOINT nor CMD"}},
		run("Env of LD_PRELOAD", base.runs("Env", []any{"LD_PRELOAD=" + outside + "/secret", "LD_LIBRARY_PATH=" + outside})),
		run("Env for Go and libcontainer", base.runs("Env", []any{"_LIBCONTAINER_INITPIPE=3", "_LIBCONTAINER_STATEDIR=3", "GODEBUG=x", "GOMAXPROCS=-7", "GOTRACEBACK=crash"})),
		run("Env of 10 000 variables", base.runs("Env", manyEnv(10_000))),
		run("Env of null", base.runs("Env", nil)),
		run("Entrypoint that nobody asked for", base.runs("Entrypoint", []any{"/nowhere"})),
		{name: "Entrypoint and Cmd empty", image: base.runs("Entrypoint", []any{}).runs("Cmd", nil), verb: "run", refused: []string{"neither ENTRYPOINT nor CMD"}},
		run("Volumes", base.runs("Volumes", object{outside: object{}, "/../../x": object{}, "": object{}})),
		run("ExposedPorts that are none", base.runs("ExposedPorts", object{"99999999/tcp": object{}, "x": object{}})),
		run("StopSignal that is none", base.runs("StopSignal", "SIGNOTHING")),
		run("Labels that runtimes obey", base.runs("Labels", object{"io.podman.annotations.privileged": "TRUE", "org.systemd.property.ExecStart": "x", "run.oci.keep_original_groups": "1"})),
		run("Shell, OnBuild and Healthcheck", base.runs("Shell", []any{"/x"}).runs("OnBuild", []any{"RUN x"}).runs("Healthcheck", object{"Test": []any{"CMD", "x"}})),
	}
}

// busybox is the static one, which the tests' images are made of too.
func busybox() string {
	path, err := exec.LookPath("busybox")
	if err != nil {
		panic(err) // make deps
	}
	return path
}

func manyEnv(n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = fmt.Sprintf("VARIABLE_%d=value", i)
	}
	return list
}
