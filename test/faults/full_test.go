package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// full puts the store on a file system of a few sizes, from one that cannot hold the store's directories to one that
// just lacks the last layer. Where it has grown, the next run is right.
func (b *bench) full(t *testing.T, y *tally) {
	for i := range of(5, 25) {
		b.small(t, y, fmt.Sprintf("size=%dk", 64+i*of(2400, 480)), "size=200m")
	}
}

func (b *bench) inodes(t *testing.T, y *tally) {
	for i := range of(4, 20) {
		b.small(t, y, fmt.Sprintf("nr_inodes=%d", 4+i*of(220, 44)), "nr_inodes=100k")
	}
}

// small runs on a tmpfs in a mount namespace of its own, and once more when that has grown. It takes root, or what an
// ordinary user may do in namespaces.
func (b *bench) small(t *testing.T, y *tally, limit, more string) {
	t.Helper()
	mount := b.store(t)
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	defer b.clear(t, mount)
	store := filepath.Join(mount, "store")
	run := b.command(t.Context(), store)
	as, namespace := "", []string{"unshare", "-m"}
	if os.Geteuid() == 0 {
		as = fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups ", b.user.UID, b.user.GID)
	} else {
		namespace = []string{"unshare", "-rm"}
	}
	script := `
mount -t tmpfs -o mode=1777,$1 none $2
$AS "$@" >$OUT.1 2>$OUT.2; echo $? >$OUT.3
ls $STORE/tmp >$OUT.4 2>/dev/null
mount -o remount,$MORE none $2 || exit
$AS "$@" >$OUT.5 2>$OUT.6; echo $? >$OUT.7
ls $STORE/tmp >$OUT.8
`
	script = strings.ReplaceAll(script, `"$@"`, `sh -c 'shift 2; exec "$@"' sh "$@"`)
	out := filepath.Join(b.dir, "small")
	args := append(append(namespace, "sh", "-c", script, "sh", limit, mount), run.Args...)
	cmd := run
	cmd.Path, cmd.Args = "/usr/bin/unshare", args
	cmd.SysProcAttr.Credential = nil
	cmd.Env = append(cmd.Env, "AS="+strings.TrimSpace(as), "OUT="+out, "STORE="+store, "MORE="+more)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", limit, err, text)
	}
	read := func(n int) string {
		b, err := os.ReadFile(fmt.Sprintf("%s.%d", out, n))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	listing := func(n int) string { return seen(read(n)) }
	y.tries++
	switch code := strings.TrimSpace(read(3)); {
	case code == "0" && listing(1) == b.want:
		y.right++
	case code == "0":
		y.wrong++
		t.Errorf("%s: exit code 0 and the wrong tree", limit)
	case code != "125" || !strings.Contains(read(2), "no space") && !strings.Contains(read(2), "inodes"):
		t.Errorf("%s: code %s: %s", limit, code, read(2))
		fallthrough
	default:
		y.refused++
		if left := read(4); left != "" {
			t.Errorf("%s: left %s", limit, left)
		}
	}
	if read(7) != "0\n" || listing(5) != b.want {
		y.next++
		t.Errorf("%s: the next run: code %s, right tree: %v: %s", limit, strings.TrimSpace(read(7)), listing(5) == b.want, read(6))
	}
	if left := read(8); left != "" {
		y.garbage++
		t.Errorf("%s: the next run leaves %s", limit, left)
	}
	if left := outlived(); left != "" {
		y.orphans++
		t.Errorf("%s: outlived the run: %s", limit, left)
	}
}
