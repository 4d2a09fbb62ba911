package layout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeySize(t *testing.T) {
	for key, want := range map[string]int64{
		"SHA256E-s1234--abc.ext":             1234,
		"SHA256-s0--abc":                     0,
		"MD5E-s5--abc.tar.gz":                5,
		"WORM-s12-m1700000000--name":         12,
		"WORM-m1700000000-s12--name":         12,
		"SHA256-s1000-S100-C3--abc":          1000,
		"URL--http&c%%x-s99-":                0,
		"SHA256E--abc-s7-":                   0,
		"SHA256-s99999999999999999999--abc":  0,
		"":                                   0,
		"XDLRUN_1-s42--docker&c%%host/image": 42,
	} {
		if got := keySize(key); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
}

func TestPointerKey(t *testing.T) {
	const key = "SHA256E-s1234--abc.ext"
	for content, want := range map[string]string{
		"/annex/objects/" + key + "\n":                             key,
		"/annex/objects/" + key:                                    key,
		"/annex/objects/" + key + "\r\n":                           key,
		"/annex/objects/" + key + "\n/annex/more\n":                key,
		"/annex/objects/" + key + "\n" + strings.Repeat("#", 32e3): key,
		"/annex/objects/" + key + "\n" + strings.Repeat("#", 33e3): "",
		"/annex/objects/\n":                                        "",
		"/annex/objects/a\n":                                       "",
		"/annex/objects/" + key + "\x00\x00\x00":                   "",
		" /annex/objects/" + key + "\n":                            "",
		"":                                                         "",
		`{"schemaVersion":2}`:                                      "",
	} {
		if got := pointerKey([]byte(content)); got != want {
			t.Errorf("%.60q: %q, want %q", content, got, want)
		}
	}
}

func TestLinkKey(t *testing.T) {
	t.Chdir(t.TempDir())
	const key = "MD5E-s1--abc"
	link := func(target, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	link("../.git/annex/objects/a/b/"+key+"/"+key, "d/locked")
	link("/elsewhere/.git/annex/objects/a/b/"+key+"/"+key, "absolute")
	link("../.git/modules/sub/annex/objects/a/b/"+key+"/"+key, "d/submodule")
	link("d/locked", "hop1")
	link("hop1", "hop2")
	link("d", "dir")
	link("nosuch", "dangling")
	link("loop", "loop")
	link(".git/annex/objects/a/b/nokey", "nokey")
	for name, want := range map[string]string{
		"d/locked": key, "absolute": key, "d/submodule": key, "hop2": key, "dir/locked": key, "./d/../hop2": key,
		"dangling": "", "loop": "", "nokey": "", "nosuch": "", "d": "",
	} {
		if got := linkKey(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestHumanBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1: "1 byte", 999: "999 bytes", 1000: "1.0 kB (1000 bytes)", 999_949: "999.9 kB (999949 bytes)",
		999_950: "1.0 MB (999950 bytes)", 1_234_567_890: "1.2 GB (1234567890 bytes)", 1 << 62: "4.6 EB (4611686018427387904 bytes)",
	} {
		if got := humanBytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/a/b-c_d.e": "/a/b-c_d.e", "a b": "'a b'", "it's": `'it'\''s'`, "-rf": "./-rf", "$x": "'$x'", "~/x": "'~/x'", "": "''",
	} {
		if got := shellQuote(path); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
}
