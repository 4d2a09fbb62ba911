package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/internal/annex"
	"github.com/dlrun/dlrun/runtime"
	"github.com/dlrun/dlrun/runtime/spec"
)

// hostFacts gathers what package spec must know of the caller and the machine.
func hostFacts(ctx context.Context, o spec.Options, store string) (spec.Host, error) {
	h := spec.Host{UID: os.Getuid(), GID: os.Getgid(), Env: os.Environ(), Home: os.Getenv("HOME")}
	name, home := account(ctx, "passwd", h.UID)
	h.Name = name
	h.GroupName, _ = account(ctx, "group", h.GID)
	if !filepath.IsAbs(h.Home) {
		h.Home = home
	}
	if physical, err := filepath.EvalSymlinks(store); err == nil {
		h.Store = physical
	}
	if state, err := runtime.StateDir(); err == nil {
		if h.Hidden, err = filepath.EvalSymlinks(state); err != nil {
			return h, err
		}
	}
	umask := unix.Umask(0)
	unix.Umask(umask)
	h.Umask = uint32(umask)

	var err error
	if h.Cwd, h.PhysicalCwd, err = workingDirectory(); err != nil {
		return h, err
	}
	view, err := annex.Find(h.PhysicalCwd, annex.Options{Home: h.Home})
	if err != nil {
		return h, err
	}
	for _, d := range view.Datasets {
		h.Datasets = append(h.Datasets, spec.Bind(d))
	}
	for _, d := range view.Objects {
		h.Objects = append(h.Objects, d.Path)
	}
	dev, err := os.ReadDir("/dev")
	if err != nil {
		return h, err
	}
	for _, d := range dev {
		h.Devices = append(h.Devices, d.Name())
	}
	return h, lookUpPaths(&h, o)
}

// workingDirectory returns the caller's directory as the caller spells it and without symbolic links.
func workingDirectory() (spelled, physical string, err error) {
	physical, err = unix.Getwd()
	if errors.Is(err, unix.ENOENT) || err == nil && !filepath.IsAbs(physical) {
		return "", "", &usageError{"the current directory has been removed", "cd to a directory that exists"}
	}
	if err != nil {
		return "", "", fmt.Errorf("find the current directory: %w", err)
	}
	pwd := os.Getenv("PWD")
	var a, b unix.Stat_t
	if filepath.IsAbs(pwd) && filepath.Clean(pwd) == pwd && unix.Stat(pwd, &a) == nil && unix.Stat(".", &b) == nil &&
		a.Dev == b.Dev && a.Ino == b.Ino {
		return pwd, physical, nil
	}
	return physical, physical, nil
}

// account returns name and home directory (of a user) for an id; a number nobody has a name for is no error. The
// binary is static and reads the files of /etc itself: what is only in LDAP or SSSD is asked of getent. os/user is of no
// use: where /etc/passwd does not know the caller it believes $USER.
func account(ctx context.Context, database string, id int) (name, home string) {
	n := strconv.Itoa(id)
	file, _ := os.ReadFile("/etc/" + database)
	line := lineOf(file, n)
	if line == nil {
		out, err := exec.CommandContext(ctx, "getent", database, n).Output()
		if err != nil {
			return "", ""
		}
		line = lineOf(out, n)
	}
	switch {
	case len(line) > 5:
		return line[0], line[5]
	case line != nil:
		return line[0], ""
	}
	return "", ""
}

// lineOf returns the fields of the account whose id is n.
func lineOf(file []byte, n string) []string {
	for line := range strings.Lines(string(file)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) > 2 && fields[2] == n {
			return fields
		}
	}
	return nil
}

// lookUpPaths finds the paths that the run may bind, and the annex objects below those that it will.
func lookUpPaths(h *spec.Host, o spec.Options) error {
	paths, err := spec.Paths(o, *h)
	if err != nil {
		return err
	}
	h.Paths = make(map[string]spec.Path, len(paths))
	for _, p := range paths {
		physical, err := filepath.EvalSymlinks(p)
		if err != nil {
			continue
		}
		fi, err := os.Stat(physical)
		if err != nil {
			continue
		}
		h.Paths[p] = spec.Path{Physical: physical, Dir: fi.IsDir()}
		if objects, err := annex.ObjectsBelow(physical); err == nil {
			h.VolumeObjects = append(h.VolumeObjects, objects...)
		}
	}
	return nil
}
