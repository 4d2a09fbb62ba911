package main

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestForms(t *testing.T) {
	entry := &v1.Config{Entrypoint: []string{"/entry", "-x"}, Cmd: []string{"default"}}
	plain := &v1.Config{Cmd: []string{"bash"}, Env: []string{"SHELL=/bin/zsh"}}
	const anyShell = "sh -c command -v bash >/dev/null && exec bash; exec sh"
	for _, tt := range []struct {
		name    string
		command command
		config  *v1.Config
		args    string
		want    string // "" is an error
	}{
		{"literal goes past the entry point", literal, entry, "ls -l", "ls -l"},
		{"literal needs a command", literal, plain, "", ""},
		{"run with arguments", asImageSays, entry, "a b", "/entry -x a b"},
		{"run without", asImageSays, entry, "", "/entry -x default"},
		{"run without an entry point", asImageSays, plain, "ls", "ls"},
		{"run with the image's command alone", asImageSays, plain, "", "bash"},
		{"run of nothing", asImageSays, &v1.Config{}, "", ""},
		{"shell of the image", shell, plain, "", "/bin/zsh"},
		{"any shell", shell, entry, "", anyShell},
		{"an empty SHELL is none", shell, &v1.Config{Env: []string{"SHELL="}}, "", anyShell},
		{"shell takes no arguments", shell, plain, "ls", ""},
	} {
		got, err := tt.command("IMG", strings.Fields(tt.args), tt.config)
		if (err != nil) != (tt.want == "") || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestEntrypointHint(t *testing.T) {
	entry := &v1.Config{Entrypoint: []string{"/entry", "-x"}}
	for command, hinted := range map[string]bool{"sub-01": true, "/entry": true, "/entry -x a": false} {
		if got := entrypointHint("IMG", strings.Fields(command), entry); strings.Contains(got, "dlrun run IMG") != hinted {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := entrypointHint("IMG", []string{"x"}, &v1.Config{}); got != "" {
		t.Errorf("no entry point: %q", got)
	}
}
