package registry

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// Server is a docker-registry that speaks plain http to anyone.
type Server struct {
	Addr string // 127.0.0.1:PORT

	hold io.Closer     // the registry ends when this is closed, also by the end of this process
	end  chan struct{} // closed when it has ended
}

const serverConfig = `version: 0.1
log: {level: info, formatter: text, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0"}
`

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)

// Start runs a registry that keeps its files in dir, until Close or the end of ctx.
func Start(ctx context.Context, dir string) (*Server, error) {
	config := filepath.Join(dir, "config.yml")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, serverConfig, filepath.Join(dir, "data")), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", `docker-registry serve "$1" & cat >/dev/null; kill $!`, "sh", config)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "OTEL_TRACES_EXPORTER=none"}
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	cmd.Cancel = hold.Close
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{hold: hold, end: make(chan struct{})}
	go func() {
		cmd.Wait()
		in.Close()
		close(s.end)
	}()
	found := make(chan string, 1)
	said := ""
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
				io.Copy(io.Discard, out)
				return
			}
			said += lines.Text() + "\n"
		}
		close(found)
	}()
	select {
	case addr, ok := <-found:
		if s.Addr = addr; ok {
			return s, nil
		}
		return nil, fmt.Errorf("docker-registry: %s", said)
	case <-time.After(30 * time.Second):
		s.Close()
		return nil, fmt.Errorf("docker-registry does not say where it listens")
	}
}

// Close ends the process and waits for it.
func (s *Server) Close() {
	s.hold.Close()
	<-s.end
}
