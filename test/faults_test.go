package test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dlrun/dlrun/layout"
	client "github.com/dlrun/dlrun/layout/registry"
	"github.com/dlrun/dlrun/test/internal/registry"
)

// What a fault may cost: time, bytes that the registry gets rid of, memory. The socket buffers hold some megabytes.
const (
	faultTime   = 15 * time.Second
	faultBytes  = 32 << 20
	faultMemory = 100 << 20
)

// TestFaults saves an image from a registry that goes wrong in every way of a table.
func TestFaults(t *testing.T) {
	if n := len(registry.Faults); n < 45 {
		t.Fatalf("%d faults", n)
	}
	for _, fault := range registry.Faults {
		t.Run(fault.Name, func(t *testing.T) {
			f := registry.NewFaulty(fault)
			defer f.Close()
			auth := filepath.Join(t.TempDir(), "auth.json")
			secret := base64.StdEncoding.EncodeToString([]byte(registry.Username + ":" + registry.Password))
			if err := os.WriteFile(auth, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, f.Addr, secret), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("REGISTRY_AUTH_FILE", auth)
			parent := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), faultTime)
			defer cancel()
			begun := time.Now()
			err := saveFrom(ctx, f.Addr, patience(fault), filepath.Join(parent, "new", "dir"))
			took := time.Since(begun)
			log := f.Take()
			switch {
			case fault.Want == "" && err != nil:
				t.Errorf("not saved: %v", err)
			case fault.Want == "":
				checkSaved(t, filepath.Join(parent, "new", "dir"))
			case err == nil:
				t.Error("saved")
			case !strings.Contains(err.Error(), fault.Want):
				t.Errorf("%v\nlacks %q", err, fault.Want)
			case strings.Contains(err.Error(), registry.Password) || strings.Contains(err.Error(), secret):
				t.Errorf("the error holds a password: %v", err)
			default:
				if left, _ := os.ReadDir(parent); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
			if took >= faultTime {
				t.Errorf("it took %v", took)
			}
			if n := f.Leaks.Load(); n > 0 {
				t.Errorf("the other host has seen %d credentials", n)
			}
			if n := f.Sent.Load(); n > faultBytes {
				t.Errorf("the registry got rid of %d bytes", n)
			}
			counts := map[string]int{}
			for _, r := range log {
				counts[r.Server]++
				if strings.Contains(r.Path, "..") {
					t.Errorf("asked for %s", r.Path)
				}
			}
			if kind := kindOf(fault); fault.Most > 0 && counts[kind] > fault.Most || len(log) > 60 {
				t.Errorf("%d requests (%v), at most %d of %s", len(log), counts, fault.Most, kind)
			}
		})
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapSys > faultMemory {
		t.Errorf("%d MB of heap", m.HeapSys>>20)
	}
}

// kindOf is the kind of requests that a fault is about, by its name.
func kindOf(f registry.Fault) string {
	for _, kind := range []string{"manifest", "token"} {
		if strings.HasPrefix(f.Name, kind) {
			return kind
		}
	}
	switch f.Name {
	case "no answer", "digest of another manifest", "401 without a demand", "401 with another demand", "password refused", "429 for ever":
		return "manifest"
	}
	return "big"
}

// patience is short where it is tried, and long where only a busy machine could try it.
func patience(f registry.Fault) time.Duration {
	for _, word := range []string{"stalled", "no answer", "drips"} {
		if strings.Contains(f.Name, word) {
			return 300 * time.Millisecond
		}
	}
	return 10 * time.Second
}

func saveFrom(ctx context.Context, addr string, patience time.Duration, dir string) error {
	c, err := client.New(client.Options{Header: patience, Stall: patience, Backoff: 2 * time.Millisecond, Wait: 3 * time.Second})
	if err != nil {
		return err
	}
	img, err := layout.Open(ctx, "docker://"+addr+"/lab/image:1", layout.Options{Registry: c})
	if err != nil {
		return err
	}
	_, err = layout.Save(ctx, img, dir, layout.SaveOptions{})
	return err
}

// checkSaved holds every blob to its name.
func checkSaved(t *testing.T, dir string) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil || len(blobs) != 5 { // two layers, config, and the manifest under two names
		t.Errorf("blobs: %v, %v", blobs, err)
	}
	for _, b := range blobs {
		sum, err := shaOf(b)
		if err != nil || sum != filepath.Base(b) {
			t.Errorf("%s has the digest %s (%v)", b, sum, err)
		}
	}
}
