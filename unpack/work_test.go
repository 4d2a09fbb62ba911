package unpack_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/unpack"
)

// crowd is an image that takes a moment to unpack.
func crowd() *image {
	m := &image{}
	for l := range 3 {
		e := []entry{dir("d"), file("top", fmt.Sprint(l))}
		for i := range 300 {
			e = append(e, file(fmt.Sprintf("d/%d-%d", l, i), "x"))
		}
		b := tarOf(e...)
		m.layers = append(m.layers, compressed(b, gz(b)))
	}
	return m
}

// report is what the helper "unpack" prints.
type report struct {
	Root   *unpack.Root
	Opened int // blobs
}

// unpackHelper unpacks the image args[1] into the store args[0].
func unpackHelper(args []string) error {
	var o unpack.Options
	img, opened := crowd(), new(atomic.Int32)
	for i := range img.layers {
		img.layers[i].opened = opened
	}
	switch args[1] {
	case "stuck":
		// The last layer never comes to its end.
		inner := img.layers[2].open
		img.layers[2].open = func() io.Reader {
			return io.MultiReader(io.LimitReader(inner(), img.layers[2].size/2), stuck{})
		}
	case "merged":
		o.Overlay = func(string) error { return errors.New("refused") }
	}
	s, err := unpack.Open(args[0], o)
	if err != nil {
		return err
	}
	root, err := s.Root(context.Background(), img)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report{root, int(opened.Load())})
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) {
	fmt.Println("stuck")
	os.Stdout.Sync()
	select {}
}

func TestConcurrent(t *testing.T) {
	for _, form := range []string{"overlay", "merged"} {
		t.Run(form, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "store")
			const processes = 12
			reports := make([]report, processes)
			var wg sync.WaitGroup
			for i := range processes {
				wg.Go(func() {
					cmd := runHelper("unpack", dir, form)
					cmd.Stderr = os.Stderr
					out, err := cmd.Output()
					if err == nil {
						err = json.Unmarshal(out, &reports[i])
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			opened := 0
			for _, r := range reports {
				opened += r.Opened
				if diff := cmp.Diff(reports[0].Root, r.Root); diff != "" {
					t.Error(diff)
				}
			}
			if opened != 3 {
				t.Errorf("%d layers were unpacked, not 3", opened)
			}
			if t.Failed() {
				return
			}
			if n := len(view(t, reports[0].Root)); n != 903 {
				t.Errorf("%d names", n)
			}
			noWork(t, dir)
		})
	}
	t.Run("goroutines", func(t *testing.T) {
		s := store(t, unpack.Options{Workers: 1})
		img, opened := crowd(), new(atomic.Int32)
		for i := range img.layers {
			img.layers[i].opened = opened
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := s.Root(context.Background(), img); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := opened.Load(); n != 3 {
			t.Errorf("%d layers were unpacked, not 3", n)
		}
	})
}

// TestKilled: what SIGKILL leaves is no root, and the next run removes it.
func TestKilled(t *testing.T) {
	dir := filepath.Join(tempDir(t), "store")
	cmd := runHelper("unpack", dir, "stuck")
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "stuck\n" {
		t.Fatal(line, err)
	}
	// What it holds is not taken away from it.
	s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{}))
	if _, err := s.Root(context.Background(), stack(tarOf(file("other", "")))); err != nil {
		t.Fatal(err)
	}
	held, _ := filepath.Glob(dir + "/tmp/*")
	if len(held) == 0 {
		t.Fatal("nothing was being unpacked")
	}
	cmd.Process.Kill()
	cmd.Wait()
	// Trees that cannot be entered go as well.
	if err := os.MkdirAll(filepath.Join(held[0], "fs/a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"fs/a/b", "fs/a"} {
		if err := os.Chmod(filepath.Join(held[0], d), 0); err != nil {
			t.Fatal(err)
		}
	}
	root, err := s.Root(context.Background(), crowd())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(view(t, root)); n != 903 {
		t.Errorf("%d names", n)
	}
	noWork(t, dir)
}

func TestCancelled(t *testing.T) {
	for _, form := range []string{"overlay", "merged"} {
		t.Run(form, func(t *testing.T) {
			dir := filepath.Join(tempDir(t), "store")
			ctx, cancel := context.WithCancelCause(context.Background())
			o := unpack.Options{Progress: func(p unpack.Progress) {
				if p.Read > 3000 {
					cancel(errors.New("enough"))
				}
			}}
			if form == "merged" {
				o.Overlay = func(string) error { return errors.New("refused") }
			}
			s := must[*unpack.Store](t)(unpack.Open(dir, o))
			_, err := s.Root(ctx, crowd())
			if err == nil || !strings.Contains(err.Error(), "enough") {
				t.Errorf("got %v", err)
			}
			leftNothing(t, dir)
		})
	}
	t.Run("while another unpacks", func(t *testing.T) {
		dir := filepath.Join(tempDir(t), "store")
		cmd := runHelper("unpack", dir, "stuck")
		out := must[io.ReadCloser](t)(cmd.StdoutPipe())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		bufio.NewReader(out).ReadString('\n')
		ctx, cancel := context.WithCancel(context.Background())
		waited := false
		s := must[*unpack.Store](t)(unpack.Open(dir, unpack.Options{Progress: func(p unpack.Progress) {
			if p.Waiting {
				waited = true
				cancel()
			}
		}}))
		if _, err := s.Root(ctx, crowd()); !errors.Is(err, context.Canceled) || !waited {
			t.Errorf("got %v, waited: %v", err, waited)
		}
	})
}

// TestPanic: a reader that panics does not take the caller along.
func TestPanic(t *testing.T) {
	for _, c := range []func([]byte) []byte{func(b []byte) []byte { return b }, gz} {
		b := tarOf(file("f", "x"))
		l := compressed(b, c(b))
		inner := l.open
		l.open = func() io.Reader {
			return io.MultiReader(io.LimitReader(inner(), 20), readerFunc(func([]byte) (int, error) { panic("oh") }))
		}
		if _, err := store(t, unpack.Options{}).Root(context.Background(), imageOf(l)); err == nil || !strings.Contains(err.Error(), "oh") {
			t.Errorf("got %v", err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestMemory: neither a large layer nor one of holes, nor one of many names, is
// held in memory.
func TestMemory(t *testing.T) {
	const max = 150 << 10 // KiB
	cmd := runHelper("memory", filepath.Join(tempDir(t), "store"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err, stderr.String())
	}
	var peak int
	if _, err := fmt.Sscan(string(out), &peak); err != nil || peak == 0 || peak > max {
		t.Errorf("at most %d KiB of anonymous memory were used, allowed are %d: %v", peak, max, err)
	}
	t.Logf("%d KiB", peak)
}

func memoryHelper(args []string) error {
	done, peak := make(chan bool), make(chan int)
	go func() {
		highest := 0
		for {
			b, _ := os.ReadFile("/proc/self/status")
			_, rest, _ := strings.Cut(string(b), "RssAnon:")
			kib := 0
			fmt.Sscan(rest, &kib)
			highest = max(highest, kib)
			select {
			case <-done:
				peak <- highest
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	names := func(w *tar.Writer) {
		for i := range 3_000 {
			name := fmt.Sprintf("%0100d/", i)
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
		}
	}
	large := func(w *tar.Writer) {
		// 900 MB, of which 28 MB are not holes.
		b := append(bytes.Repeat([]byte("text"), 16<<10), make([]byte, 2<<20)...)
		for i := range 20 {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(i), Mode: 0o644, Size: int64(len(b) * 21)})
			for range 21 {
				w.Write(b)
			}
		}
	}
	var img image
	for _, write := range []func(*tar.Writer){names, large} {
		open := func() io.Reader {
			r, w := io.Pipe()
			go func() {
				tw := tar.NewWriter(w)
				write(tw)
				w.CloseWithError(tw.Close())
			}()
			return r
		}
		diffID, size, err := measure(open())
		if err != nil {
			return err
		}
		img.layers = append(img.layers, blob{diffID: diffID, size: size, open: open})
	}
	sparse := tarOf(raw(paxSparse("sparse", 6_000_000_000, "end")))
	img.layers = append(img.layers, compressed(sparse, gz(sparse)))
	s, err := unpack.Open(args[0], unpack.Options{Workers: 3})
	if err != nil {
		return err
	}
	root, err := s.Root(context.Background(), &img)
	if err != nil {
		return err
	}
	done <- true
	fi, err := os.Stat(filepath.Join(root.Layers[2], "sparse"))
	if err != nil || fi.Size() != 6_000_000_000 || fi.Sys().(*syscall.Stat_t).Blocks > 512 {
		return fmt.Errorf("sparse: %v %v", fi, err)
	}
	fmt.Println(<-peak)
	return nil
}

// measure returns the digest and the size of what r holds.
func measure(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}
