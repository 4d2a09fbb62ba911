package special_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlrun/dlrun/internal/annex/special"
)

func TestParseURL(t *testing.T) {
	hex := strings.Repeat("0af9", 16)
	d, e := "sha256:"+hex, "sha256:"+strings.Repeat("1", 64)
	for url, want := range map[string]special.Location{
		"dlrun+docker://ghcr.io/a/b@" + d:                           {Host: "ghcr.io", Name: "a/b", Digest: d},
		"dlrun+docker://127.0.0.1:5000/a@" + d + ";diff_id=" + e:    {Host: "127.0.0.1:5000", Name: "a", Digest: d, DiffID: e},
		"docker://[::1]:5000/a__b/c-d.e@" + d:                       {Host: "[::1]:5000", Name: "a__b/c-d.e", Digest: d},
		"https://registry-1.docker.io/v2/library/debian/blobs/" + d: {Host: "docker.io", Name: "library/debian", Digest: d},
		"http://localhost:5000/v2/v2/blobs/blobs/" + d:              {Host: "localhost:5000", Name: "v2/blobs", Digest: d},
		"dlrun+docker://index.docker.io/library/debian@" + d:        {Host: "docker.io", Name: "library/debian", Digest: d},
		"dlrun+docker://ghcr.io/a@sha256:" + strings.ToUpper(hex):   {},
		"dlrun+docker://ghcr.io/a@" + d + "0":                       {},
		"dlrun+docker://ghcr.io/a@" + d + ";diff_id=" + hex:         {},
		"dlrun+docker://ghcr.io/A@" + d:                             {},
		"dlrun+docker://ghcr.io/../a@" + d:                          {},
		"dlrun+docker://ghcr.io/a/@" + d:                            {},
		"dlrun+docker://user@ghcr.io/a@" + d:                        {},
		"dlrun+docker://ghcr.io@" + d:                               {},
		"https://ghcr.io/v2/a/manifests/" + d:                       {},
		"https://ghcr.io/v2/a/blobs/" + d + "?x=y":                  {},
		"https://user:pw@ghcr.io/v2/a/blobs/" + d:                   {},
		"file:///v2/a/blobs/" + d:                                   {},
		"":                                                          {},
	} {
		got, ok := special.ParseURL(url)
		if diff := cmp.Diff(want, got); diff != "" || ok != (want != special.Location{}) {
			t.Errorf("%s: %t (-want +got):\n%s", url, ok, diff)
		}
	}
}

func TestSpelling(t *testing.T) {
	d := "sha256:" + strings.Repeat("0af9", 16)
	hub := special.Location{Host: "docker.io", Name: "library/debian", Digest: d, DiffID: d}
	if got, want := hub.URL(), "dlrun+docker://docker.io/library/debian@"+d+";diff_id="+d; got != want {
		t.Errorf("URL %s, want %s", got, want)
	}
	if got, want := hub.BlobURL(), "https://registry-1.docker.io/v2/library/debian/blobs/"+d; got != want {
		t.Errorf("BlobURL %s, want %s", got, want)
	}
	hub.Plain = true
	if got, want := hub.BlobURL(), "http://registry-1.docker.io/v2/library/debian/blobs/"+d; got != want {
		t.Errorf("BlobURL %s, want %s", got, want)
	}
}

func TestRoute(t *testing.T) {
	var s special.Settings
	for _, v := range [][2]string{
		{"mirror", "docker.io=hub.lan:5000"}, {"mirror", "ghcr.io=site.lan/ghcr,site.lan"}, {"insecure", "site.lan hub.lan:5000"},
	} {
		if err := s.Set(v[0], v[1]); err != nil {
			t.Fatal(err)
		}
	}
	for of, want := range map[string]string{
		"docker.io": "hub.lan:5000/a (http), site.lan/a (http), docker.io/a",
		"ghcr.io":   "site.lan/ghcr/a (http), site.lan/a (http), ghcr.io/a",
		"site.lan":  "site.lan/a (http)",
		"quay.io":   "site.lan/a (http), quay.io/a",
	} {
		var got []string
		for _, l := range s.Route(special.Location{Host: of, Name: "a", Digest: "sha256:0"}) {
			at := l.Host + "/" + l.Name
			if l.Plain {
				at += " (http)"
			}
			got = append(got, at)
		}
		if got := strings.Join(got, ", "); got != want {
			t.Errorf("%s: %s, want %s", of, got, want)
		}
	}
	for _, v := range [][2]string{
		{"mirror", "=a"}, {"mirror", "a=b=c"}, {"mirror", "a/B"}, {"mirror", "http://a"}, {"insecure", "a/b"}, {"repo", "a"}, {"color", "red"},
	} {
		if err := s.Set(v[0], v[1]); err == nil {
			t.Errorf("%s=%s is taken", v[0], v[1])
		}
	}
}
