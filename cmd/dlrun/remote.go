package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dlrun/dlrun/internal/annex/special"
)

// remoteProgram is the name under which git-annex starts dlrun as its special remote.
const remoteProgram = "git-annex-remote-dlrun"

// serveRemote talks with git-annex and returns the exit code. A signal ends it at once: what was fetched in part is gone on with
// the next time.
func serveRemote() int {
	o, err := registryOptions()
	if err == nil {
		o.Tries = 3 // git-annex has its own (annex.retry), and asks for many keys in turn
		r := special.Remote{In: os.Stdin, Out: os.Stdout, Blobs: newBlobs(o)}
		err = r.Serve(context.Background())
	}
	if err != nil {
		tell(err)
		return 1
	}
	return 0
}

// remotePrograms is a directory for the PATH of git-annex in which it finds the special remote; empty where it does so
// anyway. It goes with remove.
func remotePrograms() (dir string, remove func(), err error) {
	if _, err := exec.LookPath(remoteProgram); err == nil {
		return "", func() {}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find this program: %w", err)
	}
	if dir, err = os.MkdirTemp("", "dlrun-programs-"); err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	if err := os.Symlink(self, filepath.Join(dir, remoteProgram)); err != nil {
		remove()
		return "", nil, err
	}
	return dir, remove, nil
}
