package annex

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// GetProgress is how far git-annex is with one key.
type GetProgress struct {
	Key         string
	From        string // as git-annex names the remote
	Read, Total int64  // bytes; Total is 0 when unknown
}

// Get asks git-annex, in the repository that holds dir, for the content of a key. An error means that it has not come: there is
// no git-annex, no remote that has it, or nothing has happened for as long as stall.
func Get(ctx context.Context, dir, programs, key string, stall time.Duration, progress func(GetProgress)) error {
	if _, err := exec.LookPath("git-annex"); err != nil {
		return notInstalled("git-annex")
	}
	if strings.ContainsAny(key, "\n") {
		return fmt.Errorf("%q is no key", key)
	}
	physical, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := fmt.Errorf("git annex get: nothing has happened for %v", stall)
	watchdog := time.AfterFunc(stall, func() { cancel(stalled) })
	defer watchdog.Stop()

	args := []string{"annex", "get", "--json", "--json-progress", "--json-error-messages", "--key=" + key}
	cmd := command(ctx, physical, annexEnv(programs), "git", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return commandError(ctx, args, "", err)
	}
	refused := readProgress(out, key, func(p GetProgress) {
		watchdog.Reset(stall)
		progress(p)
	})
	if err := cmd.Wait(); err != nil {
		if refused != "" && ctx.Err() == nil {
			return &CommandError{Command: "git annex get", Said: lastLines(refused), Err: err}
		}
		return commandError(ctx, args, said.String(), err)
	}
	return nil
}

// readProgress reads what git-annex tells while it gets a key, and returns why it could not.
func readProgress(r io.Reader, key string, progress func(GetProgress)) (refused string) {
	type state struct {
		Note     string
		Success  bool
		Messages []string `json:"error-messages"`
	}
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var said struct {
			state
			Action *state
			Read   int64 `json:"byte-progress"`
			Total  int64 `json:"total-size"`
		}
		if json.Unmarshal(lines.Bytes(), &said) != nil {
			continue // not an object: nothing that counts
		}
		if said.Action != nil {
			progress(GetProgress{Key: key, From: source(said.Action.Note), Read: said.Read, Total: said.Total})
			continue
		}
		if !said.Success {
			refused = strings.Join(append(said.Messages, said.Note), "\n")
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long must not keep git-annex waiting
	return refused
}

// source is the remote in a note of lines like "from origin...", the last of several.
func source(note string) string {
	from := ""
	for line := range strings.Lines(note) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "from "); ok {
			from = strings.TrimSuffix(name, "...")
		}
	}
	return from
}
