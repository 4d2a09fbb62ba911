package registry

import (
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Request is a line of a log.
type Request struct {
	Server        string // registry, token, cdn
	Method, Path  string
	Range         string
	Authorization string // its scheme, Basic or Bearer; empty where there was none
	Status        int
}

func (r Request) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %d %s %s", r.Server, r.Method, r.Path, r.Status, r.Authorization, r.Range))
}

// Log is what servers were asked. It is safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	list []Request
}

func (l *Log) add(server string, r *http.Request, status int) {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, Request{server, r.Method, r.URL.Path, r.Header.Get("Range"), scheme, status})
}

// Take returns what was asked since the last call.
func (l *Log) Take() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list
	l.list = nil
	return list
}

// FrontOptions of a Front. The zero value gives a token to anyone.
type FrontOptions struct {
	Username, Password string        // that the token server wants
	Life               time.Duration // of a token, which the token server does not tell; 0: for ever
}

// Front stands before a Server.
type Front struct {
	Log
	Addr string // of the registry and its token server
	CDN  string // of the server that has the blobs

	opt     FrontOptions
	behind  string
	backend *httputil.ReverseProxy
	servers []*http.Server

	mu     sync.Mutex
	tokens map[string]time.Time
}

// NewFront starts the front of the registry at addr.
func NewFront(addr string, o FrontOptions) (*Front, error) {
	f := &Front{opt: o, behind: addr, tokens: map[string]time.Time{}}
	f.backend = httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	f.backend.ErrorLog = log.New(io.Discard, "", 0) // clients that go away
	for _, s := range []struct {
		addr  *string
		serve http.HandlerFunc
	}{{&f.Addr, f.registry}, {&f.CDN, f.cdn}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.Close()
			return nil, err
		}
		*s.addr = l.Addr().String()
		server := &http.Server{Handler: s.serve}
		f.servers = append(f.servers, server)
		go server.Serve(l)
	}
	return f, nil
}

// Close ends both servers.
func (f *Front) Close() {
	for _, s := range f.servers {
		s.Close()
	}
}

func (f *Front) registry(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/token":
		f.token(w, r)
	case !f.admits(r):
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test registry",scope="%s"`, f.Addr, "repository:of,any:pull,push"))
		w.Header().Set("Content-Type", "application/json")
		f.answer("registry", w, r, http.StatusUnauthorized, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
	case strings.Contains(r.URL.Path, "/blobs/") && f.has(r.URL.Path):
		w.Header().Set("Location", "http://"+f.CDN+r.URL.Path+"?signature=secret")
		f.answer("registry", w, r, http.StatusTemporaryRedirect, "")
	default:
		f.pass("registry", w, r)
	}
}

// has asks the registry behind, which large ones do too before they redirect.
func (f *Front) has(path string) bool {
	resp, err := http.Head("http://" + f.behind + path)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (f *Front) token(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if f.opt.Username != "" && (user != f.opt.Username || password != f.opt.Password) {
		f.answer("token", w, r, http.StatusUnauthorized, `{"details":"incorrect username or password"}`)
		return
	}
	if !strings.HasPrefix(r.URL.Query().Get("scope"), "repository:") {
		f.answer("token", w, r, http.StatusBadRequest, `{"details":"no scope"}`)
		return
	}
	secret := rand.Text()
	f.mu.Lock()
	f.tokens[secret] = time.Now()
	f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	f.answer("token", w, r, http.StatusOK, fmt.Sprintf(`{"token":%q,"expires_in":300}`, secret))
}

func (f *Front) admits(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	given, ok := f.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	return ok && (f.opt.Life == 0 || time.Since(given) < f.opt.Life)
}

// cdn refuses credentials, as S3 and CloudFront do.
func (f *Front) cdn(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" || r.URL.Query().Get("signature") != "secret" {
		f.answer("cdn", w, r, http.StatusBadRequest, "only one auth mechanism allowed")
		return
	}
	f.pass("cdn", w, r)
}

func (f *Front) answer(server string, w http.ResponseWriter, r *http.Request, status int, body string) {
	f.add(server, r, status)
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

// pass hands a request to the registry behind.
func (f *Front) pass(server string, w http.ResponseWriter, r *http.Request) {
	s := &statusWriter{ResponseWriter: w}
	logged := r.Clone(r.Context())
	f.backend.ServeHTTP(s, r)
	f.add(server, logged, s.status)
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
