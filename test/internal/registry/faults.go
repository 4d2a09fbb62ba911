package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Fault is one way to go wrong, and what is to come of it.
type Fault struct {
	Name  string
	Token bool   // the registry wants a token
	Want  string // in the error; empty: the image is saved all the same, and right
	Most  int    // requests of the kind that the fault is about; 0: 60 of all

	serve func(*call) bool // answers a request, or leaves it to be answered rightly
	other func(*call) bool // the same at the other server
	image func(*Faulty)    // changes what the registry has
}

// on answers the requests of one kind.
func on(kind string, answer func(*call)) func(*call) bool {
	return func(c *call) bool {
		if c.kind != kind {
			return false
		}
		answer(c)
		return true
	}
}

// first answers the first n requests of one kind.
func first(n int, kind string, answer func(*call)) func(*call) bool {
	return func(c *call) bool {
		if c.kind != kind || c.n > n {
			return false
		}
		answer(c)
		return true
	}
}

func status(code int, header ...string) func(*call) {
	return func(c *call) {
		for i := 0; i+1 < len(header); i += 2 {
			c.w.Header().Set(header[i], header[i+1])
		}
		c.refuse(code, "TROUBLE")
	}
}

func page(c *call) {
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(c.w, "<!DOCTYPE html><title>Welcome to the hotel</title>")
}

// says sends the right content under a header.
func says(header ...string) func(*call) {
	return func(c *call) {
		for i := 0; i+1 < len(header); i += 2 {
			c.w.Header().Set(header[i], header[i+1])
		}
		c.w.Write(c.content())
	}
}

func send(text string) func(*call) {
	return func(c *call) { fmt.Fprint(c.w, text) }
}

func truncated(c *call)    { c.cut(len(c.content())/2, false) }
func reset(c *call)        { c.cut(len(c.content())/2, true) }
func stalled(c *call)      { c.w.Write(c.content()[:100]); c.halt() }
func silent(c *call)       { c.wait() }
func endlessZeros(c *call) { c.endless(make([]byte, 64<<10)) }

// partial answers every request with a range by 206 and a header of its own, after a first answer that was cut.
func partial(contentRange string) func(*call) bool {
	return func(c *call) bool {
		if c.kind != "big" {
			return false
		}
		if c.r.Header.Get("Range") == "" {
			c.cut(1000, false)
			return true
		}
		if contentRange != "" {
			c.w.Header().Set("Content-Range", contentRange)
		}
		c.w.WriteHeader(http.StatusPartialContent)
		c.w.Write(c.content()[1000:])
		return true
	}
}

func toOther(path string) func(*call) {
	return func(c *call) { c.redirect("http://" + path + c.Other + c.r.URL.Path + "?signed=yes") }
}

// Faults are what a client has to survive.
var Faults = []Fault{
	{Name: "none"},

	{Name: "manifest absent", serve: on("manifest", status(404)), Want: "404 Not Found", Most: 1},
	{Name: "manifest truncated", serve: on("manifest", truncated), Want: "(5 tries)", Most: 5},
	{Name: "manifest truncated once", serve: first(1, "manifest", truncated)},
	{Name: "manifest reset once", serve: first(1, "manifest", reset)},
	{Name: "manifest stalled", serve: on("manifest", stalled), Want: "came to a halt", Most: 5},
	{Name: "manifest stalled once", serve: first(1, "manifest", stalled)},
	{Name: "no answer", serve: on("manifest", silent), Want: "timeout awaiting response headers", Most: 5},
	{Name: "no answer once", serve: first(1, "manifest", silent)},
	{Name: "manifest endless", serve: on("manifest", endlessZeros), Want: "more than 4194304 bytes", Most: 1},
	{Name: "manifest too long", serve: on("manifest", func(c *call) {
		c.w.Header().Set("Content-Length", "1099511627776")
		c.w.WriteHeader(200)
		c.drop(false)
	}), Want: "at most 4194304", Most: 1},
	{Name: "digest of another manifest", serve: on("manifest", func(c *call) {
		c.w.Header().Set("Docker-Content-Digest", digestOf(nil))
		c.w.Write(c.content())
	}), Want: "its content has the digest", Most: 1},
	{Name: "manifest is a web page", serve: on("manifest", page), Want: "a web page where an image was asked for", Most: 1},
	{Name: "manifest encoded", serve: on("manifest", says("Content-Encoding", "gzip")), Want: "encoded (gzip), which was not asked for", Most: 1},
	{Name: "manifest said to be an index", serve: on("manifest", says("Content-Type", "application/vnd.oci.image.index.v1+json")), Want: "its media type is"},
	{Name: "manifest of no type", serve: on("manifest", says("Content-Type", "application/octet-stream"))},
	{Name: "manifest of version 1", serve: on("manifest", send(`{"schemaVersion":1,"fsLayers":[]}`)), Want: "schemaVersion is 1"},
	{Name: "manifest is no JSON", serve: on("manifest", send("no")), Want: "invalid character"},
	{Name: "manifest is both", image: edit(`"layers":`, `"manifests":[],"layers":`), Want: "of an index and of a manifest"},
	{Name: "manifest of endless indexes", image: laughs, Want: "nested deeper than"},
	{Name: "manifest of many layers", image: manyLayers, Want: "diff_ids"},
	{Name: "digest with a path", image: func(f *Faulty) { edit(f.image.big, "sha256:../../../../etc/passwd")(f) }, Want: "non-hex"},
	{Name: "digest of another kind", image: func(f *Faulty) { edit(f.image.big, "sha512:"+strings.Repeat("0", 128))(f) }, Want: "only sha256"},
	{Name: "size negative", image: edit(fmt.Sprint(bigSize), "-1"), Want: "negative"},
	{Name: "size without bounds", image: edit(fmt.Sprint(bigSize), "1152921504606846976"), Want: "the disk has room for"},
	{Name: "sizes beyond numbers", image: func(f *Faulty) {
		edit(fmt.Sprint(bigSize), "9223372036854775807")(f)
		edit(`"size":1000,`, `"size":9223372036854775807,`)(f)
	}, Want: "add up to more"},
	{Name: "size too small", image: edit(fmt.Sprint(bigSize), "1000"), Want: "it sends 300000 bytes, there should be 1000"},
	{Name: "config of another content", serve: on("config", func(c *call) { c.w.Write(bytes.ToUpper(c.content())) }), Want: "its content has the digest"},
	{Name: "config without bounds", image: func(f *Faulty) { edit(fmt.Sprint(len(f.image.blobs[f.image.config])), "1099511627776")(f) }, Want: "at most 4194304"},
	{Name: "config endless", serve: on("config", endlessZeros), Want: "its content has the digest"},
	{Name: "foreign layer", image: func(f *Faulty) {
		delete(f.image.blobs, f.image.big)
		edit(fmt.Sprintf(`%q`, f.image.big), fmt.Sprintf(`%q,"urls":["http://%s/v2/lab/image/blobs/%s"]`, f.image.big, f.Other, f.image.big))(f)
	}, other: func(c *call) bool { c.Leaks.Add(1); return false }, Want: "foreign layer"},

	{Name: "layer truncated", serve: on("big", func(c *call) { c.r.Header.Del("Range"); c.cut(1000, false) }), Want: "cut off", Most: 5},
	{Name: "layer cut again and again", serve: on("big", func(c *call) { c.cut(70_000, false) }), Most: 5},
	{Name: "layer reset again and again", serve: on("big", func(c *call) { c.cut(70_000, true) }), Most: 20},
	{Name: "layer cut, no ranges", serve: on("big", func(c *call) {
		c.r.Header.Del("Range")
		if c.n == 1 {
			c.cut(1000, false)
		} else {
			c.w.Write(c.content())
		}
	}), Most: 2},
	{Name: "layer of small pieces", serve: on("big", func(c *call) { c.cut(10, false) }), Want: "cut off", Most: 5},
	{Name: "range starts elsewhere", serve: partial("bytes 0-299999/300000"), Want: "asked for was byte 1000", Most: 2},
	{Name: "range of another size", serve: partial("bytes 1000-399999/400000"), Want: "asked for was byte 1000", Most: 2},
	{Name: "range without a header", serve: partial(""), Want: "asked for was byte 1000", Most: 2},
	{Name: "range garbled", serve: partial("bytes 1000-"), Want: "asked for was byte 1000", Most: 2},
	{Name: "range refused", serve: on("big", func(c *call) {
		if c.r.Header.Get("Range") == "" {
			c.cut(1000, false)
		} else {
			c.refuse(http.StatusRequestedRangeNotSatisfiable, "")
		}
	}), Want: "it has no byte 1000", Most: 2},
	{Name: "layer stalled once", serve: first(1, "big", stalled)},
	{Name: "layer stalled", serve: on("big", func(c *call) { c.r.Header.Del("Range"); stalled(c) }), Want: "halt", Most: 5},
	{Name: "layer drips", serve: on("big", func(c *call) {
		for _, b := range c.content() {
			if _, err := c.w.Write([]byte{b}); err != nil {
				return
			}
			http.NewResponseController(c.w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}), Want: "came to a halt", Most: 5},
	{Name: "layer with an endless tail", serve: on("big", func(c *call) { c.w.Write(c.content()); endlessZeros(c) }), Most: 1},
	{Name: "layer endless", serve: on("big", endlessZeros), Want: "the content has the digest", Most: 1},
	{Name: "layer longer than it says", serve: on("big", func(c *call) { c.w.Write(append(c.content(), "more"...)) }), Most: 1},
	{Name: "layer longer", serve: on("big", func(c *call) {
		c.w.Header().Set("Content-Length", "300004")
		c.w.Write(append(c.content(), "more"...))
	}), Want: "it sends 300004 bytes", Most: 1},
	{Name: "layer shorter", serve: on("big", func(c *call) {
		c.w.Header().Set("Content-Length", "299990")
		c.w.Write(c.content()[:299990])
	}), Want: "it sends 299990 bytes", Most: 1},
	{Name: "layer empty", serve: on("big", func(c *call) {}), Want: "it sends 0 bytes", Most: 1},
	{Name: "layer of other bytes", serve: on("big", func(c *call) { b := c.content(); b[len(b)-1] ^= 1; c.w.Write(b) }), Want: "the content has the digest", Most: 1},
	{Name: "layer is a web page", serve: on("big", page), Want: "a web page", Most: 1},
	{Name: "layer encoded", serve: on("big", says("Content-Encoding", "gzip")), Want: "encoded (gzip)", Most: 1},
	{Name: "layer of a wrong type", serve: on("big", says("Content-Type", "text/html", "Content-Length", fmt.Sprint(bigSize)))},
	{Name: "layer absent", serve: on("big", status(404)), Want: "404 Not Found: TROUBLE", Most: 1},
	{Name: "layer forbidden", serve: on("big", status(403)), Want: "403 Forbidden: TROUBLE", Most: 1},
	{Name: "layer without content", serve: on("big", func(c *call) { c.w.WriteHeader(204) }), Want: "204 No Content", Most: 1},
	{Name: "a teapot", serve: on("big", status(418)), Want: "418", Most: 1},

	{Name: "500 three times", serve: first(3, "big", status(500))},
	{Name: "502, 503, 504", serve: func(c *call) bool {
		if c.kind != "big" || c.n > 3 {
			return false
		}
		c.refuse(501+c.n, "TROUBLE")
		return true
	}},
	{Name: "520 once", serve: first(1, "big", status(520))},
	{Name: "408 once", serve: first(1, "big", status(408))},
	{Name: "503", serve: on("big", status(503)), Want: "503 Service Unavailable: TROUBLE: no (5 tries)", Most: 5},
	{Name: "429 without a word", serve: first(2, "big", status(429))},
	{Name: "429 for a second", serve: first(1, "big", status(429, "Retry-After", "1"))},
	{Name: "429 to a date", serve: first(1, "big", func(c *call) {
		status(429, "Retry-After", time.Now().Add(time.Second).UTC().Format(http.TimeFormat))(c)
	})},
	{Name: "429 to a date gone by", serve: first(1, "big", status(429, "Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT"))},
	{Name: "429 for a nonsense", serve: first(1, "big", status(429, "Retry-After", "-5 minutes"))},
	{Name: "429 for an hour", serve: on("big", status(429, "Retry-After", "3600")), Want: "asks to wait 1h0m0s", Most: 1},
	{Name: "429 for ever", serve: on("manifest", status(429, "Retry-After", "99999999999999")), Want: "which is too long", Most: 1},
	{Name: "429 to a date far away", serve: on("big", status(429, "Retry-After", "Fri, 31 Dec 2100 00:00:00 GMT")), Want: "which is too long", Most: 1},

	{Name: "redirects in a circle", serve: on("big", func(c *call) { c.redirect(c.r.URL.Path) }), Want: "more than 10 redirects", Most: 11},
	{Name: "redirect to a file", serve: on("big", func(c *call) { c.redirect("file:///etc/passwd") }), Want: "only http and https", Most: 1},
	{Name: "redirect to another protocol", serve: on("big", func(c *call) { c.redirect("gopher://" + c.Other + "/") }), Want: "only http and https", Most: 1},
	{Name: "redirect to nowhere", serve: on("big", func(c *call) { c.redirect("") }), Want: "which is no URL", Most: 1},
	{Name: "redirect to nonsense", serve: on("big", func(c *call) { c.redirect("http://[::1") }), Want: "which is no URL", Most: 1},
	{Name: "redirect to plain http abroad", serve: on("big", func(c *call) { c.redirect("http://registry.invalid/x") }), Want: "plain http at registry.invalid", Most: 1},
	{Name: "redirect to another host", Token: true, serve: on("big", toOther(""))},
	{Name: "redirect of the manifest", Token: true, serve: on("manifest", toOther(""))},
	{Name: "redirect with a name and password", Token: true, serve: on("big", toOther(Username+":x@"))},
	{Name: "redirect there and back", Token: true, serve: on("big", toOther("")), other: func(c *call) bool {
		c.redirect("http://" + c.Addr + c.r.URL.Path)
		return true
	}, Want: "401"},
	{Name: "redirect to a host that wants a token", Token: true, serve: on("big", toOther("")), other: func(c *call) bool {
		if c.kind == "token" {
			return false
		}
		c.demand(fmt.Sprintf(`Bearer realm="http://%s/token",service="s",scope="repository:lab/image:pull"`, c.Other))
		return true
	}, Want: "401 Unauthorized"},
	{Name: "redirect to a host that has it not", Token: true, serve: on("big", toOther("")), other: func(c *call) bool { c.refuse(404, "GONE"); return true }, Want: "404 Not Found"},
	{Name: "header without end", serve: on("big", func(c *call) {
		c.w.Header().Set("X-Much", strings.Repeat("x", 10<<20))
		c.w.Write(c.content())
	}), Want: "exceeded"},
	{Name: "not HTTP", serve: on("big", func(c *call) {
		if conn, _, err := http.NewResponseController(c.w).Hijack(); err == nil {
			fmt.Fprint(conn, "SSH-2.0-OpenSSH_9.2p1\r\n")
			conn.Close()
		}
	}), Want: "malformed HTTP"},

	{Name: "token", Token: true},
	{Name: "token refused", Token: true, serve: first(1, "manifest", func(c *call) { c.demand(`Bearer realm="http://` + c.Addr + `/token"`) })},
	{Name: "401 for ever", Token: true, serve: on("big", func(c *call) { c.demand(`Bearer realm="http://` + c.Addr + `/token"`) }), Want: "401 Unauthorized", Most: 3},
	{Name: "401 without a demand", serve: on("manifest", status(401)), Want: "401 Unauthorized", Most: 1},
	{Name: "401 with another demand", serve: on("manifest", func(c *call) { c.demand("Negotiate") }), Want: "401 Unauthorized", Most: 1},
	{Name: "token expires at each use", Token: true, serve: func(c *call) bool {
		if c.kind == "manifest" || c.kind == "config" {
			c.sound()
			c.mu.Lock()
			c.token += 1000
			c.mu.Unlock()
			return true
		}
		return false
	}},
	{Name: "token too long", Token: true, serve: on("token", func(c *call) { fmt.Fprintf(c.w, `{"token":%q}`, strings.Repeat("x", 2<<20)) }), Want: "more than 1048576 bytes"},
	{Name: "token endless", Token: true, serve: on("token", endlessZeros), Want: "more than 1048576 bytes"},
	{Name: "token is a web page", Token: true, serve: on("token", page), Want: "a web page"},
	{Name: "token is no JSON", Token: true, serve: on("token", send("no")), Want: "no token"},
	{Name: "token empty", Token: true, serve: on("token", send("{}")), Want: "holds no token"},
	{Name: "token with a line end", Token: true, serve: on("token", send(`{"token":"x\r\nX-More: y"}`)), Want: "holds no token"},
	{Name: "token stalled", Token: true, serve: on("token", silent), Want: "timeout awaiting response headers", Most: 5},
	{Name: "token server fails twice", Token: true, serve: first(2, "token", status(500))},
	{Name: "token server wants time", Token: true, serve: on("token", status(429, "Retry-After", "7200")), Want: "asks to wait 2h0m0s"},
	{Name: "token server refuses", Token: true, serve: on("token", status(403)), Want: "403 Forbidden"},
	{Name: "token from another host", Token: true, serve: on("token", toOther(""))},
	{Name: "token server is a file", serve: on("manifest", func(c *call) { c.demand(`Bearer realm="file:///etc/passwd"`) }), Want: "no URL"},
	{Name: "token server is not named", serve: on("manifest", func(c *call) { c.demand(`Bearer service="x"`) }), Want: "no URL"},
	{Name: "token server speaks plain http abroad", serve: on("manifest", func(c *call) { c.demand(`Bearer realm="http://auth.invalid/token"`) }), Want: "plain http"},
	{Name: "password itself", serve: func(c *call) bool {
		user, password, _ := c.r.BasicAuth()
		if user == Username && password == Password || c.kind == "ping" {
			return false
		}
		c.demand(`Basic realm="lab"`)
		return true
	}},
	{Name: "password refused", serve: on("manifest", func(c *call) { c.demand(`Basic realm="lab"`) }), Want: "401 Unauthorized", Most: 2},
}

// laughs makes the tag name an index of an index and so on, each twice.
func laughs(f *Faulty) {
	const kind = "application/vnd.oci.image.index.v1+json"
	for range 32 {
		below := f.image.top
		mediaType := kind
		if len(f.image.docs) == 1 {
			mediaType = string(f.image.mediaType)
		}
		entry := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digestOf(below), len(below))
		f.image.setTop(fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s,%s]}`, kind, entry, entry))
	}
}

// manyLayers fills a manifest to the brim.
func manyLayers(f *Faulty) {
	var m map[string]any
	json.Unmarshal(f.image.top, &m)
	layers := m["layers"].([]any)
	for len(layers) < 20_000 {
		layers = append(layers, layers[0])
	}
	m["layers"] = layers
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	f.image.setTop(raw)
}
