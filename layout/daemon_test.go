package layout_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlrun/dlrun/layout"
)

// engine serves handler on a socket of its own, which DOCKER_HOST names.
func engine(t *testing.T, handler http.HandlerFunc) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	return socket
}

func TestDaemon(t *testing.T) {
	s := &site{t, filepath.Join(t.TempDir(), "img")}
	s.save(legacyName, jsonName, three)
	content := tarOf(t, s.dir)
	var asked []string
	engine(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("names"))
		w.Write(content)
	})
	t.Setenv("TMPDIR", t.TempDir())
	id := strings.Repeat("0123456789abcdef", 4)
	for ref, want := range map[string]string{
		"docker-daemon:lab/img":                            "lab/img:latest",
		"docker-daemon:lab/img:1.0":                        "lab/img:1.0",
		"docker-daemon:localhost:5000/img":                 "localhost:5000/img:latest",
		"docker-daemon:localhost:5000/lab/img:2":           "localhost:5000/lab/img:2",
		"docker-daemon:sha256:" + id:                       "sha256:" + id,
		"docker-daemon:lab/img@" + "sha256:" + id:          "lab/img@sha256:" + id,
		"docker-daemon:registry.example.org/a_b/c-d/e:1_x": "registry.example.org/a_b/c-d/e:1_x",
	} {
		asked = nil
		img, err := layout.Open(context.Background(), ref, layout.Options{Platform: amd64})
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		checkImage(t, img, three)
		if got := strings.Join(asked, "; "); got != "GET /_ping ; GET /images/get "+want {
			t.Errorf("%s: asked %s", ref, got)
		}
		if img.Dir() != ref {
			t.Errorf("%s: dir %s", ref, img.Dir())
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left in $TMPDIR: %v %v", left, err)
	}
}

func TestDaemonRefused(t *testing.T) {
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			w.Write([]byte(body))
		}
	}
	for _, c := range []struct {
		name, ref string
		handler   http.HandlerFunc
		words     []string
	}{
		{"no such image", "docker-daemon:lab/no", answer(404, `{"message":"No such image: lab/no:latest"}`), []string{"docker-daemon:lab/no from the engine at ", "No such image: lab/no:latest"}},
		{"no reason", "docker-daemon:lab/no", answer(500, "<html>"), []string{"it answers 500 Internal Server Error"}},
		{"a redirect", "docker-daemon:lab/no", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.org/", http.StatusFound)
		}, []string{"it answers 302 Found"}},
		{"nothing", "docker-daemon:lab/no", answer(200, ""), []string{"docker-daemon:lab/no is not an image"}},
		{"garbage", "docker-daemon:lab/no", answer(200, strings.Repeat("garbage ", 500)), []string{"read archive", "invalid tar header"}},
		{"cut", "docker-daemon:lab/no", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("half"))
		}, []string{"unexpected EOF"}},
		{"no name", "docker-daemon:", answer(200, ""), []string{"docker-daemon:"}},
		{"a bad name", "docker-daemon:Lab/../x", answer(200, ""), []string{"docker-daemon:Lab/../x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			engine(t, c.handler)
			_, err := layout.Open(context.Background(), c.ref, layout.Options{Platform: amd64})
			wantWords(t, err, c.words...)
		})
	}
	open := func() error {
		_, err := layout.Open(context.Background(), "docker-daemon:lab/img", layout.Options{Platform: amd64})
		return err
	}
	t.Setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
	wantWords(t, open(), "DOCKER_HOST is tcp://192.0.2.1:2375", "only unix://")
	t.Setenv("DOCKER_HOST", "unix:///nowhere/sock")
	wantWords(t, open(), "/nowhere/sock", "no such file")
	t.Run("a silent engine", func(t *testing.T) {
		done := make(chan struct{})
		defer close(done)
		engine(t, func(w http.ResponseWriter, r *http.Request) { <-done })
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := layout.Open(ctx, "docker-daemon:lab/img", layout.Options{}); err == nil || ctx.Err() == nil {
			t.Errorf("waited: %v", err)
		}
	})
}
