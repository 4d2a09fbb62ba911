package unpack_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/unpack"
)

// cellar is a store with images of one shared and one own layer, used long ago, the first one longest.
func cellar(t *testing.T, n int) (at string, images []*image) {
	t.Helper()
	at = filepath.Join(tempDir(t), "store")
	base := tarOf(dir("ro", mode(0o555)), file("ro/f", strings.Repeat("base", 50_000)), dir("no", mode(0)), file("no/f", "x", mode(0)))
	for i := range n {
		images = append(images, stack(base, tarOf(dir("d", mode(0o500)), file("d/f", strings.Repeat(fmt.Sprint(i), 100_000)))))
	}
	for i, img := range images {
		s := must[*unpack.Store](t)(unpack.Open(at, unpack.Options{Name: fmt.Sprint("image ", i)}))
		root := must[*unpack.Root](t)(s.Root(context.Background(), img))
		s.Close()
		age(t, root.Marker, time.Duration(n-i)*30*24*time.Hour)
	}
	return at, images
}

func age(t *testing.T, file string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(file, then, then); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *unpack.Store {
	t.Helper()
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{MaxSize: -1}))
	t.Cleanup(func() { s.Close() })
	return s
}

// names of the images that are listed, the one used last first.
func names(list []unpack.Stored) string {
	var all []string
	for _, i := range list {
		all = append(all, strings.TrimPrefix(i.Name, "image "))
	}
	return strings.Join(all, " ")
}

func listed(t *testing.T, dir string) string {
	t.Helper()
	return names(must[[]unpack.Stored](t)(open(t, dir).List(context.Background())))
}

func trim(t *testing.T, dir string, o unpack.Trim) *unpack.Trimmed {
	t.Helper()
	return must[*unpack.Trimmed](t)(open(t, dir).Trim(context.Background(), o))
}

func TestTrim(t *testing.T) {
	dir, images := cellar(t, 4)
	if got := listed(t, dir); got != "3 2 1 0" {
		t.Fatalf("listed: %s", got)
	}
	u := must[unpack.Usage](t)(open(t, dir).Usage(context.Background()))
	if u.Images < 600_000 || u.Images > 800_000 || u.Orphans != 0 || u.Total < u.Images || u.Free <= 0 {
		t.Errorf("usage: %+v", u)
	}
	// The two used last, and one that a run holds, however old it is.
	s := open(t, dir)
	held := must[*unpack.Root](t)(s.Root(context.Background(), images[0]))
	age(t, held.Marker, 365*24*time.Hour)
	dry := trim(t, dir, unpack.Trim{MaxSize: u.Total - 150_000, DryRun: true})
	if got := listed(t, dir); got != "3 2 1 0" {
		t.Errorf("after a dry run there are %s", got)
	}
	wet := trim(t, dir, unpack.Trim{MaxSize: u.Total - 150_000})
	if diff := cmp.Diff(dry, wet); diff != "" {
		t.Errorf("a dry run says something else: %s", diff)
	}
	if names(wet.Images) != "1 2" || names(wet.Kept) != "0" || wet.Bytes < 200_000 {
		t.Errorf("removed %s, kept %s, %d bytes", names(wet.Images), names(wet.Kept), wet.Bytes)
	}
	if got := listed(t, dir); got != "3 0" {
		t.Errorf("left are %s", got)
	}
	if got := len(view(t, held)); got != 7 {
		t.Errorf("the run that was at work sees %d names", got)
	}
	// What is left is used, and what was removed comes back.
	for _, img := range images {
		must[*unpack.Root](t)(open(t, dir).Root(context.Background(), img))
	}
	s.Close()
	if got := listed(t, dir); strings.Count(got, " ") != 3 {
		t.Errorf("listed: %s", got)
	}
	noWork(t, dir)
}

func TestTrimByAgeAndName(t *testing.T) {
	dir, images := cellar(t, 3)
	if got := names(trim(t, dir, unpack.Trim{OlderThan: 75 * 24 * time.Hour}).Images); got != "0" {
		t.Errorf("removed %s", got)
	}
	id := must[string](t)(unpack.ID(images[1]))
	if got := names(trim(t, dir, unpack.Trim{IDs: []string{id}}).Images); got != "1" {
		t.Errorf("removed %s", got)
	}
	if got := listed(t, dir); got != "2" {
		t.Errorf("left are %s", got)
	}
	trim(t, dir, unpack.Trim{All: true})
	for _, kind := range []string{"layers", "roots", "merged", "tmp"} {
		if left, _ := filepath.Glob(filepath.Join(dir, kind, "*")); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "locks", "*")); len(left) > 1 {
		t.Errorf("left are %v", left)
	}
}

// TestTrimGarbage: what no image needs goes with its age, what is needed does not.
func TestTrimGarbage(t *testing.T) {
	dir, images := cellar(t, 1)
	root := must[*unpack.Root](t)(open(t, dir).Root(context.Background(), images[0]))
	orphan := func(name string, by time.Duration) string {
		path := filepath.Join(dir, "layers", strings.Repeat(name, 64))
		if err := os.MkdirAll(filepath.Join(path, "fs"), 0o700); err != nil {
			t.Fatal(err)
		}
		age(t, path, by)
		return path
	}
	young, old := orphan("a", time.Hour), orphan("b", 48*time.Hour)
	foreign := filepath.Join(dir, "tmp", "other-host.1.x")
	dead := filepath.Join(dir, "tmp", "another-host.1.x")
	if err := errors.Join(os.Mkdir(foreign, 0o700), os.Mkdir(dead, 0o700)); err != nil {
		t.Fatal(err)
	}
	age(t, dead, 30*24*time.Hour)
	trim(t, dir, unpack.Trim{})
	for path, want := range map[string]bool{young: true, old: false, foreign: true, dead: false, root.Layers[0]: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	trim(t, dir, unpack.Trim{MaxSize: 1})
	if _, err := os.Lstat(young); err == nil {
		t.Error("an orphan is worth more than an image")
	}
	if _, err := os.Lstat(root.Layers[0]); err != nil {
		t.Error(err)
	}
}

// TestAside: a part that is damaged while a run uses it is put in the place of what the run has, not removed.
func TestAside(t *testing.T) {
	dir, images := cellar(t, 1)
	s := open(t, dir)
	root := must[*unpack.Root](t)(s.Root(context.Background(), images[0]))
	if err := os.WriteFile(filepath.Join(root.Layers[0], "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := must[*os.File](t)(os.Open(root.Layers[0]))
	defer used.Close()
	again := must[*unpack.Root](t)(open(t, dir).Root(context.Background(), images[0]))
	if names, err := used.Readdirnames(-1); err != nil || len(names) != 3 {
		t.Errorf("the run that was at work has %v (%v)", names, err)
	}
	if got := len(view(t, again)); got != 7 {
		t.Errorf("the next run sees %d names", got)
	}
	if diff := cmp.Diff(root, again); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		trim(t, dir, unpack.Trim{})
		away, _ := filepath.Glob(filepath.Join(dir, "layers/*.aside.*"))
		if len(away) != 1 {
			t.Errorf("while a run uses it, taken aside are %v", away)
		}
	}
}

// TestLastUse is written down at most once a minute, whatever the clock was, and never where that cannot be.
func TestLastUse(t *testing.T) {
	dir, images := cellar(t, 1)
	marker := must[*unpack.Root](t)(open(t, dir).Root(context.Background(), images[0])).Marker
	for _, tt := range []struct {
		age     time.Duration
		touched bool
	}{{30 * time.Second, false}, {2 * time.Minute, true}, {50 * 365 * 24 * time.Hour, true}, {-50 * 365 * 24 * time.Hour, true}, {-30 * time.Second, false}} {
		age(t, marker, tt.age)
		must[*unpack.Root](t)(open(t, dir).Root(context.Background(), images[0]))
		now := time.Since(must[os.FileInfo](t)(os.Stat(marker)).ModTime()).Abs() < 15*time.Second
		if now != tt.touched {
			t.Errorf("used %v ago: touched: %v", tt.age, now)
		}
	}
}

// TestMaxSize: after an unpack the store is trimmed, but never by what was unpacked.
func TestMaxSize(t *testing.T) {
	dir, images := cellar(t, 3)
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{MaxSize: 100, Name: "image new"}))
	defer s.Close()
	root := must[*unpack.Root](t)(s.Root(context.Background(), stack(tarOf(file("new", "x")))))
	if _, err := os.Stat(filepath.Join(root.Layers[0], "new")); err != nil {
		t.Error(err)
	}
	if got := listed(t, dir); got != "new" {
		t.Errorf("left are %s", got)
	}
	// A warm start trims nothing.
	must[*unpack.Root](t)(open(t, dir).Root(context.Background(), images[0]))
	must[*unpack.Root](t)(s.Root(context.Background(), stack(tarOf(file("new", "x")))))
	if got := listed(t, dir); !strings.Contains(got, "new") || !strings.Contains(got, " ") && got == "new" {
		t.Errorf("left are %q", got)
	}
}

// TestTrimForeign: nobody trims what is another's.
func TestTrimForeign(t *testing.T) {
	if os.Geteuid() != 0 {
		return // it takes two users: TestMain has run it as root
	}
	dir, _ := cellar(t, 1)
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error { return errors.Join(err, os.Lchown(p, 1234, -1)) })
	if err != nil {
		t.Fatal(err)
	}
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{Owners: []int{1234}}))
	if _, err := s.Trim(context.Background(), unpack.Trim{All: true}); err == nil || !strings.Contains(err.Error(), "someone else") {
		t.Errorf("got %v", err)
	}
}

// TestTrimAndUnpack: whatever is removed while others unpack and run, each gets its image whole.
func TestTrimAndUnpack(t *testing.T) {
	dir, images := cellar(t, 6)
	done := make(chan bool)
	var trimmers, runs sync.WaitGroup
	trimmers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				if _, err := open(t, dir).Trim(context.Background(), unpack.Trim{All: i%2 == 0, MaxSize: 1}); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for w := range 4 {
		runs.Go(func() {
			for i := range 25 {
				s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{MaxSize: -1}))
				n := (i*7 + w*3) % len(images)
				root, err := s.Root(context.Background(), images[n])
				if err != nil {
					t.Error(err)
					continue
				}
				for name, want := range map[string]int{"d/f": 100_000, "ro/f": 200_000} {
					for _, l := range root.Layers {
						if fi, err := os.Stat(filepath.Join(l, name)); err == nil && int(fi.Size()) == want {
							want = 0
						}
					}
					if want != 0 {
						t.Errorf("image %d lacks %s", n, name)
					}
				}
				s.Close()
			}
		})
	}
	runs.Wait()
	close(done)
	trimmers.Wait()
	noWork(t, dir)
}
