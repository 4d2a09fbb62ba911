package registry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// MaxManifest is how many bytes of a manifest or an index are read.
const MaxManifest = 4 << 20

const (
	maxAnswer    = 1 << 20   // bytes of a token or an error that are read
	maxHeader    = 256 << 10 // bytes of the header of an answer
	maxRedirects = 10
)

// Options of a client. The zero value is useful.
type Options struct {
	UserAgent string
	CAFile    string              // certificates in PEM that are trusted besides the system's
	Anonymous bool                // no credentials are looked for
	Insecure  bool                // also speak http, and https without knowing who answers
	Mirrors   map[string][]string // registries to ask before the one named: HOST to HOST[/PREFIX]
	Note      func(string)        // told of a pause that takes long; may be nil

	Tries   int           // tries of one question without progress; 0: 5
	Header  time.Duration // how long the header of an answer may take; 0: 60 s
	Stall   time.Duration // how long an answer may bring next to nothing; 0: 30 s
	Backoff time.Duration // the first pause, doubled from try to try; 0: 500 ms
	Wait    time.Duration // the longest pause that a registry may ask for; 0: 60 s
}

// Client asks registries. It is safe for concurrent use.
type Client struct {
	opt       Options
	transport *http.Transport

	mu    sync.Mutex
	hosts map[string]*host // by registry
	dead  map[string]bool  // mirrors that do not answer
}

// New makes a client. It touches no network.
func New(o Options) (*Client, error) {
	o.UserAgent = cmp.Or(o.UserAgent, "dlrun")
	o.Tries = cmp.Or(o.Tries, 5)
	o.Header = cmp.Or(o.Header, 60*time.Second)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	o.Backoff = cmp.Or(o.Backoff, 500*time.Millisecond)
	o.Wait = cmp.Or(o.Wait, 60*time.Second)
	if o.Note == nil {
		o.Note = func(string) {}
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: o.Insecure}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		if secure.RootCAs, err = x509.SystemCertPool(); err != nil {
			secure.RootCAs = x509.NewCertPool()
		}
		if !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", o.CAFile)
		}
	}
	// HTTP/1.1 alone: each layer has a connection of its own, and one that stalls can be dropped without the others.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	c := &Client{opt: o, hosts: map[string]*host{}, dead: map[string]bool{}, transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        secure,
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  o.Header,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        30 * time.Second,
		ReadBufferSize:         64 << 10,
		DisableCompression:     true, // digests are of what is stored
		OnProxyConnectResponse: judgeProxy,
		Protocols:              &protocols,
	}}
	return c, nil
}

// place is a repository that may have what is asked for.
type place struct {
	host   *host
	repo   string // the path below /v2/
	mirror bool
}

func (p place) String() string { return p.host.name + "/" + p.repo }

// scope is what a token for reading must cover.
func (p place) scope() string { return "repository:" + p.repo + ":pull" }

// places are where to ask for something in repo, in turn; the last is repo itself.
func (c *Client) places(repo name.Repository) []place {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := hostName(repo.RegistryStr())
	var list []place
	for _, m := range c.opt.Mirrors[own] {
		at, prefix, _ := strings.Cut(m, "/")
		if !c.dead[at] {
			path := strings.TrimPrefix(strings.Trim(prefix, "/")+"/"+repo.RepositoryStr(), "/")
			list = append(list, place{c.host(hostName(at)), path, true})
		}
	}
	return append(list, place{c.host(own), repo.RepositoryStr(), false})
}

// bury remembers that a mirror does not answer.
func (c *Client) bury(p place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead[p.host.name] = true
}

// host is called with c.mu held.
func (c *Client) host(name string) *host {
	h := c.hosts[name]
	if h == nil {
		h = &host{name: name, address: name, tokens: map[string]*token{}}
		if name == dockerHub {
			h.address = "registry-1.docker.io"
		}
		c.hosts[name] = h
	}
	return h
}

// dockerHub is the name that users know; go-containerregistry and docker's own files have another.
const dockerHub = "docker.io"

// hostName is the one name of a registry that has several.
func hostName(registry string) string {
	switch registry {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub
	}
	return registry
}

// budget bounds the tries of one question.
type budget struct {
	client *Client
	left   int
	made   int
}

func (c *Client) budget(p place) *budget {
	if p.mirror {
		return &budget{client: c, left: min(2, c.opt.Tries)}
	}
	return &budget{client: c, left: c.opt.Tries}
}

// pause is how long to wait before the next try: twice as long as before the last one, give or take a half.
func (b *budget) pause() time.Duration {
	p := b.client.opt.Backoff << min(b.made-1, 6)
	return p/2 + time.Duration(rand.Int64N(int64(p)))
}

// isLoopback reports whether an address names this machine without asking anyone.
func isLoopback(address string) bool {
	h := address
	if host, _, err := net.SplitHostPort(address); err == nil {
		h = host
	}
	h = strings.Trim(h, "[]")
	ip := net.ParseIP(h)
	return h == "localhost" || ip != nil && ip.IsLoopback()
}
