package test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/processes"
)

// session is what belongs to one run of one script.
type session struct {
	ctx   context.Context
	vars  []string                     // names of the environment variables
	trees map[string]map[string]string // snapshots by directory
}

type sessionKey struct{}

func sessionOf(ts *testscript.TestScript) *session { return ts.Value(sessionKey{}).(*session) }

func keepWork() bool {
	f := flag.Lookup("testwork")
	return f != nil && f.Value.String() == "true"
}

// commands are what sessions can say beyond testscript's own.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"code":      code,
		"root":      root,
		"image":     getImage,
		"layers":    layers,
		"snapshot":  snapshot,
		"unchanged": unchanged,
		"peak":      peak,
		"lastlayer": lastLayer,
		"spoil":     spoil,
		"registry":  startRegistry,
		"front":     startFront,
		"faulty":    startFaulty,
		"proxy":     startProxy,
		"tunnelled": tunnelled,
		"push":      push,
		"requests":  requests,
	}
}

// code N CMD...: CMD exits with N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N CMD [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// root CMD...: CMD runs as root, to set a scene. Guard it with [root].
func root(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: root CMD [ARG...]")
	}
	var cmd *exec.Cmd
	err := undropped(func() error {
		path, err := exec.LookPath(args[0])
		if err != nil {
			path = filepath.Join(filepath.Dir(ts.Getenv("TREECMP")), args[0])
		}
		cmd = command(ts, path, args[1:])
		cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
		return cmd.Run()
	})
	if (err != nil) != neg {
		ts.Fatalf("root %s: %v", strings.Join(args, " "), err)
	}
}

// undropped calls f on a goroutine of its own, which has the rights of the test
// process and not those of the session's user.
func undropped(f func() error) error {
	done := make(chan error)
	go func() { done <- f() }()
	return <-done
}

// command is CMD in the session's directory and environment.
func command(ts *testscript.TestScript, name string, args []string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range sessionOf(ts).vars {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

// image NAME: the variable NAME, in capitals, is the directory of that image.
func getImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: image NAME")
	}
	var dir string
	ts.Check(undropped(func() (err error) {
		dir, err = image.Get(sessionOf(ts).ctx, args[0])
		return err
	}))
	ts.Setenv(strings.ToUpper(strings.ReplaceAll(args[0], "-", "_")), dir)
}

// layers IMAGE FILE: FILE lists the hex digests of the layer blobs of IMAGE.
func layers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: layers IMAGE FILE")
	}
	index, err := layout.ImageIndexFromPath(ts.MkAbs(args[0]))
	ts.Check(err)
	manifests, err := index.IndexManifest()
	ts.Check(err)
	var list strings.Builder
	for _, m := range manifests.Manifests {
		img, err := index.Image(m.Digest)
		ts.Check(err)
		manifest, err := img.Manifest()
		ts.Check(err)
		for _, l := range manifest.Layers {
			fmt.Fprintln(&list, l.Digest.Hex)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(list.String()), 0o644))
}

// snapshot DIR remembers type, mode, owner, ctime and content of all in DIR;
// unchanged DIR compares.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: snapshot DIR")
	}
	dir := ts.MkAbs(args[0])
	tree, err := stateOf(dir)
	ts.Check(err)
	sessionOf(ts).trees[dir] = tree
}

func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: unchanged DIR")
	}
	dir := ts.MkAbs(args[0])
	before, ok := sessionOf(ts).trees[dir]
	if !ok {
		ts.Fatalf("no snapshot of %s", dir)
	}
	after, err := stateOf(dir)
	ts.Check(err)
	var differ []string
	for _, p := range slices.Sorted(maps.Keys(before)) {
		if after[p] != before[p] {
			differ = append(differ, fmt.Sprintf("%s: %q -> %q", p, before[p], after[p]))
		}
		delete(after, p)
	}
	for p := range after {
		differ = append(differ, p+": new")
	}
	if len(differ) > 0 {
		ts.Fatalf("%s has changed:\n%s", dir, strings.Join(differ, "\n"))
	}
}

func stateOf(dir string) (map[string]string, error) {
	tree := map[string]string{}
	err := undropped(func() error {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return err
		}
		return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			state := fmt.Sprint(info.Mode(), st.Uid, st.Gid, st.Nlink, st.Ctim)
			if d.Type()&fs.ModeSymlink != 0 {
				target, err := os.Readlink(p)
				if err != nil {
					return err
				}
				state += " -> " + target
			}
			// A locked annexed blob is a symlink: what it leads to must stay, too.
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
				sum, err := shaOf(p)
				if err != nil {
					return err
				}
				state += fmt.Sprint(" ", info.Sys().(*syscall.Stat_t).Ctim, " ", sum)
			}
			tree[p] = state
			return nil
		})
	})
	return tree, err
}

func shaOf(p string) (string, error) {
	f, err := os.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// peak MB CMD...: CMD and its descendants never hold more than MB of anonymous
// memory together.
func peak(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: peak MB CMD [ARG...]")
	}
	limit, err := strconv.Atoi(args[0])
	ts.Check(err)
	name := args[1]
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(ts.Getenv("TREECMP")), name)
	}
	cmd := command(ts, name, args[2:])
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	ts.Check(cmd.Start())
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	most := 0
	for tick := time.Tick(5 * time.Millisecond); ; {
		select {
		case err := <-done:
			ts.Check(err)
			ts.Logf("peak %d MB", most>>20)
			if most == 0 || most > limit<<20 {
				ts.Fatalf("peak of anonymous memory: %d MB, limit %d MB", most>>20, limit)
			}
			return
		case <-tick:
			most = max(most, processes.Anonymous(cmd.Process.Pid))
		}
	}
}
