package annex

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// CommandError is a failure of git or git-annex.
type CommandError struct {
	Command string // without its arguments: "git annex add"
	Said    string // the end of what it wrote to stderr
	Err     error
}

func (e *CommandError) Error() string {
	if e.Said == "" {
		return fmt.Sprintf("%s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Command, e.Said)
}

func (e *CommandError) Unwrap() error { return e.Err }

// hinted is an error with something to type.
type hinted struct {
	error
	hint string
}

// Hint is what to type next.
func (e *hinted) Hint() string  { return e.hint }
func (e *hinted) Unwrap() error { return e.error }

// command prepares a program that runs in dir. It is asked to stop when ctx is done, so that git-annex keeps what it has
// fetched in part, and killed when it does not. The standard input is empty, never the caller's.
func command(ctx context.Context, dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

const (
	indexTries = 20                     // while another git holds the index
	indexPause = 250 * time.Millisecond // between two
)

// git runs git in the dataset with input on its stdin, and returns what it writes to stdout. Where another git is at work in the
// index, as an editor's or a file manager's may be at any moment, it tries again for a while.
func (d *Dataset) git(ctx context.Context, input string, args ...string) (string, error) {
	for tries := 1; ; tries++ {
		out, err := d.gitOnce(ctx, input, args...)
		var failed *CommandError
		if !errors.As(err, &failed) || !strings.Contains(failed.Said, "index.lock': File exists") || tries == indexTries {
			return out, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(indexPause):
		}
	}
}

func (d *Dataset) gitOnce(ctx context.Context, input string, args ...string) (string, error) {
	cmd := command(ctx, d.Root, d.env, "git", args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if input != "" {
		cmd.Stdin = strings.NewReader(input)
	}
	if err := cmd.Run(); err != nil {
		return out.String(), commandError(ctx, args, said.String(), err)
	}
	return out.String(), nil
}

// ask is git for a question whose answer may be none: exit code 1.
func (d *Dataset) ask(ctx context.Context, args ...string) (answer string, ok bool, err error) {
	out, err := d.git(ctx, "", args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", false, nil
	}
	return strings.TrimSuffix(out, "\n"), err == nil, err
}

func commandError(ctx context.Context, args []string, said string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrNotFound) {
		return notInstalled("git")
	}
	return &CommandError{Command: commandName(args), Said: lastLines(said), Err: err}
}

// commandName is the command without options and what follows it.
func commandName(args []string) string {
	words := []string{"git"}
	for i := 0; i < len(args); i++ {
		if args[i] == "-c" {
			i++
			continue
		}
		words = append(words, args[i])
		if args[i] != "annex" {
			break
		}
	}
	return strings.Join(words, " ")
}

// lastLines keeps what is worth reading of an error: what git calls fatal, else the end. git-annex repeats itself and counts its
// failures last.
func lastLines(said string) string {
	const most = 4
	var lines []string
	fatal := -1
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line == "" || line == "failed" || strings.HasSuffix(line, " failed") {
			continue
		}
		if fatal < 0 && strings.HasPrefix(line, "fatal: ") {
			fatal = len(lines)
		}
		lines = append(lines, strings.TrimPrefix(line, "git-annex: "))
	}
	if fatal >= 0 {
		return strings.Join(lines[fatal:min(fatal+most, len(lines))], "\n")
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

func notInstalled(program string) error {
	return &hinted{fmt.Errorf("%s is not installed, or not in PATH", program), "apt install " + program + " (or https://git-annex.branchable.com/install)"}
}

// annexEnv is the environment of git-annex: below programs lies git-annex-remote-dlrun, in case it is not in PATH.
func annexEnv(programs string) []string {
	env := os.Environ()
	if programs == "" {
		return env
	}
	return append(env, "PATH="+os.Getenv("PATH")+string(os.PathListSeparator)+programs)
}
