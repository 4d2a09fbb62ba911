package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// token is what a token server gave for one scope.
type token struct {
	mu     sync.Mutex // held while one is fetched, so that layers side by side fetch one
	header string
	until  time.Time // when it is not used any more
}

// authorization is the header to begin with: none, until the registry has asked for one.
func (h *host) authorization(scope string) string {
	h.mu.Lock()
	t, basic := h.tokens[scope], h.basic
	h.mu.Unlock()
	if basic != "" || t == nil {
		return basic
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Now().After(t.until) {
		return ""
	}
	return t.header
}

func (h *host) token(scope string) *token {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens[scope] == nil {
		h.tokens[scope] = &token{}
	}
	return h.tokens[scope]
}

// challenge is one demand of a WWW-Authenticate header.
type challenge struct {
	scheme string // in lower case
	params map[string]string
}

// challenges reads the demands that are understood, basic and bearer.
func challenges(h http.Header) []challenge {
	var list []challenge
	for _, line := range h.Values("WWW-Authenticate") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		scheme = strings.ToLower(scheme)
		if scheme == "basic" || scheme == "bearer" {
			list = append(list, challenge{scheme, parameters(rest)})
		}
	}
	return list
}

// parameters reads key="value" pairs separated by commas; values may hold commas, and need no quotes otherwise.
func parameters(s string) map[string]string {
	params := map[string]string{}
	for s != "" {
		key, rest, ok := strings.Cut(strings.TrimLeft(s, " ,\t"), "=")
		if !ok {
			break
		}
		var value string
		if quoted, isQuoted := strings.CutPrefix(rest, `"`); isQuoted {
			var b strings.Builder
			i := 0
			for ; i < len(quoted) && quoted[i] != '"'; i++ {
				if quoted[i] == '\\' && i+1 < len(quoted) {
					i++
				}
				b.WriteByte(quoted[i])
			}
			value, rest = b.String(), quoted[min(i+1, len(quoted)):]
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		params[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		s = rest
	}
	return params
}

// authorize gets the header that answers a demand of the registry, other than the one that was refused; empty where
// there is none.
func (c *Client) authorize(ctx context.Context, b *budget, p place, demands []challenge, refused string) (string, error) {
	creds, err := c.credentials(ctx, p.host.name+"/"+p.repo)
	if err != nil {
		return "", permanent{err}
	}
	for _, d := range demands {
		switch {
		case d.scheme == "bearer" && creds.registryToken != "":
			if header := "Bearer " + creds.registryToken; header != refused {
				return header, nil
			}
		case d.scheme == "bearer":
			return c.exchange(ctx, b, p, d, creds, refused)
		case creds.username != "":
			header := creds.basic()
			if header == refused {
				continue
			}
			p.host.mu.Lock()
			p.host.basic = header
			p.host.mu.Unlock()
			return header, nil
		}
	}
	return "", nil
}

// exchange gets a token from the server that the registry names, unless another request has just done so.
func (c *Client) exchange(ctx context.Context, b *budget, p place, d challenge, creds credentials, refused string) (string, error) {
	realm, err := url.Parse(d.params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" {
		return "", permanent{fmt.Errorf("%s names %q as its token server, which is no URL", p.host.name, oneLine(d.params["realm"]))}
	}
	if realm.Scheme == "http" && !c.plain(realm.Host) {
		return "", permanent{fmt.Errorf("%s names a token server that speaks plain http, %s: refused", p.host.name, showURL(realm))}
	}
	realm.User, realm.Fragment = nil, ""
	t := p.host.token(p.scope())
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.header != "" && t.header != refused && time.Now().Before(t.until) {
		return t.header, nil
	}
	// What is asked for is what is needed, whatever the demand says: it may ask for more.
	form := url.Values{"scope": {p.scope()}}
	if service := d.params["service"]; service != "" {
		form.Set("service", service)
	}
	body, err := c.askToken(ctx, b, realm, form, creds)
	if err != nil {
		return "", err
	}
	var said struct {
		Token       string    `json:"token"`
		AccessToken string    `json:"access_token"`
		ExpiresIn   int       `json:"expires_in"`
		IssuedAt    time.Time `json:"issued_at"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		// Its text may hold the token.
		return "", permanent{fmt.Errorf("%s: its answer is no token", showURL(realm))}
	}
	secret := said.Token
	if secret == "" {
		secret = said.AccessToken
	}
	if secret == "" || strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", permanent{fmt.Errorf("%s: its answer holds no token", showURL(realm))}
	}
	// The specification's default is 60 s. The clock of the server does not matter, only how long the token lives.
	life := 60 * time.Second
	if said.ExpiresIn > 0 {
		life = time.Duration(min(said.ExpiresIn, 1<<20)) * time.Second
	}
	t.header, t.until = "Bearer "+secret, time.Now().Add(life-life/10)
	return t.header, nil
}

// askToken puts the question to the token server: OAuth2 with a refresh token, else the older GET.
func (c *Client) askToken(ctx context.Context, b *budget, realm *url.URL, form url.Values, creds credentials) ([]byte, error) {
	if creds.identityToken != "" {
		oauth := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {creds.identityToken}, "client_id": {"dlrun"},
			"scope": form["scope"], "service": form["service"]}
		body, err := c.readToken(ctx, b, realm, request{method: http.MethodPost, form: oauth.Encode()}, creds)
		var status *StatusError
		if !errors.As(err, &status) || status.Status != http.StatusNotFound && status.Status != http.StatusMethodNotAllowed {
			return body, err
		}
		// A server without OAuth2.
	}
	u := *realm
	query := u.Query()
	for key, values := range form {
		query[key] = values
	}
	r := request{method: http.MethodGet}
	if creds.username != "" {
		r.authorization = creds.basic()
		query.Set("account", creds.username)
	}
	u.RawQuery = query.Encode()
	return c.readToken(ctx, b, &u, r, creds)
}

// readToken tries until there is an answer. No error of it is worth another round with the registry.
func (c *Client) readToken(ctx context.Context, b *budget, u *url.URL, r request, creds credentials) ([]byte, error) {
	for {
		body, err := c.readTokenOnce(ctx, u, r, creds)
		if err == nil {
			return body, nil
		}
		var wait time.Duration
		var failure *passingError
		if errors.As(err, &failure) {
			wait, err = failure.wait, failure.StatusError
		}
		if err := b.again(ctx, err, wait); err != nil {
			return nil, permanent{err}
		}
	}
}

// passingError is a failure that may be gone after a while.
type passingError struct {
	*StatusError
	wait time.Duration
}

func (c *Client) readTokenOnce(ctx context.Context, u *url.URL, r request, creds credentials) ([]byte, error) {
	a, err := c.follow(ctx, u, r)
	if err != nil {
		return nil, err
	}
	switch {
	case a.status == http.StatusOK:
	case passing(a.status):
		wait, told := retryAfter(a.header, time.Now())
		failure := newStatusError(a)
		if told && wait > c.opt.Wait {
			failure.Wait = wait.Round(time.Second)
			return nil, permanent{failure}
		}
		return nil, &passingError{failure, wait}
	default:
		failure := newStatusError(a)
		if creds.from != "" {
			failure.Detail = strings.TrimPrefix(failure.Detail+"; the name and password are those of "+creds.from, "; ")
		}
		return nil, permanent{failure}
	}
	defer a.body.Close()
	if isHTML(a.header.Get("Content-Type")) {
		return nil, permanent{errPortal(a.url)}
	}
	body, err := io.ReadAll(io.LimitReader(a.body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", showURL(a.url), err)
	case len(body) > maxAnswer:
		return nil, permanent{fmt.Errorf("%s: its token has more than %d bytes", showURL(a.url), maxAnswer)}
	}
	return body, nil
}
