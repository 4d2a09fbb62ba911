package registry

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
)

// Proxy is a proxy on loopback that tunnels to one server, whatever it is asked for, and remembers what that was.
type Proxy struct {
	URL    string // with the name and the password that it wants
	server *httptest.Server

	mu    sync.Mutex
	asked []string
}

// NewProxy starts a proxy in front of the server at addr. With user ("NAME:PASSWORD") it answers nobody else.
func NewProxy(addr, user string) *Proxy {
	p := &Proxy{}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		if user != "" && name+":"+password != user {
			w.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		p.mu.Lock()
		p.asked = append(p.asked, r.Method+" "+r.Host)
		p.mu.Unlock()
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		there, err := net.Dial("tcp", addr)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			there.Close()
			return
		}
		io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
		go tunnel(there, here)
		go tunnel(here, there)
	}))
	at := strings.TrimPrefix(p.server.URL, "http://")
	if user != "" {
		at = user + "@" + at
	}
	p.URL = "http://" + at
	return p
}

func tunnel(to, from net.Conn) {
	io.Copy(to, from)
	to.Close()
	from.Close()
}

// Take returns the requests since the last call, as "METHOD HOST:PORT".
func (p *Proxy) Take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.asked
	p.asked = nil
	return asked
}

// Close ends the proxy.
func (p *Proxy) Close() { p.server.Close() }
