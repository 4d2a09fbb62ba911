package registry

import (
	"strings"
	"testing"
)

const hex64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	const digest = "sha256:" + hex64
	for _, c := range []struct {
		in       string
		whole    string // Reference.String
		tag, ask string
		recipe   bool
	}{
		{"docker://debian", "docker://docker.io/library/debian:latest", "latest", "latest", false},
		{"docker://debian:12", "docker://docker.io/library/debian:12", "12", "12", false},
		{"docker://lab/x", "docker://docker.io/lab/x:latest", "latest", "latest", false},
		{"docker://docker.io/library/debian:12", "docker://docker.io/library/debian:12", "12", "12", false},
		{"docker://index.docker.io/debian:12", "docker://docker.io/library/debian:12", "12", "12", false},
		{"docker://localhost/x", "docker://localhost/x:latest", "latest", "latest", false},
		{"docker://localhost:5000/x", "docker://localhost:5000/x:latest", "latest", "latest", false},
		{"docker://127.0.0.1:5000/a/b__c/d-e.f:T_1", "docker://127.0.0.1:5000/a/b__c/d-e.f:T_1", "T_1", "T_1", false},
		{"docker://[::1]:5000/a", "docker://[::1]:5000/a:latest", "latest", "latest", false},
		{"docker://quay.io/a/b@" + digest, "docker://quay.io/a/b@" + digest, "", digest, false},
		{"docker://quay.io/a/b:1@" + digest, "docker://quay.io/a/b@" + digest, "1", digest, false},
		{"docker://quay.io/a/b;digest=" + digest + ";tag=1", "docker://quay.io/a/b@" + digest, "1", digest, true},
		{"docker://quay.io/a/b;tag=1", "docker://quay.io/a/b:1", "1", "1", true},
		{"docker://quay.io/a/b:1;tag=1", "docker://quay.io/a/b:1", "1", "1", true},
		{"docker://quay.io/a/b@" + digest + ";digest=" + digest, "docker://quay.io/a/b@" + digest, "", digest, true},
	} {
		r, err := Parse(c.in)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := r.String(); got != c.whole {
			t.Errorf("%s: %s, want %s", c.in, got, c.whole)
		}
		if r.Tag != c.tag || r.Name().Identifier() != c.ask || r.Recipe != c.recipe {
			t.Errorf("%s: tag %q, asks for %q, recipe %t", c.in, r.Tag, r.Name().Identifier(), r.Recipe)
		}
		if again, err := Parse(r.String()); err != nil || again.String() != c.whole {
			t.Errorf("%s: parsed again: %v, %v", c.in, again, err)
		}
		if r.Pinned() && r.Tag != "" {
			want := strings.SplitN(c.whole, "@", 2)[0] + ";digest=" + digest + ";tag=" + r.Tag
			if got := r.PinTo(r.Digest); got != want {
				t.Errorf("%s: pin %s, want %s", c.in, got, want)
			}
		}
	}
}

func TestParseRefused(t *testing.T) {
	for in, words := range map[string]string{
		"debian":                  "begins with docker://",
		"docker://":               "not a name",
		"docker:///x":             "not a name",
		"docker://x:":             "not a tag",
		"docker://x:a b":          "not a tag",
		"docker://x:-1":           "not a tag",
		"docker://../x":           "not a host",
		"docker://h.io/../x":      "not a name",
		"docker://h.io/a/./b":     "not a name",
		"docker://h.io//x":        "not a name",
		"docker://h.io/x/":        "not a name",
		"docker://h.io/a?b":       "not a name",
		"docker://me:pw@h.io/x":   "digest",
		"docker://h.io#f/x":       "not a",
		"docker://Debian":         "lower case",
		"docker://x@sha256:short": "digest",
		"docker://x@sha256:" + strings.ToUpper(hex64): "digest",
		"docker://x@sha256:../../../etc":              "digest",
		"docker://x@sha512:" + hex64 + hex64:          "digest",
		"docker://x@md5:0":                            "digest",
		"docker://x;digest=":                          "digest",
		"docker://x;tag=":                             "not a tag",
		"docker://x;;pin":                             "unknown parameter",
		"docker://x;unpack=0":                         "unknown parameter",
		"docker://x:1;tag=2":                          "two tags",
		"docker://x@sha256:" + hex64 + ";digest=sha256:" + strings.Repeat("0", 64): "two digests",
	} {
		if r, err := Parse(in); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %+v, %v; want an error with %q", in, r, err, words)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("docker://localhost:5000/a/b:1@sha256:" + hex64 + ";tag=1")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		if strings.Contains(r.Repository.RepositoryStr(), "..") || strings.ContainsAny(r.Name().Name(), "?#% \\\n") {
			t.Errorf("%q leads to %q", s, r.Name().Name())
		}
		if again, err := Parse(r.String()); err != nil || again.String() != r.String() {
			t.Errorf("%q: %q, parsed again %v, %v", s, r, again, err)
		}
	})
}
