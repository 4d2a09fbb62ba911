package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Username and Password are what a Faulty that wants a token wants.
const (
	Username = "me"
	Password = "Xq7-password"
	tokenIs  = "Zk3-token-"
)

// Faulty is a registry with one image, lab/image:1, and one fault. Its layers
// are no archives.
type Faulty struct {
	Log
	Addr  string       // HOST:PORT
	Other string       // the same of another server, to which some faults lead
	Leaks atomic.Int64 // requests to Other that held a credential
	Sent  atomic.Int64 // bytes of answers

	fault   Fault
	image   *memoryImage
	servers []*httptest.Server

	mu    sync.Mutex
	seen  map[string]int // requests by kind
	token int            // the number of the one that is valid
}

// NewFaulty starts the registry, which speaks plain http.
func NewFaulty(fault Fault) *Faulty { return start(fault, (*httptest.Server).Start) }

// NewTLS starts the registry with https, and returns the certificate by which it is known, in PEM.
func NewTLS(fault Fault) (*Faulty, []byte) {
	f := start(fault, (*httptest.Server).StartTLS)
	return f, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.servers[0].Certificate().Raw})
}

func start(fault Fault, begin func(*httptest.Server)) *Faulty {
	f := &Faulty{fault: fault, image: newMemoryImage(), seen: map[string]int{}}
	for _, s := range []struct {
		addr  *string
		serve http.HandlerFunc
	}{{&f.Addr, f.serve}, {&f.Other, f.other}} {
		server := httptest.NewUnstartedServer(s.serve)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		begin(server)
		*s.addr = server.Listener.Addr().String()
		f.servers = append(f.servers, server)
	}
	if fault.image != nil {
		fault.image(f)
	}
	return f
}

// Close ends both servers, also while they answer.
func (f *Faulty) Close() {
	for _, s := range f.servers {
		s.CloseClientConnections()
		s.Config.Close()
	}
}

// memoryImage is what the registry has.
type memoryImage struct {
	top       []byte            // what the tag names
	docs      map[string][]byte // indexes and manifests by digest
	blobs     map[string][]byte
	config    string // its digest
	big       string // of the layer that most faults are about
	mediaType types.MediaType
}

// bigSize is that of the layer which most faults are about, in bytes.
const bigSize = 300_000

func newMemoryImage() *memoryImage {
	i := &memoryImage{docs: map[string][]byte{}, blobs: map[string][]byte{}, mediaType: types.DockerManifestSchema2}
	noise := rand.NewChaCha8([32]byte{1})
	big, small := make([]byte, bigSize), make([]byte, 1000)
	noise.Read(big)
	noise.Read(small)
	config := fmt.Appendf(nil, `{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":[%q,%q]}}`,
		runtime.GOARCH, digestOf(big), digestOf(small))
	i.big, i.config = digestOf(big), digestOf(config)
	for _, blob := range [][]byte{big, small, config} {
		i.blobs[digestOf(blob)] = blob
	}
	layer := func(b []byte) v1.Descriptor {
		h, _ := v1.NewHash(digestOf(b))
		return v1.Descriptor{MediaType: types.DockerLayer, Size: int64(len(b)), Digest: h}
	}
	c := layer(config)
	c.MediaType = types.DockerConfigJSON
	raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: i.mediaType, Config: c, Layers: []v1.Descriptor{layer(big), layer(small)}})
	if err != nil {
		panic(err)
	}
	i.setTop(raw)
	return i
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func (i *memoryImage) setTop(raw []byte) {
	i.top = raw
	i.docs[digestOf(raw)] = raw
}

// edit changes the text of the manifest.
func edit(from, to string) func(*Faulty) {
	return func(f *Faulty) {
		was := string(f.image.top)
		now := strings.Replace(was, from, to, 1)
		if now == was {
			panic(from + " is not in " + was)
		}
		f.image.setTop([]byte(now))
	}
}

// call is one request, the nth of its kind: ping, token, manifest, config, big, small.
type call struct {
	*Faulty
	w    http.ResponseWriter
	r    *http.Request
	kind string
	n    int
}

func (f *Faulty) kind(r *http.Request) string {
	_, reference, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/lab/image/"), "/")
	switch {
	case r.URL.Path == "/v2/":
		return "ping"
	case r.URL.Path == "/token":
		return "token"
	case strings.Contains(r.URL.Path, "/manifests/"):
		return "manifest"
	case reference == f.image.config:
		return "config"
	case reference == f.image.big:
		return "big"
	}
	return "small"
}

func (f *Faulty) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{Faulty: f, w: &countingWriter{w, f}, r: r, kind: f.kind(r)}
	f.mu.Lock()
	f.seen[c.kind]++
	c.n = f.seen[c.kind]
	f.mu.Unlock()
	f.add(c.kind, r, 0)
	if f.fault.Token && c.kind != "token" && r.Header.Get("Authorization") != f.bearer() {
		c.demand(fmt.Sprintf(`Bearer realm="http://%s/token",service="s",scope="repository:lab/image:pull"`, f.Addr))
		return
	}
	if f.fault.serve != nil && f.fault.serve(c) {
		return
	}
	c.sound()
}

func (f *Faulty) bearer() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("Bearer %s%d", tokenIs, f.token)
}

// other has the blobs too, and looks for what it should never see.
func (f *Faulty) other(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	all := fmt.Sprint(r.URL, r.Header, string(body))
	if r.Header.Get("Authorization") != "" || strings.Contains(all, Password) || strings.Contains(all, tokenIs) {
		f.Leaks.Add(1)
	}
	f.add("other", r, 0)
	c := &call{Faulty: f, w: &countingWriter{w, f}, r: r, kind: f.kind(r)}
	if f.fault.other != nil && f.fault.other(c) {
		return
	}
	c.sound()
}

type countingWriter struct {
	http.ResponseWriter
	f *Faulty
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.f.Sent.Add(int64(n))
	return n, err
}

func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// sound does the right thing.
func (c *call) sound() {
	if c.kind == "ping" {
		return
	}
	if c.kind == "token" {
		if user, password, _ := c.r.BasicAuth(); c.fault.Token && c.r.Host == c.Addr && (user != Username || password != Password) {
			c.w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c.giveToken()
		return
	}
	i := c.image
	_, reference, _ := strings.Cut(strings.TrimPrefix(c.r.URL.Path, "/v2/lab/image/"), "/")
	if c.kind == "manifest" {
		raw, ok := i.docs[reference]
		if reference == "1" {
			raw, ok = i.top, true
		}
		if !ok {
			c.refuse(http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		var said struct{ MediaType string }
		json.Unmarshal(raw, &said)
		c.w.Header().Set("Content-Type", said.MediaType)
		c.w.Header().Set("Docker-Content-Digest", digestOf(raw))
		c.w.Write(raw)
		return
	}
	blob, ok := i.blobs[reference]
	if !ok {
		c.refuse(http.StatusNotFound, "BLOB_UNKNOWN")
		return
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(c.w, c.r, "", time.Time{}, bytes.NewReader(blob))
}

func (c *call) giveToken() {
	c.mu.Lock()
	c.token++
	token := fmt.Sprint(tokenIs, c.token)
	c.mu.Unlock()
	fmt.Fprintf(c.w, `{"token":%q,"expires_in":3600}`, token)
}

func (c *call) refuse(status int, code string) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.WriteHeader(status)
	fmt.Fprintf(c.w, `{"errors":[{"code":%q,"message":"no"}]}`, code)
}

func (c *call) demand(challenge string) {
	c.w.Header().Set("WWW-Authenticate", challenge)
	c.refuse(http.StatusUnauthorized, "UNAUTHORIZED")
}

// content is what would be right to send.
func (c *call) content() []byte {
	recorded := httptest.NewRecorder()
	plain := *c
	plain.w = recorded
	plain.r = c.r.Clone(c.r.Context())
	plain.r.Header.Del("Range")
	plain.sound()
	return recorded.Body.Bytes()
}

// cut says that it sends all, and ends the connection after n bytes: with a reset, or in order.
func (c *call) cut(n int, reset bool) {
	body := c.content()
	status, from := http.StatusOK, 0
	if fmt.Sscanf(c.r.Header.Get("Range"), "bytes=%d-", &from); from > 0 {
		status = http.StatusPartialContent
		c.w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
	}
	body = body[from:]
	c.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	c.w.WriteHeader(status)
	c.w.Write(body[:min(n, len(body))])
	c.drop(reset)
}

// drop ends the connection.
func (c *call) drop(reset bool) {
	http.NewResponseController(c.w).Flush()
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// halt keeps the connection open and sends nothing more.
func (c *call) halt() {
	http.NewResponseController(c.w).Flush()
	c.wait()
}

func (c *call) wait() {
	select {
	case <-c.r.Context().Done():
	case <-time.After(time.Minute):
	}
}

// endless sends without end.
func (c *call) endless(piece []byte) {
	for {
		if _, err := c.w.Write(piece); err != nil {
			return
		}
	}
}

func (c *call) redirect(to string) {
	c.w.Header()["Location"] = []string{to}
	c.w.WriteHeader(http.StatusTemporaryRedirect)
}
