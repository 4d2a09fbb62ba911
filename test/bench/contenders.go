package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// startContenders lays out the same root file system for each of the peers.
func startContenders(dir string) ([]contender, error) {
	tiny := os.Getenv("TINY")
	bundle := filepath.Join(dir, "bundle")
	store := []string{"podman", "--root", filepath.Join(dir, "podman"), "--runroot", filepath.Join(dir, "podman-run")}
	if err := steps(
		[]string{"umoci", "unpack", "--rootless", "--image", tiny + ":latest", bundle},
		append(store[:len(store):len(store)], "pull", "--quiet", "oci:"+tiny+":latest"),
	); err != nil {
		return nil, err
	}
	out, err := exec.Command(store[0], append(store[1:len(store):len(store)], "images", "--quiet")...).Output()
	if err != nil {
		return nil, fmt.Errorf("podman images: %w", err)
	}
	image := string(out[:12])
	root := filepath.Join(bundle, "rootfs")
	for _, runtime := range []string{"crun", "runc"} {
		if err := writeBundle(runtime, filepath.Join(dir, runtime), root); err != nil {
			return nil, err
		}
	}
	oci := func(runtime string) contender {
		return contender{runtime, func(round int, _ string) []string {
			own := filepath.Join(dir, runtime)
			return []string{runtime, "--root", own + "-state", "run", "--bundle", own, id(runtime, round)}
		}}
	}
	always := func(name string, args ...string) contender {
		return contender{name, func(int, string) []string { return args }}
	}
	return []contender{
		always("dlrun", "./dlrun", "--cache", filepath.Join(dir, "store"), tiny, "--", "true"),
		oci("crun"),
		oci("runc"),
		always("podman", append(store, "run", "--rm", "--network", "host", image, "true")...),
		always("bwrap", "bwrap", "--bind", root, "/", "--dev", "/dev", "--proc", "/proc", "true"),
		always("ch-run", "ch-run", root, "--", "true"),
	}, nil
}

// writeBundle is the runtime's own rootless default, running true.
func writeBundle(runtime, dir, root string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	cmd := exec.Command(runtime, "spec", "--rootless")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s spec: %w: %s", runtime, err, out)
	}
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	spec["root"] = map[string]any{"path": root}
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = []string{"true"}, false
	if data, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// unpackContenders each turn the layout into a tree, from nothing.
func unpackContenders() []contender {
	debian := os.Getenv("DEBIAN")
	oci := "oci:" + debian + ":latest"
	return []contender{
		{"dlrun", func(_ int, fresh string) []string {
			return []string{"./dlrun", "--cache", filepath.Join(fresh, "store"), debian, "--", "true"}
		}},
		{"podman", func(_ int, fresh string) []string {
			return []string{"podman", "--root", filepath.Join(fresh, "root"), "--runroot", filepath.Join(fresh, "r"), "pull", "--quiet", oci}
		}},
		{"skopeo", func(_ int, fresh string) []string {
			to := fmt.Sprintf("containers-storage:[overlay@%s/root+%s/r]debian:latest", fresh, fresh)
			return []string{"skopeo", "copy", "--quiet", oci, to}
		}},
		// The floor: no digest, no whiteout, no device; a directory a layer.
		{"tar x", func(_ int, fresh string) []string {
			return []string{"sh", "-ec", `for b in "$1"/blobs/sha256/*; do
				[ "$(head -c 2 "$b" | od -An -tx1)" = ' 1f 8b' ] || continue
				mkdir "$2/${b##*/}"
				tar -xzf "$b" -C "$2/${b##*/}" --no-same-owner --delay-directory-restore \
					--exclude='./dev/*' --exclude=opt/app/null --exclude=opt/app/zero
			done`, "sh", debian, fresh}
		}},
	}
}

func steps(list ...[]string) error {
	for _, args := range list {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", args, err, out)
		}
	}
	return nil
}
