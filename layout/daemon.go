package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/dlrun/dlrun/internal/lazy"
)

const daemonScheme = "docker-daemon:"

const enginePatience = 15 * time.Second

var imageID = lazy.Regexp(`^(sha256:)?[0-9a-f]{64}$`)

// openDaemon opens docker-daemon:NAME[:TAG] or docker-daemon:sha256:ID, an image
// of a Docker engine, or of podman's service that answers as one. The engine
// gives an archive, which is kept in a file without a name in $TMPDIR.
func openDaemon(ctx context.Context, ref string, q query) (*Image, error) {
	image := strings.TrimPrefix(ref, daemonScheme)
	if !imageID().MatchString(image) {
		// The engine would take a name without a tag for all of its tags.
		parsed, err := name.ParseReference(image)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		if _, ok := parsed.(name.Tag); ok && !strings.HasSuffix(image, ":"+parsed.Identifier()) {
			image += ":" + parsed.Identifier()
		}
	}
	socket, err := engineSocket()
	if err != nil {
		return nil, err
	}
	f, err := fetchArchive(ctx, socket, image)
	if err != nil {
		return nil, fmt.Errorf("%s from the engine at %s: %w", ref, socket, err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a, err := openArchive(ctx, f, fi.Size(), plain)
	if err != nil {
		return nil, err
	}
	a.name = ref
	return openArchived(ctx, a, q)
}

// engineSocket is that of $DOCKER_HOST, else the first there is of Docker's,
// rootless Docker's and podman's.
func engineSocket() (string, error) {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		if socket, ok := strings.CutPrefix(host, "unix://"); ok {
			return socket, nil
		}
		return "", &hinted{
			fmt.Errorf("DOCKER_HOST is %s: only unix:// sockets are spoken to", host),
			"docker save NAME -o FILE, then dlrun FILE",
		}
	}
	sockets := []string{"/var/run/docker.sock"}
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		sockets = append(sockets, filepath.Join(run, "docker.sock"), filepath.Join(run, "podman/podman.sock"))
	}
	for _, socket := range sockets {
		if fi, err := os.Stat(socket); err == nil && fi.Mode()&os.ModeSocket != 0 {
			return socket, nil
		}
	}
	return "", &hinted{
		fmt.Errorf("no Docker engine: there is no socket at %s, and DOCKER_HOST is not set", strings.Join(sockets, ", ")),
		"systemctl --user start podman.socket",
	}
}

// fetchArchive has the engine save an image into a file without a name.
func fetchArchive(ctx context.Context, socket, image string) (*os.File, error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableCompression: true, // the bytes are wanted as they are
	}
	defer transport.CloseIdleConnections()
	if err := ping(ctx, transport); err != nil {
		return nil, err
	}
	// The host is of no account. An unversioned path is served by every engine.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/images/get?names="+url.QueryEscape(image), nil)
	if err != nil {
		return nil, err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(engineMessage(resp))
	}
	return spoolFile(resp.Body)
}

// ping asks whether an engine is there. It may take long to prepare an image, but not to say that.
func ping(ctx context.Context, transport *http.Transport) error {
	ctx, cancel := context.WithTimeoutCause(ctx, enginePatience, fmt.Errorf("no answer within %v", enginePatience))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return resp.Body.Close()
}

// engineMessage is what an engine says of a request that it refuses.
func engineMessage(resp *http.Response) string {
	var said struct {
		Message string `json:"message"`
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxPointerSize))
	if json.Unmarshal(raw, &said) == nil && said.Message != "" {
		return said.Message
	}
	return "it answers " + resp.Status
}
