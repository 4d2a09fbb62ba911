package special_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	// prepared is how git-annex begins, with a remote that has no settings.
	prepared = `
		> EXTENSIONS INFO ASYNC GETGITREMOTENAME
		< EXTENSIONS INFO
		> PREPARE
		< GETCONFIG repo
		> VALUE
		< GETCONFIG mirror
		> VALUE
		< GETCONFIG insecure
		> VALUE
		< PREPARE-SUCCESS
	`
	progress = "\n< PROGRESS 26\n"
)

func recorded(urls ...string) string {
	s := "\n< GETURLS $KEY \n"
	for _, url := range append(urls, "") {
		s += "> VALUE " + url + "\n"
	}
	return s
}

func at(host string) string { return "dlrun+docker://" + host + "/lab/bb@$BLOB" }

func TestRequests(t *testing.T) {
	const retrieve = prepared + "> TRANSFER RETRIEVE $KEY $FILE\n"
	const success = "< TRANSFER-SUCCESS RETRIEVE $KEY\n"
	for name, c := range map[string]struct {
		before string // content of the file
		script string
		asks   string
		after  string
	}{
		"startup without extensions": {script: `
			> LISTCONFIGS
			< CONFIG repo repositories HOST/NAME,... in which SHA256 keys are looked for without a record
			< CONFIG mirror registries [REGISTRY=]HOST[/PREFIX],... that are asked first
			< CONFIG insecure registries HOST[:PORT],... that are spoken to by http
			< CONFIGEND
			> INITREMOTE
			< GETCONFIG encryption
			> VALUE none
			< GETCONFIG repo
			> VALUE ghcr.io/lab/bb, localhost:5000/x/y_z
			< GETCONFIG mirror
			> VALUE
			< GETCONFIG insecure
			> VALUE
			< INITREMOTE-SUCCESS
			> EXPORTSUPPORTED
			< EXPORTSUPPORTED-FAILURE
			> GETCOST
			< COST 250
			> GETAVAILABILITY
			< AVAILABILITY GLOBAL
			> SOMETHING NEW
			< UNSUPPORTED-REQUEST
			>  
			< UNSUPPORTED-REQUEST
			> EXTENSIONS
			< EXTENSIONS 
		`},
		"settings that can never work": {script: `
			> INITREMOTE
			< GETCONFIG encryption
			> VALUE shared
			< INITREMOTE-FAILURE encryption=shared: registries have layers as they are; use encryption=none
			> INITREMOTE
			< GETCONFIG encryption
			> VALUE none
			< GETCONFIG repo
			> VALUE library/busybox:latest
			< INITREMOTE-FAILURE repo=library/busybox:latest: want repositories HOST/NAME,... in which SHA256 keys are looked for without a record
			> PREPARE
			< GETCONFIG repo
			> VALUE
			< GETCONFIG mirror
			> VALUE https://mirror.lan
			< PREPARE-FAILURE mirror=https://mirror.lan: want registries [REGISTRY=]HOST[/PREFIX],... that are asked first
		`},
		"claims": {script: prepared + `
			> CLAIMURL dlrun+docker://ghcr.io/lab/bb@$BLOB
			< CLAIMURL-SUCCESS
			> CLAIMURL dlrun+docker://ghcr.io/lab/bb@$BLOB;diff_id=$DIFF
			< CLAIMURL-SUCCESS
			> CLAIMURL https://ghcr.io/v2/lab/bb/blobs/$BLOB
			< CLAIMURL-SUCCESS
			> CLAIMURL docker://ghcr.io/lab/bb@$BLOB
			< CLAIMURL-FAILURE
			> CLAIMURL https://example.org/file
			< CLAIMURL-FAILURE
			> CLAIMURL 
			< CLAIMURL-FAILURE
			> CHECKURL https://example.org/file
			< CHECKURL-FAILURE https://example.org/file names no blob of a registry
			> CHECKURL https://good.org/v2/lab/bb/blobs/$BLOB
			< CHECKURL-CONTENTS 26 ` + strings.TrimPrefix(digest(content), "sha256:") + `
			> CHECKURL https://chunked.org/v2/lab/bb/blobs/$BLOB
			< CHECKURL-CONTENTS UNKNOWN ` + strings.TrimPrefix(digest(content), "sha256:") + `
			> CHECKURL https://closed.org/v2/lab/bb/blobs/$BLOB
			< CHECKURL-FAILURE closed.org/lab/bb@$BLOB: 401 Unauthorized; log in first
		`, asks: "stat good.org/lab/bb, stat chunked.org/lab/bb, stat closed.org/lab/bb"},
		"it only gets": {script: prepared + `
			> TRANSFER STORE $KEY $FILE
			< TRANSFER-FAILURE STORE $KEY images are pushed to a registry by other tools; this remote only gets their layers
			> REMOVE $KEY
			< REMOVE-FAILURE $KEY images are pushed to a registry by other tools; this remote only gets their layers
		`, after: "absent"},

		"present": {script: prepared + "> CHECKPRESENT $KEY" + recorded(at("good.org")) + "< CHECKPRESENT-SUCCESS $KEY",
			asks: "stat good.org/lab/bb"},
		"absent": {script: prepared + "> CHECKPRESENT $KEY" + recorded(at("empty.org")) + "< CHECKPRESENT-FAILURE $KEY",
			asks: "stat empty.org/lab/bb"},
		"refused is unknown": {script: prepared + "> CHECKPRESENT $KEY" + recorded(at("closed.org")) +
			"< CHECKPRESENT-UNKNOWN $KEY closed.org/lab/bb@$BLOB: 401 Unauthorized; log in first", asks: "stat closed.org/lab/bb"},
		"5xx is unknown": {script: prepared + "> CHECKPRESENT $KEY" + recorded(at("broken.org")) +
			"< CHECKPRESENT-UNKNOWN $KEY broken.org/lab/bb@$BLOB: 503 Service Unavailable", asks: "stat broken.org/lab/bb"},
		"one of two is enough": {script: prepared + "> CHECKPRESENT $KEY" + recorded(at("closed.org"), at("good.org")) + "< CHECKPRESENT-SUCCESS $KEY",
			asks: "stat closed.org/lab/bb, stat good.org/lab/bb"},
		"absent in one, unknown in the other": {script: prepared + "> CHECKPRESENT $KEY" + recorded(at("empty.org"), at("closed.org")) +
			"< CHECKPRESENT-UNKNOWN $KEY closed.org/lab/bb@$BLOB: 401 Unauthorized; log in first", asks: "stat empty.org/lab/bb, stat closed.org/lab/bb"},
		"no record": {script: prepared + "> CHECKPRESENT $KEY" + recorded("https://example.org/a") +
			"< CHECKPRESENT-UNKNOWN $KEY no registry is recorded for this key (dlrun link DIR records them)"},
		"records of others, and claimed ones as older versions spell them": {
			script: prepared + "> CHECKPRESENT $KEY" + recorded("https://empty.org/v2/lab/bb/blobs/$BLOB", ":dlrun+docker://closed.org/lab/bb@$BLOB", ":https://empty.org/v2/lab/bb/blobs/$BLOB") +
				"< CHECKPRESENT-UNKNOWN $KEY closed.org/lab/bb@$BLOB: 401 Unauthorized; log in first", asks: "stat closed.org/lab/bb, stat empty.org/lab/bb"},

		"repo, mirror and insecure": {script: `
			> PREPARE
			< GETCONFIG repo
			> VALUE empty.org/a,empty.org/b
			< GETCONFIG mirror
			> VALUE empty.org=site.lan/proxy,host.lan
			< GETCONFIG insecure
			> VALUE site.lan
			< PREPARE-SUCCESS
			> WHEREIS $KEY` + recorded() + `
			< WHEREIS-SUCCESS https://empty.org/v2/a/blobs/$BLOB https://empty.org/v2/b/blobs/$BLOB
			> WHEREIS MD5E-s26--d41d8cd98f00b204e9800998ecf8427e.tar
			< GETURLS MD5E-s26--d41d8cd98f00b204e9800998ecf8427e.tar 
			> VALUE
			< WHEREIS-FAILURE
			> WHEREIS $KEY` + recorded(at("good.org")) + `
			< WHEREIS-FAILURE
			> GETINFO
			< INFOFIELD repo
			< INFOVALUE empty.org/a,empty.org/b
			< INFOFIELD mirror
			< INFOVALUE empty.org=site.lan/proxy,host.lan
			< INFOFIELD insecure
			< INFOVALUE site.lan
			< INFOEND
			> CHECKPRESENT $KEY` + recorded(at("good.org")) + `
			< CHECKPRESENT-SUCCESS $KEY
			> CHECKPRESENT $KEY` + recorded() + `
			< CHECKPRESENT-UNKNOWN $KEY site.lan/proxy/a@$BLOB: 401 Unauthorized; log in first; host.lan/a@$BLOB: 401 Unauthorized; log in first; site.lan/proxy/b@$BLOB: 401 Unauthorized; log in first; host.lan/b@$BLOB: 401 Unauthorized; log in first
		`, asks: "stat host.lan/lab/bb, stat good.org/lab/bb, " +
			"stat site.lan/proxy/a http, stat host.lan/a, stat empty.org/a, stat site.lan/proxy/b http, stat host.lan/b, stat empty.org/b"},

		"retrieve":      {script: retrieve + recorded(at("good.org")) + progress + success, asks: "open good.org/lab/bb 0", after: content},
		"resume":        {before: content[:7], script: retrieve + recorded(at("good.org")) + progress + success, asks: "open good.org/lab/bb 7", after: content},
		"all was there": {before: content, script: retrieve + recorded(at("good.org")) + success, after: content},
		"a beginning of something else": {before: "THE", script: retrieve + recorded(at("good.org")) + progress + progress + success,
			asks: "open good.org/lab/bb 3, open good.org/lab/bb 0", after: content},
		"more than the whole": {before: content + "!", script: retrieve + recorded(at("good.org")) + progress + success,
			asks: "open good.org/lab/bb 0", after: content},
		"cut off": {script: retrieve + recorded(at("short.org")) +
			"< PROGRESS 10\n< TRANSFER-FAILURE RETRIEVE $KEY short.org/lab/bb@$BLOB: connection reset", asks: "open short.org/lab/bb 0", after: content[:10]},
		"cut off, and resumed elsewhere": {script: retrieve + recorded(at("short.org"), at("good.org")) +
			"< PROGRESS 10\n< INFO short.org/lab/bb@$BLOB: connection reset; trying good.org/lab/bb@$BLOB" + progress + success,
			asks: "open short.org/lab/bb 0, open good.org/lab/bb 10", after: content},
		"something else": {script: retrieve + recorded(at("lying.org")) + progress +
			"< TRANSFER-FAILURE RETRIEVE $KEY lying.org/lab/bb@$BLOB: the registry sent something else: its digest is " + digest(strings.ToUpper(content)),
			asks: "open lying.org/lab/bb 0", after: ""},
		"more than there is": {script: retrieve + recorded(at("endless.org")) +
			"< TRANSFER-FAILURE RETRIEVE $KEY endless.org/lab/bb@$BLOB: the registry sent something else: more than 26 bytes",
			asks: "open endless.org/lab/bb 0", after: ""},
		"nowhere": {script: retrieve + recorded(at("empty.org"), at("closed.org")) +
			"< INFO empty.org/lab/bb@$BLOB: 404 Not Found: the registry does not have it; trying closed.org/lab/bb@$BLOB\n" +
			"< TRANSFER-FAILURE RETRIEVE $KEY empty.org/lab/bb@$BLOB: 404 Not Found: the registry does not have it; closed.org/lab/bb@$BLOB: 401 Unauthorized; log in first",
			asks: "open empty.org/lab/bb 0, open closed.org/lab/bb 0", after: ""},
		"inflated": {before: "whatever", script: prepared + `
			> TRANSFER RETRIEVE MD5E-s19--0123456789abcdef.tar $FILE
			< GETURLS MD5E-s19--0123456789abcdef.tar 
			> VALUE dlrun+docker://good.org/lab/bb@$BLOB;diff_id=$DIFF
			> VALUE 
			< PROGRESS 19
			< TRANSFER-SUCCESS RETRIEVE MD5E-s19--0123456789abcdef.tar
		`, asks: "open good.org/lab/bb 0", after: inflated},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.before != "" {
				if err := os.WriteFile(filepath.Join(dir, "the file"), []byte(c.before), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			asks, err := talk(t, dir, c.script)
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
			if got := strings.Join(asks, ", "); got != c.asks {
				t.Errorf("asked %q\nwant  %q", got, c.asks)
			}
			if strings.Contains(c.script, "TRANSFER") {
				if got := read(t, dir); got != strings.TrimSpace(c.after) {
					t.Errorf("the file is %q, want %q", got, c.after)
				}
			}
		})
	}
}

func TestTalkIsLost(t *testing.T) {
	for name, c := range map[string]struct{ script, err string }{
		"git-annex gives up": {"> ERROR no such thing", "git-annex: no such thing"},
		"in a request":       {"> PREPARE\n< GETCONFIG repo\n> ERROR out of memory", "git-annex: out of memory"},
		"no key":             {"> TRANSFER RETRIEVE\n< ERROR TRANSFER needs 3 parameters: \"TRANSFER RETRIEVE\"", "TRANSFER needs 3 parameters: \"TRANSFER RETRIEVE\""},
		"out of step":        {"> PREPARE\n< GETCONFIG repo\n> GETCOST\n< ERROR want a VALUE from git-annex, got \"GETCOST\"", "want a VALUE from git-annex, got \"GETCOST\""},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := talk(t, t.TempDir(), c.script); err == nil || err.Error() != c.err {
				t.Errorf("Serve: %v, want %q", err, c.err)
			}
		})
	}
}

func TestEndInARequest(t *testing.T) {
	_, err := talk(t, t.TempDir(), "> PREPARE\n< GETCONFIG repo\nend\n< ERROR git-annex ended in the middle of a request")
	if err == nil {
		t.Error("Serve took the end of input in the middle of a request for a good one")
	}
}

// TestFileOfAnotherKind must not hang, nor ask a registry for what it could not keep.
func TestFileOfAnotherKind(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "the file"), 0o755); err != nil {
		t.Fatal(err)
	}
	asks, err := talk(t, dir, prepared+"> TRANSFER RETRIEVE $KEY $FILE\n"+recorded(at("good.org"), at("chunked.org"))+
		"< TRANSFER-FAILURE RETRIEVE $KEY open $FILE: is a directory")
	if err != nil || len(asks) > 0 {
		t.Errorf("asked %v; %v", slices.Clone(asks), err)
	}
}
