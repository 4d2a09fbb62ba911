package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestTmpdirMounts(t *testing.T) {
	base := filepath.Join(t.TempDir(), `a,"b": c`)
	for _, name := range []string{"datalad-run-abc_1", "datalad-run-x", "other"} {
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(base, "datalad-run-link")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", base+"/")
	quoted := filepath.Dir(base) + `/a,""b"": c`
	mount := func(name string) string {
		return fmt.Sprintf(`type=bind,"src=%s/%s","dst=%s/%s"`, quoted, name, quoted, name)
	}
	command := []string{"sh", "-c", "cat '" + base + "/datalad-run-x/in' >" + base + "//datalad-run-abc_1/f; ls " + base + "/datalad-run-x",
		base + "/other", base + "/datalad-run-gone/f", base + "/datalad-run-link"}
	want := []string{mount("datalad-run-abc_1"), mount("datalad-run-x")}
	if got := tmpdirMounts(command); !slices.Equal(got, want) {
		t.Errorf("mounts %q\nwant   %q", got, want)
	}
}
