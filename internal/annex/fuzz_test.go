package annex

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzGitmodules reads arbitrary .gitmodules files: the paths of submodules stay below the dataset.
func FuzzGitmodules(f *testing.F) {
	f.Add("[submodule \"a\"]\n\tpath = a/b\n\turl = ./a\n")
	f.Add("[submodule \"a\\\"b\"] path = \"x\\ty\" ; comment\n[SubModule.b]\npath=../../x\n")
	f.Add("[submodule \"x\"]\npath = /etc\npath = a\\\n b\n# [submodule\n")
	f.Fuzz(func(t *testing.T, text string) {
		dataset := t.TempDir()
		for _, p := range submodulePaths([]byte(text)) {
			if strings.IndexByte(p, 0) >= 0 && strings.IndexByte(text, 0) < 0 {
				t.Errorf("%q", p)
			}
		}
		if err := os.Mkdir(filepath.Join(dataset, ".git"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dataset, ".gitmodules"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		view, err := Find(dataset, Options{Home: "/nonexistent"})
		if err != nil {
			return
		}
		for _, d := range view.Datasets {
			if !strings.HasPrefix(d.Path+"/", dataset+"/") {
				t.Errorf("%q leads to %q", text, d.Path)
			}
		}
	})
}
