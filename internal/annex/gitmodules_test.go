package annex

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSubmodulePaths(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       string // comma-separated
		bad        bool   // git refuses the file
	}{
		{name: "empty"},
		{name: "plain", text: "[submodule \"a\"]\n\tpath = sub/dir\n\turl = ./x\n", want: "sub/dir"},
		{name: "no newline at the end", text: "[submodule \"a\"]\npath=p", want: "p"},
		{name: "byte order mark, CRLF", text: "\xef\xbb\xbf[submodule \"a\"]\r\n\tpath = p\r\n", want: "p"},
		{name: "case", text: "[SubModule \"A\"]\nPATH = Sub\n[submodule \"a\"]\npath = other\n", want: "Sub,other"},
		{name: "old form", text: "[submodule.a]\npath = p\n", want: "p"},
		{name: "on the header's line", text: "[submodule \"a\"] path = p\n", want: "p"},
		{name: "comments", text: "# [submodule \"x\"]\n; path = x\n[submodule \"a\"] # why\npath = p # so\n#path = q\n", want: "p"},
		{name: "quoted", text: "[submodule \"a\"]\npath = \"a b # c;\"\n", want: "a b # c;"},
		{name: "quoted in part", text: "[submodule \"a\"]\npath = a\" b \"c\n", want: "a b c"},
		{name: "blanks kept within, dropped around", text: "[submodule \"a\"]\npath =   a  b\t \n", want: "a  b"},
		{name: "blank kept by quotes", text: "[submodule \"a\"]\npath = a\" \"\n", want: "a "},
		{name: "escapes", text: "[submodule \"a\"]\npath = \\\"a\\\\b\\tc\n", want: "\"a\\b\tc"},
		{name: "continued", text: "[submodule \"a\"]\npath = sub/\\\ndir\n", want: "sub/dir"},
		{name: "continued at once", text: "[submodule \"a\"]\npath = \\\n  dir\n", want: "dir"},
		{name: "subsection with escapes", text: "[submodule \"a\\\"]\\\\\"]\npath = p\n", want: "p"},
		{name: "last wins", text: "[submodule \"a\"]\npath = p\n[submodule \"b\"]\npath=q\n[submodule \"a\"]\npath = r\n", want: "r,q"},
		{name: "other sections and keys", text: "[core]\npath = x\n[submodulex \"a\"]\npath = y\n[submodule \"a\"]\npathx = z\nx-path = z\n"},
		{name: "no value", text: "[submodule \"a\"]\npath =\n"},
		{name: "cleaned", text: "[submodule \"a\"]\npath = ./a//b/../c/\n", want: "a/c"},
		{name: "leaves the tree", text: "[submodule \"a\"]\npath = ../x\n[submodule \"b\"]\npath = /x\n[submodule \"c\"]\npath = a/../../x\n"},
		{name: "the tree itself", text: "[submodule \"a\"]\npath = .\n[submodule \"b\"]\npath = a/..\n"},
		{name: "in .git", text: "[submodule \"a\"]\npath = .git/x\n"},

		{name: "before a section", text: "path = x\n[submodule \"a\"]\npath = p\n", want: "p"},
		{name: "open quote", text: "[submodule \"a\"]\npath = \"x\n[submodule \"b\"]\npath = p\n", want: "p", bad: true},
		{name: "unknown escape", text: "[submodule \"a\"]\npath = x\\q\n[submodule \"b\"]\npath = p\n", want: "p", bad: true},
		{name: "open header", text: "[submodule \"a\npath = x\n[submodule \"b\"]\npath = p\n", want: "p", bad: true},
		{name: "open section", text: "[submodule\npath = x\n", bad: true},
		{name: "header of nothing", text: "[]\npath = x\n", bad: true},
		{name: "unquoted subsection", text: "[submodule a]\npath = x\n", bad: true},
		{name: "blank before the bracket", text: "[submodule \"a\" ]\npath = x\n", bad: true},
		{name: "key with a slash", text: "[submodule \"a\"]\npa/th = x\n", bad: true},
		{name: "garbage", text: "\x00\xff[[]\"\\\n=\n[submodule \"a\"]\npath = p\n", want: "p", bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var want []string
			if tc.want != "" {
				want = strings.Split(tc.want, ",")
			}
			if diff := cmp.Diff(want, submodulePaths([]byte(tc.text))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			// The table is about git's syntax, so git has the last word.
			file := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(file, []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("git", "config", "-z", "-f", file, "--list").Output()
			if errors.Is(err, exec.ErrNotFound) {
				if os.Getenv("DLRUN_TEST_PARTIAL") == "1" {
					return
				}
				t.Fatal("git is not installed; on Debian: apt install git (DLRUN_TEST_PARTIAL=1 runs the tests without it)")
			}
			if bad := err != nil; bad != tc.bad {
				t.Fatalf("git refuses: %v, want %v", bad, tc.bad)
			}
			if tc.bad {
				return
			}
			var ours strings.Builder
			parseConfig([]byte(tc.text), func(section, subsection, key, value string) {
				if subsection != "" {
					section += "." + subsection
				}
				if section != "" {
					key = section + "." + key
				}
				ours.WriteString(key + "\n" + value + "\x00")
			})
			if diff := cmp.Diff(string(out), ours.String()); diff != "" {
				t.Errorf("-git +parseConfig:\n%s", diff)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("[submodule \"a\\\"\"]\n\tpath = \"x\\\ny\" # c\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, path := range submodulePaths(text) {
			if !filepath.IsLocal(path) || path != filepath.Clean(path) || strings.ContainsRune(path, 0) {
				t.Errorf("path %q", path)
			}
		}
	})
}
