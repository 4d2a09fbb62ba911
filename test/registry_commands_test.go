package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dlrun/dlrun/test/internal/registry"
)

// registries are those of one session; they end with it.
type registries struct {
	server *registry.Server
	fronts []*registry.Front
	proxy  *registry.Proxy
}

type registriesKey struct{}

func registriesOf(ts *testscript.TestScript) *registries {
	return ts.Value(registriesKey{}).(*registries)
}

// setenv sets a variable for the rest of the script, in what `root` and `peak` run too.
func setenv(ts *testscript.TestScript, name, value string) {
	s := sessionOf(ts)
	if !slices.Contains(s.vars, name) {
		s.vars = append(s.vars, name)
	}
	ts.Setenv(name, value)
}

// registry: $REGISTRY is the address of a docker-registry of this session, plain and open to all.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: registry")
	}
	r := registriesOf(ts)
	ts.Check(undropped(func() (err error) {
		r.server, err = registry.Start(sessionOf(ts).ctx, filepath.Join(ts.MkAbs(ts.Getenv("WORK")), ".registry"))
		return err
	}))
	setenv(ts, "REGISTRY", r.server.Addr)
	ts.Defer(r.server.Close)
}

// front [USER:PASSWORD]: $FRONT is the address of a registry that has what $REGISTRY has, wants a token, and sends
// its callers to $CDN for blobs.
func startFront(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: front [USER:PASSWORD]")
	}
	var o registry.FrontOptions
	if len(args) == 1 {
		o.Username, o.Password, _ = strings.Cut(args[0], ":")
	}
	r := registriesOf(ts)
	front, err := registry.NewFront(r.server.Addr, o)
	ts.Check(err)
	r.fronts = append(r.fronts, front)
	setenv(ts, "FRONT", front.Addr)
	setenv(ts, "CDN", front.CDN)
	ts.Defer(front.Close)
}

// push [-docker] DIR NAME:TAG: the registry has the image of the layout DIR. $PUSHED is the digest of its manifest or
// index, $CONFIG the image id.
func push(ts *testscript.TestScript, neg bool, args []string) {
	docker := len(args) > 0 && args[0] == "-docker"
	if docker {
		args = args[1:]
	}
	if neg || len(args) != 2 {
		ts.Fatalf("usage: push [-docker] DIR NAME:TAG")
	}
	name, tag, _ := strings.Cut(args[1], ":")
	var pushed registry.Pushed
	ts.Check(undropped(func() (err error) {
		pushed, err = registry.Push(sessionOf(ts).ctx, registriesOf(ts).server.Addr, name, tag, ts.MkAbs(args[0]), docker)
		return err
	}))
	setenv(ts, "PUSHED", pushed.Digest.String())
	setenv(ts, "CONFIG", pushed.Config.String())
}

// faulty [-tls] NAME: $FAULTY is the address of a registry with the image lab/image:1 and the fault of that name. With
// -tls it speaks https, and the file $CERT holds its certificate.
func startFaulty(ts *testscript.TestScript, neg bool, args []string) {
	secure := len(args) > 0 && args[0] == "-tls"
	if secure {
		args = args[1:]
	}
	i := slices.IndexFunc(registry.Faults, func(f registry.Fault) bool { return len(args) == 1 && f.Name == args[0] })
	if neg || i < 0 {
		ts.Fatalf("usage: faulty [-tls] NAME")
	}
	var f *registry.Faulty
	if secure {
		var pem []byte
		f, pem = registry.NewTLS(registry.Faults[i])
		ts.Check(os.WriteFile(ts.MkAbs("cert.pem"), pem, 0o644))
		setenv(ts, "CERT", ts.MkAbs("cert.pem"))
	} else {
		f = registry.NewFaulty(registry.Faults[i])
	}
	setenv(ts, "FAULTY", f.Addr)
	ts.Defer(f.Close)
}

// proxy [NAME:PASSWORD]: $PROXY is the address of a proxy that tunnels all to the last faulty registry, $PROXY_ADDR the same
// without the name and the password that it wants.
func startProxy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: proxy [NAME:PASSWORD]")
	}
	p := registry.NewProxy(ts.Getenv("FAULTY"), strings.Join(args, ""))
	setenv(ts, "PROXY", p.URL)
	setenv(ts, "PROXY_ADDR", p.URL[strings.LastIndexAny(p.URL, "/@")+1:])
	registriesOf(ts).proxy = p
	ts.Defer(p.Close)
}

// tunnelled HOST:PORT: the proxy was asked for connections to that alone, since the last time; none: nothing was asked.
func tunnelled(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: tunnelled [HOST:PORT]")
	}
	asked := slices.Compact(registriesOf(ts).proxy.Take())
	var want []string
	for _, host := range args {
		want = append(want, "CONNECT "+host)
	}
	if !slices.Equal(asked, want) {
		ts.Fatalf("the proxy was asked for %q, want %q", asked, want)
	}
}

// requests FILE: FILE lists what the last front and its CDN were asked since the last time, a line a request:
// SERVER METHOD PATH STATUS [AUTHORIZATION] [RANGE].
func requests(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: requests FILE")
	}
	fronts := registriesOf(ts).fronts
	var list strings.Builder
	for _, r := range fronts[len(fronts)-1].Take() {
		fmt.Fprintln(&list, r)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(list.String()), 0o644))
}
