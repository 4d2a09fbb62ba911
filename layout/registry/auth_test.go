package registry

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParameters(t *testing.T) {
	for in, want := range map[string]map[string]string{
		`realm="https://a/t",service="s",scope="repository:x:pull,push"`: {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"},
		`realm=https://a/t, Service = s`:                                 {"realm": "https://a/t", "service": "s"},
		`realm="a\"b\\c"`:                                                {"realm": `a"b\c`},
		`realm="never ends`:                                              {"realm": "never ends"},
		`realm="ends in \`:                                               {"realm": `ends in \`},
		``:                                                               {},
		`,,=`:                                                            {"": ""},
		`just words`:                                                     {},
	} {
		if diff := cmp.Diff(want, parameters(in)); diff != "" {
			t.Errorf("%s:\n%s", in, diff)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "Fri, 20 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Fri, 20 Nov 2026 11:00:00 GMT": 0, "": -1, "-1": -1, "soon": -1, "9999999999": (1 << 32) * time.Second,
	} {
		got, told := retryAfter(http.Header{"Retry-After": {in}}, now)
		if !told {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1": true, "127.1.2.3:80": true, "[::1]:5000": true, "[::1]": true,
		"10.0.0.1:5000": false, "192.168.1.1": false, "registry.local": false, "localhost.example.org": false, "127.0.0.1.example.org": false, "": false,
	} {
		if got := isLoopback(address); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}

// scene is an environment with files of credentials.
func scene(t *testing.T, files map[string]string) {
	t.Helper()
	home := t.TempDir()
	for _, v := range []string{"REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", home)
	for name, text := range files {
		variable, path, isVariable := strings.Cut(name, "=")
		if isVariable {
			t.Setenv(variable, filepath.Join(home, path))
			continue
		}
		file := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Join(home, "bin")+":"+os.Getenv("PATH"))
}

func login(key, user string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, key, base64.StdEncoding.EncodeToString([]byte(user+":pw")))
}

func TestFindCredentials(t *testing.T) {
	const helper = "#!/bin/sh\nread s; case $s in lab.io) echo '{\"Username\":\"helped\",\"Secret\":\"pw\"}';; tok.io) echo '{\"Username\":\"<token>\",\"Secret\":\"pw\"}';; " +
		"*) echo 'credentials not found in native keychain'; exit 1;; esac\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		repo  string
		want  string // the user, or what the error holds after "!"
	}{
		{"nothing", nil, "lab.io/x", ""},
		{"docker", map[string]string{".docker/config.json": login("lab.io", "d")}, "lab.io/x", "d"},
		{"another registry", map[string]string{".docker/config.json": login("lab.io", "d")}, "lab.io:5000/x", ""},
		{"a longer name", map[string]string{".docker/config.json": login("lab.io", "d")}, "evil.lab.io/x", ""},
		{"an URL", map[string]string{".docker/config.json": login("https://lab.io/v2/", "d")}, "lab.io/x", "d"},
		{"Docker Hub by docker", map[string]string{".docker/config.json": login("https://index.docker.io/v1/", "d")}, "docker.io/library/x", "d"},
		{"Docker Hub by podman", map[string]string{".config/containers/auth.json": login("docker.io", "p")}, "docker.io/library/x", "p"},
		{"podman, a path", map[string]string{".config/containers/auth.json": login("lab.io/org", "p")}, "lab.io/org/x", "p"},
		{"podman, another path", map[string]string{".config/containers/auth.json": login("lab.io/org", "p")}, "lab.io/organ/x", ""},
		{"podman before docker", map[string]string{".config/containers/auth.json": login("lab.io", "p"), ".docker/config.json": login("lab.io", "d")}, "lab.io/x", "p"},
		{"docker where podman has none", map[string]string{".config/containers/auth.json": login("quay.io", "p"), ".docker/config.json": login("lab.io", "d")}, "lab.io/x", "d"},
		{"XDG_RUNTIME_DIR", map[string]string{"XDG_RUNTIME_DIR=run": "", "run/containers/auth.json": login("lab.io", "r"), ".config/containers/auth.json": login("lab.io", "p")}, "lab.io/x", "r"},
		{"DOCKER_CONFIG", map[string]string{"DOCKER_CONFIG=dc": "", "dc/config.json": login("lab.io", "dc"), ".docker/config.json": login("lab.io", "d")}, "lab.io/x", "dc"},
		{"REGISTRY_AUTH_FILE", map[string]string{"REGISTRY_AUTH_FILE=a.json": "", "a.json": login("lab.io", "a"), ".docker/config.json": login("lab.io", "d")}, "lab.io/x", "a"},
		{"REGISTRY_AUTH_FILE alone", map[string]string{"REGISTRY_AUTH_FILE=a.json": "", "a.json": login("quay.io", "a"), ".docker/config.json": login("lab.io", "d")}, "lab.io/x", ""},
		{"empty file", map[string]string{".docker/config.json": "  "}, "lab.io/x", ""},
		{"broken file", map[string]string{".docker/config.json": `{"auths":{"lab.io":{"auth":"c2VjcmV0`}, "lab.io/x", "!not the JSON"},
		{"broken entry", map[string]string{".docker/config.json": `{"auths":{"lab.io":{"auth":"%%%"}}}`}, "lab.io/x", "!not NAME:PASSWORD"},
		{"plain words", map[string]string{".docker/config.json": `{"auths":{"lab.io":{"username":"u","password":"pw"}}}`}, "lab.io/x", "u"},
		{"helper", map[string]string{".docker/config.json": `{"credHelpers":{"lab.io":"t"}}`, "bin/docker-credential-t": helper}, "lab.io/x", "helped"},
		{"helper's token", map[string]string{".docker/config.json": `{"credHelpers":{"tok.io":"t"}}`, "bin/docker-credential-t": helper}, "tok.io/x", "token pw"},
		{"helper knows nothing", map[string]string{".docker/config.json": `{"credHelpers":{"no.io":"t"}}`, "bin/docker-credential-t": helper}, "no.io/x", ""},
		{"store", map[string]string{".docker/config.json": `{"auths":{"lab.io":{}},"credsStore":"t"}`, "bin/docker-credential-t": helper}, "lab.io/x", "helped"},
		{"helper is missing", map[string]string{".docker/config.json": `{"credsStore":"nosuch"}`}, "lab.io/x", "!docker-credential-nosuch"},
		{"helper with a path", map[string]string{".docker/config.json": `{"credsStore":"../../bin/sh"}`}, "lab.io/x", "!not the name of a credential helper"},
		{"helper says nonsense", map[string]string{".docker/config.json": `{"credsStore":"t"}`, "bin/docker-credential-t": "#!/bin/sh\necho pw\n"}, "lab.io/x", "!not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			scene(t, c.files)
			got, err := findCredentials(t.Context(), c.repo)
			if words, wanted := strings.CutPrefix(c.want, "!"); wanted {
				if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "c2VjcmV0") {
					t.Errorf("error %v, want one with %q and no secret", err, words)
				}
				return
			}
			name := got.username
			if got.identityToken != "" {
				name = "token " + got.identityToken
			}
			if err != nil || name != c.want {
				t.Errorf("%q, %v; want %q", name, err, c.want)
			}
		})
	}
}

func TestShowURL(t *testing.T) {
	u, err := url.Parse("https://me:pw@cdn.example/a/b?X-Amz-Signature=secret#frag")
	if err != nil {
		t.Fatal(err)
	}
	if got := showURL(u); got != "https://cdn.example/a/b" {
		t.Error(got)
	}
}

func TestExplain(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "lab.io", Path: "/v2/"}
	for name, c := range map[string]struct {
		err   error
		words string
		final bool
	}{
		"no such host": {&net.DNSError{Err: "no such host", Name: "lab.io", IsNotFound: true}, "no host of that name", true},
		"no answer":    {&net.DNSError{Err: "server misbehaving", Name: "lab.io", IsTemporary: true}, "server misbehaving", false},
		"plain http":   {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "does not speak https", true},
		"refused":      {syscall.ECONNREFUSED, "https://lab.io/v2/: dial: connection refused", false},
	} {
		got := explain(u, fmt.Errorf("dial: %w", c.err))
		var final permanent
		if !strings.Contains(got.Error(), c.words) || errors.As(got, &final) != c.final {
			t.Errorf("%s: %v (final %t)", name, got, !c.final)
		}
	}
}
