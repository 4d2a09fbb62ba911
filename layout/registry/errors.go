package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// ErrAbsent is what errors wrap that say: the registry itself answered that
// it does not have this. All other errors leave that open.
var ErrAbsent = errors.New("the registry does not have it")

// StatusError is an answer other than the one asked for.
type StatusError struct {
	Method string
	URL    string        // without its query, which may hold secrets
	Status int           // of HTTP
	Detail string        // what the other side says of it, or empty
	Wait   time.Duration // the pause that it asks for, where that is too long

	absent bool
	hint   string
}

func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, http.StatusText(e.Status))
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Wait > 0 {
		s += fmt.Sprintf("; it asks to wait %v, which is too long", e.Wait)
	}
	return s
}

// Hint is what to type next, or empty.
func (e *StatusError) Hint() string { return e.hint }

// Is makes a StatusError wrap ErrAbsent where the registry said so.
func (e *StatusError) Is(target error) bool { return target == ErrAbsent && e.absent }

// newStatusError reads what the answer says of itself, and closes it.
func newStatusError(a *answer) *StatusError {
	defer a.body.Close()
	e := &StatusError{Method: a.method, URL: showURL(a.url), Status: a.status}
	kind := a.header.Get("Content-Type")
	// Only the registry's own word counts: a login page or a file server behind a redirect knows nothing.
	e.absent = a.status == http.StatusNotFound && !a.elsewhere && !isHTML(kind)
	switch a.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		if !a.elsewhere {
			e.hint = "podman login " + a.url.Host + " (or docker login), if it needs a name"
		}
	case http.StatusTooManyRequests:
		e.hint = "wait; a name (podman login " + a.url.Host + ") often raises the limit"
	case http.StatusProxyAuthRequired:
		e.hint = "the proxy wants a name: https_proxy=http://NAME:PASSWORD@PROXY:PORT"
	}
	if isHTML(kind) {
		e.Detail = "a web page"
		return e
	}
	raw, err := io.ReadAll(io.LimitReader(a.body, maxAnswer))
	if err != nil && len(raw) == 0 {
		return e
	}
	var said struct {
		Errors []struct{ Code, Message string }
		// Token servers and proxies.
		Details, Message, Error string
	}
	if json.Unmarshal(raw, &said) != nil {
		return e
	}
	var parts []string
	for _, s := range said.Errors {
		parts = append(parts, strings.Trim(s.Code+": "+s.Message, ": "))
	}
	for _, s := range []string{said.Error, said.Details, said.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	e.Detail = oneLine(strings.Join(parts, "; "))
	return e
}

// oneLine makes what a stranger says fit for a message.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// showURL leaves out what may be a secret: the query of a signed URL, and a name in front of the host.
func showURL(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return oneLine(shown.String())
}

func isHTML(contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// errPortal is an answer that no registry gives.
func errPortal(u *url.URL) error {
	return &hinted{
		fmt.Errorf("%s answers with a web page where an image was asked for", showURL(u)),
		"a network that wants a log-in first, or a proxy, may answer in the registry's place: look at it in a browser",
	}
}

// permanent is an error that another try does not mend.
type permanent struct{ error }

func (e permanent) Unwrap() error { return e.error }

// hinted is an error with something to type.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// Hint is what to type next.
func (e *hinted) Hint() string { return e.hint }
