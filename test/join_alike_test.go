package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestJoinAlike: a rank with the same command line as another's is in its container without asking for anything else.
func TestJoinAlike(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	image := filepath.Join(s.dir, "image")
	run(t, s.command(t, "cp", "-rL", s.image(), image))
	rank := func(n int, env ...string) *exec.Cmd {
		cmd := s.rank(t, n, "-e", "GIVEN=1", "--keep-env", "KEPT", image, "--", "sh", "-c",
			`echo $(readlink /proc/self/ns/mnt) $SLURM_PROCID $SLURM_LOCALID $PMI_RANK $GIVEN $KEPT; read end || :`)
		cmd.Env = append(cmd.Env, append([]string{fmt.Sprintf("SLURM_LOCALID=%d", n+10), fmt.Sprintf("PMI_RANK=%d", n+20)}, env...)...)
		return cmd
	}
	first := s.holdCommand(t, rank(0))
	ns := strings.Fields(first.line)[0]
	if first.line != ns+" 0 10 20 1" {
		t.Errorf("the first says %q", first.line)
	}
	if err := os.Rename(image, image+".away"); err != nil {
		t.Fatal(err)
	}
	second := s.holdCommand(t, rank(1))
	if second.line != ns+" 1 11 21 1" {
		t.Errorf("the second says %q, the first %q", second.line, first.line)
	}
	// Those who differ look for the image, which is gone.
	kept := rank(2)
	kept.ExtraFiles = []*os.File{os.Stderr}
	for name, cmd := range map[string]*exec.Cmd{
		"an open file":  kept,
		"a variable":    rank(2, "KEPT=1"),
		"a directory":   rank(2),
		"an open flag":  s.rank(t, 2, "--mpi=auto", image, "--", "true"),
		"a umask":       rank(2),
		"the same rank": rank(1),
	} {
		switch name {
		case "a directory":
			cmd.Dir = s.bin
		case "a umask":
			cmd.Args = append([]string{"sh", "-c", `umask 077; exec "$@"`, "sh"}, cmd.Args...)
			cmd.Path = "/bin/sh"
		}
		if out, err := cmd.CombinedOutput(); exitCode(err) != 125 || !strings.Contains(string(out), image) {
			t.Errorf("another in %s: %v: %s", name, err, out)
		}
	}
	if code := first.leave(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	third := s.holdCommand(t, rank(3))
	if third.line != ns+" 3 13 23 1" {
		t.Errorf("the third says %q, the first %q", third.line, first.line)
	}
	leaveAll(t, second, third)
	s.clean(t, before)
}

// TestJoinOwnFiles: ranks whose command lines are the same have, where these name a file of each rank's own, what is in it.
func TestJoinOwnFiles(t *testing.T) {
	s := newStep(t)
	before := s.steps()
	for n := range 2 {
		text := []byte(fmt.Sprintf("FROM=%d\n", n))
		if err := os.WriteFile(filepath.Join(s.dir, fmt.Sprint("own.", n)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ env, flag, script string }{
		"a variable": {"DLRUN_ENV_FILE=/dev/fd/3", "--quiet", "echo FROM=$FROM"},
		"a link":     {"A=b", "--env-file=own", "echo FROM=$FROM"},
		"kept":       {"A=b", "--preserve-fds=1", "cat <&3"},
	} {
		s.step++
		var ranks []*held
		for n := range 2 {
			link := filepath.Join(s.dir, "own")
			own, err := os.Open(fmt.Sprint(link, ".", n))
			if err := errors.Join(err, os.RemoveAll(link), os.Symlink(fmt.Sprint("own.", n), link)); err != nil {
				t.Fatal(err)
			}
			cmd := s.rank(t, n, c.flag, s.image(), "--", "sh", "-c", c.script+"; read end || :")
			cmd.Env, cmd.ExtraFiles = append(cmd.Env, c.env), []*os.File{own}
			rank := s.holdCommand(t, cmd)
			if want := fmt.Sprintf("FROM=%d", n); rank.line != want {
				t.Errorf("%s: %q, want %q", name, rank.line, want)
			}
			ranks = append(ranks, rank)
			_ = own.Close()
		}
		leaveAll(t, ranks...)
	}
	s.clean(t, before)
}
