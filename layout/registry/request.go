package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// host is a registry, and what is known of it.
type host struct {
	name    string // that users know it by
	address string // HOST[:PORT] that is asked

	probe  sync.Mutex
	scheme string // empty until it is known

	mu     sync.Mutex
	basic  string            // the Authorization header, where the registry wants the password itself
	tokens map[string]*token // by scope
}

// question is what a registry is asked, again and again after failures.
type question struct {
	method string
	place  place
	path   string // below /v2/NAME/
	header http.Header
}

// request is what goes to one server.
type request struct {
	method        string
	header        http.Header
	form          string // the body of a POST
	authorization string
}

// answer is a response whose body is watched, and ends the request when it is closed.
type answer struct {
	method    string
	url       *url.URL // the last one, after redirects
	elsewhere bool     // it is not the registry that answers
	status    int
	header    http.Header
	length    int64 // of the body, -1 where it is not told
	body      *watched
}

// ask puts a question until there is an answer that is neither a passing failure nor a demand for a token.
func (c *Client) ask(ctx context.Context, b *budget, q question) (*answer, error) {
	for {
		a, err := c.once(ctx, b, q)
		if err == nil && !passing(a.status) {
			return a, nil
		}
		var wait time.Duration
		if err == nil {
			var told bool
			wait, told = retryAfter(a.header, time.Now())
			failure := newStatusError(a)
			if err = failure; told && wait > c.opt.Wait {
				failure.Wait = wait.Round(time.Second)
				return nil, failure
			}
		}
		if err := b.again(ctx, err, wait); err != nil {
			return nil, err
		}
	}
}

// passing are failures that may be gone the next time.
func passing(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500
}

// retryAfter reads the header in its two forms: seconds, and a date.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 {
		return time.Duration(min(n, 1<<32)) * time.Second, true
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0), true
	}
	return 0, false
}

// again waits for the next try, at least as long as told. It returns the error to end with when there is none.
func (b *budget) again(ctx context.Context, err error, wait time.Duration) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	b.left--
	b.made++
	var final permanent
	if errors.As(err, &final) {
		return final.error
	}
	if b.left <= 0 {
		if b.made == 1 {
			return err
		}
		return fmt.Errorf("%w (%d tries)", err, b.made)
	}
	wait = max(wait, b.pause())
	if wait > 2*time.Second {
		b.client.opt.Note(fmt.Sprintf("%v; trying again in %v", err, wait.Round(time.Second)))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// progress makes the tries count anew.
func (b *budget) progress(p place) { *b = *b.client.budget(p) }

// once puts the question with the token at hand, and a second time with a new one where the registry wants that.
func (c *Client) once(ctx context.Context, b *budget, q question) (*answer, error) {
	h := q.place.host
	u := &url.URL{Scheme: c.scheme(ctx, h), Host: h.address, Path: "/v2/" + q.place.repo + "/" + q.path}
	r := request{method: q.method, header: q.header, authorization: h.authorization(q.place.scope())}
	a, err := c.follow(ctx, u, r)
	if err != nil || a.status != http.StatusUnauthorized || a.elsewhere {
		return a, err
	}
	demands := challenges(a.header)
	header, err := c.authorize(ctx, b, q.place, demands, r.authorization)
	if err != nil {
		a.body.Close()
		return nil, err
	}
	if header == "" {
		return a, nil // there is nothing to say that was not said
	}
	a.body.Close()
	r.authorization = header
	return c.follow(ctx, u, r)
}

// follow sends one request and goes along its redirects. The Authorization stays with the scheme, host and port
// that it is for.
func (c *Client) follow(ctx context.Context, first *url.URL, r request) (*answer, error) {
	u := first
	for range maxRedirects + 1 {
		elsewhere := u.Scheme != first.Scheme || u.Host != first.Host
		if elsewhere {
			r.authorization = ""
		}
		a, err := c.send(ctx, u, r)
		if err != nil {
			return nil, err
		}
		a.elsewhere = elsewhere
		switch a.status {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		default:
			return a, nil
		}
		a.body.Close()
		if r.method == http.MethodPost {
			// Its form holds a secret.
			return nil, permanent{fmt.Errorf("%s redirects a request that is not to be passed on", showURL(u))}
		}
		if u, err = c.redirect(u, a.header.Get("Location")); err != nil {
			return nil, permanent{err}
		}
	}
	return nil, permanent{fmt.Errorf("%s: more than %d redirects", showURL(first), maxRedirects)}
}

// redirect is where a Location leads, if that is a place to go to.
func (c *Client) redirect(from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	if err != nil || location == "" {
		return nil, fmt.Errorf("%s redirects to %q, which is no URL", showURL(from), oneLine(location))
	}
	to.User, to.Fragment = nil, ""
	switch {
	case to.Scheme != "https" && to.Scheme != "http" || to.Host == "":
		return nil, fmt.Errorf("%s redirects to %s: only http and https are followed", showURL(from), showURL(to))
	case to.Scheme == "http" && !c.plain(to.Host):
		return nil, &hinted{fmt.Errorf("%s redirects to plain http at %s: refused", showURL(from), to.Host), "--insecure allows it"}
	}
	return to, nil
}

// plain reports whether http may be spoken to an address.
func (c *Client) plain(address string) bool { return c.opt.Insecure || isLoopback(address) }

// scheme is https, unless http is allowed and all that the registry speaks.
func (c *Client) scheme(ctx context.Context, h *host) string {
	h.probe.Lock()
	defer h.probe.Unlock()
	if h.scheme != "" {
		return h.scheme
	}
	scheme, certain := "https", true
	if c.plain(h.address) {
		scheme, certain = c.spoken(ctx, h.address)
	}
	if certain {
		h.scheme = scheme
	}
	return scheme
}

// spoken tells what a registry speaks that may speak http, and whether that is certain. A connection that fails says nothing:
// credentials are not to go in clear for it.
func (c *Client) spoken(ctx context.Context, address string) (scheme string, certain bool) {
	_, err := c.greet(ctx, "https", address)
	var untrusted *tls.CertificateVerificationError
	var proxy *proxyError
	switch {
	case err == nil, errors.As(err, &untrusted):
		return "https", true
	case errors.Is(err, errPlain):
		return "http", true
	case errors.As(err, &proxy) && (passing(proxy.status) || proxy.status == http.StatusProxyAuthRequired):
		return "https", false
	}
	// Some servers of plain http are silent or hang up where they do not understand, and some proxies do not tunnel; servers of
	// https answer plain http so, or by 400.
	status, plainErr := c.greet(ctx, "http", address)
	if plainErr == nil && status != http.StatusBadRequest && status != http.StatusProxyAuthRequired && !passing(status) {
		return "http", true
	}
	return "https", errors.Is(err, context.DeadlineExceeded) // as long is not waited for it again
}

// greet asks a registry whether it is one, and returns the status.
func (c *Client) greet(ctx context.Context, scheme, address string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	a, err := c.send(ctx, &url.URL{Scheme: scheme, Host: address, Path: "/v2/"}, request{method: http.MethodGet})
	if err != nil {
		return 0, err
	}
	a.body.Close()
	return a.status, nil
}

// errPlain is the answer of a server that speaks http to who speaks https.
var errPlain = errors.New("it does not speak https")

// proxyError is a proxy that does not let a request through.
type proxyError struct {
	error
	status int
}

// send makes one request, without redirects.
func (c *Client) send(ctx context.Context, u *url.URL, r request) (*answer, error) {
	var body io.Reader
	if r.form != "" {
		body = strings.NewReader(r.form)
	}
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		cancel()
		return nil, permanent{err}
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	req.Header.Set("User-Agent", c.opt.UserAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if r.form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if r.authorization != "" {
		req.Header.Set("Authorization", r.authorization)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		cancel()
		return nil, explain(u, err)
	}
	return &answer{
		method: r.method, url: u, status: resp.StatusCode, header: resp.Header, length: resp.ContentLength,
		body: newWatched(resp.Body, cancel, c.opt.Stall),
	}, nil
}

// explain says what a failed request means, and whether another try is any good.
func explain(u *url.URL, err error) error {
	shown := showURL(u)
	var final permanent
	var unknown x509.UnknownAuthorityError
	var untrusted *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var dns *net.DNSError
	var address *net.AddrError
	switch {
	case errors.As(err, &final):
		return permanent{fmt.Errorf("%s: %w", shown, final.error)}
	case errors.As(err, &unknown) && errors.As(err, &untrusted):
		return permanent{&hinted{fmt.Errorf("%s: nobody that is trusted here vouches for its certificate: %w", shown, untrusted), "--ca-file FILE (or SSL_CERT_FILE) names who does"}}
	case errors.As(err, &untrusted):
		return permanent{fmt.Errorf("%s: %w", shown, untrusted)}
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return permanent{&hinted{fmt.Errorf("%s: %w", shown, errPlain), "--insecure, if plain http is what it is to speak"}}
	case errors.As(err, &dns) && dns.IsNotFound:
		return permanent{fmt.Errorf("%s: no host of that name: %w", shown, dns)}
	case errors.As(err, &address):
		return permanent{fmt.Errorf("%s: %w", shown, address)}
	}
	return fmt.Errorf("%s: %w", shown, err)
}

// judgeProxy names the proxy that does not let a request through; Go's own error is the text of the status alone.
func judgeProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	err := &proxyError{fmt.Errorf("the proxy %s answers %d %s", proxy.Host, resp.StatusCode, http.StatusText(resp.StatusCode)), resp.StatusCode}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return permanent{&hinted{err, "https_proxy=http://NAME:PASSWORD@" + proxy.Host}}
	case passing(resp.StatusCode):
		return err
	}
	return permanent{err}
}

// errStalled is why an answer was given up.
var errStalled = errors.New("the answer came to a halt")

// enough is how many bytes within the stall time keep an answer from being given up: one byte now and then would
// take years to fill a layer.
const enough = 1 << 10

// watched is the body of an answer. The time that its reader spends elsewhere does not count.
type watched struct {
	io.ReadCloser
	cancel  func()
	stall   time.Duration
	timer   *time.Timer
	stalled atomic.Bool
	idle    time.Duration // spent waiting for the bytes so far
	bytes   int
}

func newWatched(body io.ReadCloser, cancel func(), stall time.Duration) *watched {
	w := &watched{ReadCloser: body, cancel: cancel, stall: stall}
	w.timer = time.AfterFunc(time.Hour, func() {
		w.stalled.Store(true)
		cancel()
	})
	w.timer.Stop()
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	begun := time.Now()
	w.timer.Reset(w.stall - w.idle)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop()
	if w.bytes += n; w.bytes >= enough {
		w.bytes, w.idle = 0, 0
	} else if w.idle += time.Since(begun); w.idle >= w.stall {
		w.stalled.Store(true)
	}
	if w.stalled.Load() && err != io.EOF {
		err = errStalled
	}
	return n, err
}

// Close ends the request. A connection whose answer was read to its end is used again.
func (w *watched) Close() error {
	w.timer.Stop()
	err := w.ReadCloser.Close()
	w.cancel()
	return err
}
