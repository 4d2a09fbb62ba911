package test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall: what make install puts where, and that the man pages and completions know each verb.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	make := exec.CommandContext(t.Context(), "make", "--silent", "install", "DESTDIR="+dir, "PREFIX=/opt/x")
	make.Dir = ".."
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	prefix := filepath.Join(dir, "opt/x")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(prefix, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	if to, err := os.Readlink(filepath.Join(prefix, "bin/git-annex-remote-dlrun")); to != "dlrun" {
		t.Errorf("the remote is %q, %v", to, err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(prefix, "bin/dlrun"), "__complete", "").Output()
	if err != nil {
		t.Fatal(err)
	}
	main := read("share/man/man1/dlrun.1")
	verbs := 0
	for line := range strings.Lines(string(out)) {
		verb, short, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || verb == "help" || verb == "completion" {
			continue
		}
		verbs++
		page := read("share/man/man1/dlrun-" + verb + ".1")
		for _, want := range []string{".TH ", "dlrun-" + verb, ".SH SYNOPSIS", "dlrun " + verb, ".SH EXIT STATUS", strings.Fields(short)[0]} {
			if !strings.Contains(page, want) {
				t.Errorf("the page of %s has no %q", verb, want)
			}
		}
		if !strings.Contains(main, "dlrun-"+verb) {
			t.Errorf("dlrun.1 does not name dlrun-%s", verb)
		}
	}
	if verbs < 13 {
		t.Errorf("%d verbs: %s", verbs, out)
	}
	for shell, name := range map[string]string{
		"bash": "bash-completion/completions/dlrun", "zsh": "zsh/site-functions/_dlrun", "fish": "fish/vendor_completions.d/dlrun.fish",
	} {
		if !strings.Contains(read("share/"+name), "__complete") {
			t.Errorf("the completion for %s asks nothing", shell)
		}
	}
	script := `. "$0"; COMP_WORDS=(dlrun verif); COMP_CWORD=1; COMP_LINE="dlrun verif"; COMP_POINT=11
		_get_comp_words_by_ref() { cur=verif prev=dlrun words=(dlrun verif) cword=1; }; _init_completion() { _get_comp_words_by_ref; }
		compopt() { :; }; __start_dlrun; echo "${COMPREPLY[@]}"`
	bash := exec.CommandContext(t.Context(), "bash", "-c", script, filepath.Join(prefix, "share/bash-completion/completions/dlrun"))
	bash.Env = append(os.Environ(), "PATH="+filepath.Join(prefix, "bin")+":"+os.Getenv("PATH"))
	if out, err := bash.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "verify" {
		t.Errorf("completed to %q, %v", out, err)
	}
	// Nothing is left to the umask or to who builds.
	err = filepath.WalkDir(prefix, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&^0o755 != 0 {
			return errors.New(path + " is " + info.Mode().String())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
