package image

import (
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed *.go mpi/*.c
var source embed.FS

// Cache is the directory that holds what the tests make once:
// $DLRUN_TEST_CACHE, or /var/tmp/dlrun-test-UID. Other users can read it.
func Cache() (string, error) {
	dir := os.Getenv("DLRUN_TEST_CACHE")
	if dir == "" {
		dir = fmt.Sprintf("/var/tmp/dlrun-test-%d", os.Getuid())
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// Names are the images that Get can make.
func Names() []string { return slices.Sorted(maps.Keys(recipes())) }

// Get returns the directory of the image called name, made when the cache
// lacks it.
func Get(ctx context.Context, name string) (string, error) {
	fill, ok := recipes()[name]
	if !ok {
		return "", fmt.Errorf("no image %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return cached(ctx, name, fill)
}

// cached returns the directory that fill has made once.
func cached(ctx context.Context, name string, fill recipe) (string, error) {
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	key, err := recipeKey()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, name+"-"+key)
	lock, err := os.OpenFile(filepath.Join(cache, name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	scratch, err := os.MkdirTemp(cache, "scratch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	made := filepath.Join(scratch, "image")
	if err := fill(ctx, made, scratch); err != nil {
		return "", fmt.Errorf("make %s: %w", name, err)
	}
	return dir, os.Rename(made, dir)
}

func recipeKey() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(source, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(p, "_test.go") {
			return err
		}
		data, err := source.ReadFile(p)
		sum.Write(data)
		return err
	})
	return fmt.Sprintf("%x", sum.Sum(nil))[:12], err
}
