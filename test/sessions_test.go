// Package test holds what is tested on the built binary: sessions, the rules of
// who imports whom, and the rooms' own tests as an ordinary user.
//
// A session is a script in testdata: commands, what they print, how they end,
// and their files, on one page. Each runs once as a user with subordinate ids
// and once as one without (see internal/users). To run a single one:
//
//	make build && go test ./test -v -run TestSessions/dlrun-nosub/exit
//
// Its working directory is kept with -testwork. Beside testscript's own commands
// there are those of commands_test.go, and the programs in testdata/bin.
package test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/users"
)

func TestSessions(t *testing.T) {
	base := baseDir(t)
	bin := os.Getenv(testBin)
	if bin == "" {
		bin = filepath.Join(base, "bin")
		installAll(t, bin)
	}
	tiny, err := image.Get(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	list, err := users.List()
	if err != nil {
		t.Fatal(err)
	}
	isRoot := os.Geteuid() == 0 // asked here: within a session the answer is the user's
	for _, u := range list {
		t.Run(u.Name, func(t *testing.T) {
			work := filepath.Join(base, u.Name)
			if err := os.Mkdir(work, 0o755); err != nil {
				t.Fatal(err)
			}
			testscript.Run(t, testscript.Params{
				Dir:           "testdata",
				WorkdirRoot:   work,
				Cmds:          commands(),
				Setup:         func(e *testscript.Env) error { return enter(t.Context(), e, u, bin, tiny) },
				Condition:     func(cond string) (bool, error) { return holds(cond, u, isRoot) },
				UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
			})
		})
	}
}

// testBin is a variable that names a directory with all that installAll puts there: where the tests run on a machine that
// cannot build it (vm_test.go).
const testBin = "DLRUN_TEST_BIN"

// installAll puts dlrun and the programs of sessions into dir.
func installAll(t *testing.T, dir string) {
	t.Helper()
	install(t, dir, "../bin/dlrun", "dlrun")
	if err := os.Symlink("dlrun", filepath.Join(dir, "git-annex-remote-dlrun")); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(dir, "treecmp"), "./treecmp")
	for name, source := range map[string]string{
		"oldkernel": "oldkernel/oldkernel.c", "probe": "payload/probe.c", "exchange": "payload/exchange.c",
	} {
		if err := compile(source, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	tools, err := filepath.Glob("testdata/bin/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range tools {
		install(t, dir, tool, filepath.Base(tool))
	}
}

// enter makes the rest of a session happen as u, in u's environment. Every
// session has its own image cache. The variables in more win.
func enter(ctx context.Context, e *testscript.Env, u *users.User, bin, tiny string, more ...string) error {
	vars := append(u.Env(),
		"WORK="+e.WorkDir, "TMPDIR="+e.Getenv("TMPDIR"), "PWD="+e.WorkDir,
		"TINY="+tiny, "TREECMP="+filepath.Join(bin, "treecmp"), "DLRUN_CACHE="+filepath.Join(e.WorkDir, ".store"),
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.org",
		"GIT_CONFIG_GLOBAL=/dev/null", "XDG_CACHE_HOME="+filepath.Join(e.WorkDir, ".xdg"), "XDG_CONFIG_HOME="+filepath.Join(e.WorkDir, ".config"),
		fmt.Sprintf("TEST_UID=%d", u.UID), fmt.Sprintf("TEST_GID=%d", u.GID),
	)
	vars = append(vars, more...)
	for i, v := range vars {
		if path, ok := strings.CutPrefix(v, "PATH="); ok {
			vars[i] = "PATH=" + bin + ":" + path
		}
	}
	e.Vars = append(vars, "$=$", "/=/", ":=:")
	s := &session{ctx: ctx, trees: map[string]map[string]string{}}
	for _, v := range vars {
		name, _, _ := strings.Cut(v, "=")
		s.vars = append(s.vars, name)
	}
	e.Values[sessionKey{}] = s
	e.Values[registriesKey{}] = &registries{}
	if os.Geteuid() == 0 {
		err := filepath.WalkDir(e.WorkDir, func(p string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(p, u.UID, u.GID))
		})
		if err != nil {
			return err
		}
	}
	return u.Become()
}

// holds answers the conditions of sessions: [root] where the tests may set
// scenes that need root, [subids] where the user has subordinate ids,
// [oldkernel] where an older kernel is played already.
func holds(cond string, u *users.User, isRoot bool) (bool, error) {
	switch cond {
	case "root":
		return isRoot, nil
	case "oldkernel":
		return os.Getenv(underKernel) != "", nil
	case "subids":
		return u.Subordinate, nil
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

// TestAsOrdinaryUser runs the rooms' own tests as a user without any right: some
// of what they do never fails for root. runtime is what the sessions are about.
func TestAsOrdinaryUser(t *testing.T) {
	u, err := users.Get(users.Nosub)
	if err != nil {
		t.Fatal(err)
	}
	base := baseDir(t)
	for _, room := range []string{"layout", "unpack", "runtime/spec", "internal/annex"} {
		t.Run(room, func(t *testing.T) {
			dir := filepath.Join(base, room)
			if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			copyTree(t, filepath.Join("..", room), dir)
			binary := filepath.Join(dir, "room.test")
			run(t, exec.Command("go", "test", "-tags", tags, "-c", "-o", binary, "../"+room))
			tmp := filepath.Join(base, "tmp")
			if err := os.MkdirAll(tmp, 0o777|fs.ModeSticky); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(tmp, 0o777|fs.ModeSticky); err != nil {
				t.Fatal(err)
			}
			cmd := u.Command(t.Context(), binary, "-test.v", "-test.timeout=5m")
			cmd.Dir = dir
			cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
			run(t, cmd)
		})
	}
}

// baseDir is a fresh directory that other users can enter, outside /tmp, which
// is special to dlrun. It goes with the test unless -testwork is given.
func baseDir(t *testing.T) string {
	t.Helper()
	cache, err := image.Cache()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(cache, "run-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if keepWork() {
			t.Logf("kept %s", dir)
			return
		}
		// Annex objects and 0555 directories of images refuse a plain removal.
		if out, err := exec.Command("sh", "-c", `chmod -R u+rwX "$1" && rm -rf "$1"`, "sh", dir).CombinedOutput(); err != nil {
			t.Errorf("remove %s: %v: %s", dir, err, out)
		}
	})
	return dir
}

func install(t *testing.T, dir, from, name string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("%v (make build)", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// build makes a static binary, which runs in any image.
func build(t *testing.T, binary, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	run(t, cmd)
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}
