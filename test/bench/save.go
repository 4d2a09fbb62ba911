package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dlrun/dlrun/test/internal/image"
	"github.com/dlrun/dlrun/test/internal/registry"
)

// largeLayers are those of an image of 1 GB, in MB. Their content does not compress, so that it is 1 GB on the way too.
var largeLayers = []int{400, 250, 150, 100, 50, 30, 15, 5}

// writeLarge makes the image, and a second one that has one layer more.
func writeLarge(dir string) error {
	var layers []image.Layer
	for i, mb := range largeLayers {
		layers = append(layers, noise(byte(i), mb))
	}
	for _, name := range []string{"large", "larger"} {
		scratch, err := os.MkdirTemp(dir, "scratch-")
		if err != nil {
			return err
		}
		err = image.Write(filepath.Join(dir, name), scratch, v1.Config{}, image.Gzip, layers...)
		if err := errors.Join(err, os.RemoveAll(scratch)); err != nil {
			return err
		}
		layers = append(layers, noise(255, 5))
	}
	return nil
}

// noise is a layer with one file that nothing can compress.
func noise(seed byte, mb int) image.Layer {
	return func(w io.Writer) error {
		t := tar.NewWriter(w)
		size := int64(mb) * 1e6
		err := t.WriteHeader(&tar.Header{Name: "noise-" + strconv.Itoa(int(seed)), Mode: 0o644, Size: size, Format: tar.FormatPAX})
		if err != nil {
			return err
		}
		if _, err := io.CopyN(t, rand.NewChaCha8([32]byte{seed}), size); err != nil {
			return err
		}
		return t.Close()
	}
}

// compareSaves fetches an image of 1 GB from a registry on this machine, whose own work takes its share of the time.
func compareSaves(dir string, rounds int) error {
	fmt.Println("making an image of 1 GB for the registry")
	if err := writeLarge(dir); err != nil {
		return err
	}
	ctx := context.Background()
	server, err := registry.Start(ctx, filepath.Join(dir, "registry"))
	if err != nil {
		return err
	}
	defer server.Close()
	for _, name := range []string{"large", "larger"} {
		if _, err := registry.Push(ctx, server.Addr, "lab/image", name, filepath.Join(dir, name), true); err != nil {
			return err
		}
	}
	source := func(name string) string { return "docker://" + server.Addr + "/lab/image:" + name }
	missed := compare("fetch of an image of 1 GB, 8 layers", []contender{
		{"dlrun", func(_ int, fresh string) []string {
			return []string{"./dlrun", "save", "-q", "--cache", filepath.Join(fresh, "store"), source("large"), filepath.Join(fresh, "dir")}
		}},
		{"skopeo", func(_ int, fresh string) []string {
			return []string{"skopeo", "copy", "--quiet", "--src-tls-verify=false", source("large"), "oci:" + filepath.Join(fresh, "dir") + ":large"}
		}},
	}, 0, rounds, savePeer, saveGoal)
	return errors.Join(missed, saveMemory(dir, source("large")), saveShared(dir, server.Addr))
}

// saveMemory measures the anonymous memory of one save.
func saveMemory(dir, source string) error {
	cmd := exec.Command("./dlrun", "save", "-q", "--cache", filepath.Join(dir, "memory-store"), source, filepath.Join(dir, "memory"))
	said := new(strings.Builder)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error)
	go func() { done <- cmd.Wait() }()
	peak := 0
	for tick := time.Tick(2 * time.Millisecond); ; {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%w: %s", err, said)
			}
			fmt.Printf("anonymous memory of dlrun save: %d MB at the most, goal %d\n", peak>>20, saveMB)
			if peak == 0 || peak > saveMB<<20 {
				return fmt.Errorf("dlrun save: %d MB of anonymous memory, goal %d", peak>>20, saveMB)
			}
			return nil
		case <-tick:
			peak = max(peak, anonymous(cmd.Process.Pid))
		}
	}
}

// anonymous is the anonymous resident memory of a process, in bytes.
func anonymous(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "RssAnon:" {
			kb, _ := strconv.Atoi(string(f[1]))
			return kb << 10
		}
	}
	return 0
}

// saveShared saves a second image that has all layers of the first and one more, and counts what is fetched.
func saveShared(dir, addr string) error {
	front, err := registry.NewFront(addr, registry.FrontOptions{})
	if err != nil {
		return err
	}
	defer front.Close()
	store := filepath.Join(dir, "shared-store")
	var fetched []int
	for _, name := range []string{"large", "larger"} {
		front.Take()
		source := "docker://" + front.Addr + "/lab/image:" + name
		if err := steps([]string{"./dlrun", "save", "-q", "--cache", store, source, filepath.Join(dir, "shared-"+name)}); err != nil {
			return err
		}
		n := 0
		for _, r := range front.Take() {
			if r.Server == "cdn" {
				n++
			}
		}
		fetched = append(fetched, n)
	}
	fmt.Printf("blobs fetched: %d; for a second image with one layer more: %d\n\n", fetched[0], fetched[1])
	if fetched[0] != len(largeLayers)+1 || fetched[1] != 2 {
		return fmt.Errorf("blobs fetched: %v, want %d and 2 (a layer and a config)", fetched, len(largeLayers)+1)
	}
	return nil
}
