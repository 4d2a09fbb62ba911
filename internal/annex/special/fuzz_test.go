package special_test

import (
	"bufio"
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dlrun/dlrun/internal/annex/special"
)

// said is all that a special remote may ever write.
var said = regexp.MustCompile(`^(VERSION 1|EXTENSIONS (INFO)?|UNSUPPORTED-REQUEST|CONFIG(END| .*)|INITREMOTE-(SUCCESS|FAILURE .*)|` +
	`PREPARE-(SUCCESS|FAILURE .*)|COST 250|AVAILABILITY GLOBAL|CLAIMURL-(SUCCESS|FAILURE)|CHECKURL-(CONTENTS .*|FAILURE .*)|` +
	`WHEREIS-(SUCCESS .*|FAILURE)|CHECKPRESENT-((SUCCESS|FAILURE) .*|UNKNOWN .*)|TRANSFER-((SUCCESS|FAILURE) .*)|REMOVE-FAILURE .*|` +
	`INFO(FIELD .*|VALUE .*|END| .*)|DEBUG .*|EXPORTSUPPORTED-FAILURE|GETCONFIG \w+|GETURLS .*|PROGRESS [0-9]+|ERROR .*)$`)

// FuzzServe: whatever git-annex sends, the remote ends, and speaks the protocol.
func FuzzServe(f *testing.F) {
	url := "dlrun+docker://good.org/a@" + digest(content)
	f.Add("EXTENSIONS INFO\nPREPARE\nVALUE\nVALUE\nVALUE\nTRANSFER RETRIEVE K f\nVALUE " + url + "\nVALUE \n")
	f.Add("INITREMOTE\nVALUE none\nVALUE a/b\nVALUE\nVALUE\nLISTCONFIGS\nGETINFO\nCHECKPRESENT K\nVALUE " + url + "\nVALUE\nWHEREIS K\nVALUE\n")
	f.Add("CHECKURL " + url + "\nCLAIMURL " + url + "\nREMOVE K\nTRANSFER STORE K f\nERROR x\n")
	f.Fuzz(func(t *testing.T, in string) {
		// What is retrieved goes to a directory of its own, wherever it is meant to.
		file := filepath.Join(t.TempDir(), "f")
		var lines []string
		for line := range strings.Lines(in) {
			if w := strings.SplitN(line, " ", 4); w[0] == "TRANSFER" && len(w) == 4 {
				line = strings.Join(append(w[:3], file), " ") + "\n"
			}
			lines = append(lines, line)
		}
		var out bytes.Buffer
		r := special.Remote{In: strings.NewReader(strings.Join(lines, "")), Out: &out, Blobs: &fakes{t: t}}
		_ = r.Serve(t.Context())
		for s := bufio.NewScanner(&out); s.Scan(); {
			if !said.Match(s.Bytes()) {
				t.Errorf("the remote said %q", s.Bytes())
			}
		}
	})
}

// FuzzParseURL: what is read is written as it was read, and is safe to make a URL of.
func FuzzParseURL(f *testing.F) {
	d := digest(content)
	for _, url := range []string{"dlrun+docker://ghcr.io/a/b@" + d + ";diff_id=" + d, "docker://[::1]:1/a@" + d, "https://registry-1.docker.io/v2/a/blobs/" + d} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		l, ok := special.ParseURL(url)
		if !ok {
			return
		}
		for _, spelled := range []string{l.URL(), l.BlobURL()} {
			again, ok := special.ParseURL(spelled)
			if spelled == l.BlobURL() {
				again.DiffID = l.DiffID
			}
			if !ok || again != l {
				t.Errorf("%q is %+v, spelled %q, which is %+v", url, l, spelled, again)
			}
			if strings.ContainsAny(spelled, " \n\r\x00?#") || strings.Contains(spelled, "..") {
				t.Errorf("%q is spelled %q", url, spelled)
			}
		}
	})
}
