package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// The constructor knows the verbs by a list of its own, which must not drift.
func TestVerbsAndPrelude(t *testing.T) {
	wants := map[string]bool{"exec": true, "run": true, "shell": true, "unpack": true, "doctor": true}
	root := newRoot()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if got := prelude.WantsNamespaces(c.Name()); got != wants[c.Name()] {
			t.Errorf("prelude: namespaces for %s: %v", c.Name(), got)
		}
	}
	for _, word := range []string{"image", "./run", "--quiet", "-v", "", "init"} {
		if !prelude.WantsNamespaces(word) {
			t.Errorf("prelude: no namespaces for %q, which is no verb", word)
		}
	}
}

// parse returns what the main form makes of a command line.
func parse(t *testing.T, args ...string) (*runFlags, []string, error) {
	t.Helper()
	f := &runFlags{}
	c := &cobra.Command{Use: "dlrun", SilenceErrors: true, SilenceUsage: true}
	f.register(c.Flags())
	c.SetFlagErrorFunc(flagError)
	err := c.ParseFlags(args)
	if err != nil {
		err = flagError(c, err)
	}
	return f, c.Flags().Args(), err
}

func TestFlagsEndAtImage(t *testing.T) {
	f, rest, err := parse(t, "-v", "/a", "-B", "/b:/c", "--bind=/d", "--pwd", "/w", "-it", "--rm", "--home", "img", "--", "ls", "-v", "--home=x")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.run.Volumes, " "); got != "/a /b:/c /d" {
		t.Errorf("volumes: %q", got)
	}
	if f.run.Workdir != "/w" || f.home != ownHome {
		t.Errorf("workdir %q, home %q", f.run.Workdir, f.home)
	}
	if got := strings.Join(rest, "|"); got != "img|--|ls|-v|--home=x" {
		t.Errorf("rest: %q", got)
	}
}

func TestFlagErrors(t *testing.T) {
	for _, tt := range []struct{ arg, text, hint string }{
		{"--volum=/a", "unknown flag --volum", "did you mean --volume?"},
		{"--read_only", "unknown flag --read_only", "did you mean --read-only?"},
		{"--envfile=x", "unknown flag --envfile", "did you mean --env-file?"},
		{"--zzzzzzzz", "unknown flag --zzzzzzzz", ""},
		{"-Z", "unknown flag -Z", "dlrun --help lists the flags; they end at IMAGE"},
		{"--preserve-fds=x", `invalid argument "x"`, ""},
	} {
		_, _, err := parse(t, tt.arg, "img", "true")
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q", tt.arg, err, tt.text)
			continue
		}
		if got := err.(*usageError).hint; got != tt.hint {
			t.Errorf("%s: hint %q, want %q", tt.arg, got, tt.hint)
		}
	}
}

func TestFillFlags(t *testing.T) {
	dir := t.TempDir()
	user, site := filepath.Join(dir, "user.toml"), filepath.Join(dir, "site.toml")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(user, "tmp = 'host'\nvolume = ['/u1', '/u2:/x:ro']\n")
	write(site, "tmp = 'private'\nhostname = 'site'\nnetwork = 'none'\nvolume = ['/s']\nkeep-env = ['S*']\nread-only = true\nno-such-key = 1\n")
	t.Setenv("DLRUN_NETWORK", "host")
	t.Setenv("DLRUN_KEEP_ENV", "A*,B*")
	t.Setenv("DLRUN_HOSTNAME", "variable")
	t.Setenv("DLRUN_MOUNT", "type=bind,src=/a,dst=/b\ntype=tmpfs,dst=/t")
	t.Setenv("DLRUN_NO_SUCH_FLAG", "1")

	f := &runFlags{}
	c := &cobra.Command{}
	f.register(c.Flags())
	if err := c.ParseFlags([]string{"--hostname=flag", "--keep-env=F*", "-v", "/f1", "-v", "/f2"}); err != nil {
		t.Fatal(err)
	}
	if err := fillFlags(c.Flags(), []string{user, site, filepath.Join(dir, "absent.toml")}); err != nil {
		t.Fatal(err)
	}
	got := []string{f.run.Hostname, f.run.Network, f.run.Tmp, strings.Join(f.run.KeepEnv, " "), strings.Join(f.run.Volumes, " "), strings.Join(f.run.Mounts, " ")}
	if want := "flag host host S* A* B* F* /s /u1 /u2:/x:ro /f1 /f2 type=bind,src=/a,dst=/b type=tmpfs,dst=/t"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !f.run.ReadOnly {
		t.Error("a boolean key of the site's file has no effect")
	}

	write(user, "tmp = [broken\n")
	if err := fillFlags(c.Flags(), []string{user}); err == nil || !strings.Contains(err.Error(), user) {
		t.Errorf("a broken file: %v", err)
	}
	write(user, "preserve-fds = 'many'\n")
	if err := fillFlags(c.Flags(), []string{user}); err == nil || !strings.Contains(err.Error(), "preserve-fds") {
		t.Errorf("a wrong value: %v", err)
	}
}

func TestReservedWords(t *testing.T) {
	for _, word := range []string{"doctor"} {
		root := newRoot()
		root.SetArgs([]string{word, "x", "y"})
		root.SetOut(new(bytes.Buffer))
		err := root.Execute()
		if err == nil || !strings.Contains(err.Error(), "unknown command") {
			t.Errorf("%s: %v", word, err)
		}
	}
}
