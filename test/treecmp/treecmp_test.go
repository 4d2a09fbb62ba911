package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiff changes one thing at a time in a copy of a tree.
func TestDiff(t *testing.T) {
	for name, tc := range map[string]struct {
		change string // a shell command in the tree
		want   string // in the differences; none when empty
	}{
		"nothing":           {":", ""},
		"content":           {"printf 2 >d/f; touch -d @7 d/f", `"/d/f" file`},
		"size":              {"printf 22 >d/f; touch -d @7 d/f", "size=2"},
		"mode":              {"chmod 600 d/f", "0600"},
		"setuid":            {"chmod 4755 d/f", "4755"},
		"time":              {"touch -d @8 d/f", "mtime=8"},
		"time of directory": {"touch -d @8 d", `"/d" dir`},
		"link target":       {"ln -sfn e l; touch -hd @7 l; touch -d @7 .", `link "e"`},
		"type":              {"rm d/f; mkdir d/f; touch -d @7 d/f d", `"/d/f" dir`},
		"missing":           {"rm d/f; touch -d @7 d", `- "/d/f"`},
		"more":              {": >d/new; touch -d @7 d", `+ "/d/new"`},
		"hard link lost":    {"cp -p d/f t; mv t d/h; touch -d @7 d .", "group="},
		"fifo":              {"rm p; mkfifo -m 600 p; touch -d @7 p .", "fifo 0600"},
		"xattr":             {"setfattr -n user.a -v 2 d/f", "user.a=32"},
		"unlisted xattr":    {"setfattr -n user.overlay.origin -v 2 d/f", ""},
		"device":            {"chmod 644 null", "file 0644"},
		"root's own":        {"touch -d @9 .; chmod 700 .", ""},
		"skipped":           {"echo x >skip/x", ""},
		"below dev":         {"echo x >dev/x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
			for _, tree := range []string{a, b} {
				sh(t, dir, `mkdir -p $0/d $0/skip $0/dev; cd $0; printf 1 >d/f; setfattr -n user.a -v 1 d/f; ln d/f d/h
					ln -s d/f l; mkfifo -m 644 p; : >null; chmod 0 null; touch -d @7 d/f null p skip dev d; touch -hd @7 l`, tree)
			}
			sh(t, b, tc.change, "sh")
			differences, err := Diff(listingOf(t, a), listingOf(t, b))
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(differences, "\n")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got differences %q, want %q", got, tc.want)
			}
		})
	}
}

// TestMadeForMounts leaves out what had to be made so that something could be
// mounted, and nothing else.
func TestMadeForMounts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	inside := write("inside", `skip "/home/me/work"
"/home" dir 0755 mtime=9
"/home/me" dir 0755 mtime=9
"/etc" dir 0755 mtime=1
`)
	outside := write("outside", "\"/home\" dir 0755 mtime=1\n\"/etc\" dir 0755 mtime=1\n")
	if d, err := Diff(inside, outside); err != nil || len(d) > 0 {
		t.Errorf("mount point made below /home: %q, %v", d, err)
	}
	chmodded := write("chmodded", "\"/home\" dir 0700 mtime=1\n\"/etc\" dir 0755 mtime=2\n")
	if d, err := Diff(inside, chmodded); err != nil || len(d) != 4 {
		t.Errorf("mode of /home and time of /etc: %q, %v", d, err)
	}
	if _, err := Diff(inside, write("empty", "")); err == nil {
		t.Error("an empty listing passes as a tree")
	}
}

func listingOf(t *testing.T, root string) string {
	t.Helper()
	var b bytes.Buffer
	if err := List(&b, root, Options{Skip: []string{"/skip"}}); err != nil {
		t.Fatal(err)
	}
	file := root + ".list"
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func sh(t *testing.T, dir, script, arg0 string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script, arg0)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}
