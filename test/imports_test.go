package test

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/dlrun/dlrun"
	tags   = "seccomp netgo osusergo"
)

// rooms never import each other, and nothing above them.
var rooms = []string{"layout", "unpack", "runtime", "runtime/spec", "internal/annex"}

// heavy modules belong to one room. Where a room may use only part of a module,
// the part is named.
var heavy = []struct {
	prefix string
	rooms  []string
	why    string
}{
	{"github.com/google/go-containerregistry/pkg/v1/remote", []string{"layout"}, "registries are a source of images"},
	{"github.com/google/go-containerregistry/pkg/v1/layout", []string{"layout"}, "layouts are read and written in one place"},
	{"github.com/google/go-containerregistry/pkg/v1/tarball", []string{"layout"}, "archives are a source of images"},
	{"github.com/google/go-containerregistry/pkg/authn", []string{"layout"}, "registries are a source of images"},
	{"net/http", []string{"layout"}, "one room speaks to the network"},
	{"github.com/opencontainers/umoci", []string{"unpack"}, "layers are unpacked in one place"},
	{"github.com/klauspost/pgzip", []string{"unpack"}, "layers are decompressed in one place"},
	{"github.com/opencontainers/runc", []string{"runtime"}, "the one cgo room"},
	{"tags.cncf.io/container-device-interface", []string{"runtime/spec"}, "devices are described in one place"},
	{"github.com/spf13", []string{"cmd"}, "only cmd reads flags"},
	{"github.com/BurntSushi/toml", []string{"cmd"}, "only cmd reads configuration"},
}

// shared are small packages of the project's own that every room may use.
var shared = []string{"internal/lazy"}

// speaking are what only cmd may do: print, read flags, exit.
var speaking = []string{"flag", "log", "log/slog"}

type goPackage struct {
	ImportPath string
	Imports    []string
	CgoFiles   []string
}

func TestImports(t *testing.T) {
	for _, p := range list(t, "./...") {
		rel := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		if under(rel, "test") {
			continue
		}
		home := room(rel)
		for _, imp := range p.Imports {
			if inner, ours := strings.CutPrefix(imp, module+"/"); ours {
				switch to := room(inner); {
				case under(inner, "cmd") || under(inner, "test"):
					t.Errorf("%s imports %s: arrows point from cmd to the rooms", rel, inner)
				case home == "cmd" || to == home || slices.Contains(shared, inner):
				default:
					t.Errorf("%s imports %s: rooms never import each other", rel, inner)
				}
			}
			for _, h := range heavy {
				if under(imp, h.prefix) && !slices.Contains(h.rooms, home) {
					t.Errorf("%s imports %s, which belongs to %v: %s", rel, imp, h.rooms, h.why)
				}
			}
			if home != "cmd" && slices.Contains(speaking, imp) {
				t.Errorf("%s imports %s: only cmd prints and reads flags", rel, imp)
			}
		}
		if len(p.CgoFiles) > 0 && home != "runtime" {
			t.Errorf("%s has cgo files: only runtime may", rel)
		}
	}
}

// TestSilence looks for what import lists do not show: rooms that print or exit.
// Two files may: the one that hands the caller's streams to the command, and the
// one that runs inside, where nobody is left to return an error to.
func TestSilence(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "grep", "--untracked", "-nE",
		`os\.(Exit|Stdout|Stderr)\b|fmt\.(Print|Println|Printf)\(|^func init\(\)`, "--",
		"layout/*.go", "unpack/*.go", "runtime/*.go", "internal/annex/*.go", ":!*_test.go", ":!runtime/inside.go", ":!runtime/run.go").CombinedOutput()
	if len(out) > 0 {
		t.Errorf("only cmd prints, exits, or touches the standard streams, and nobody has init functions:\n%s", out)
	} else if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Fatalf("git grep: %v", err) // exit code 1: no match
	}
}

// TestRoomsExist keeps the lists above honest.
func TestRoomsExist(t *testing.T) {
	var have []string
	for _, p := range list(t, "./...") {
		have = append(have, strings.TrimPrefix(p.ImportPath, module+"/"))
	}
	for _, r := range rooms {
		if !slices.Contains(have, r) {
			t.Errorf("there is no package %s", r)
		}
	}
}

// room is the innermost room that a package lies in, or the package itself;
// cmd for the commands.
func room(rel string) string {
	home := ""
	for _, r := range append([]string{"cmd"}, rooms...) {
		if under(rel, r) && len(r) > len(home) {
			home = r
		}
	}
	if home == "" {
		return rel
	}
	return home
}

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func list(t *testing.T, patterns ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags", tags, "-json=ImportPath,Imports,CgoFiles"}, patterns...)...)
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.Bytes())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
