package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	maxCredentials = 1 << 20          // bytes of a file or of what a helper says
	helperPatience = 30 * time.Second // a helper may ask the user for something
)

// credentials are what a user has for a registry; the zero value is none.
type credentials struct {
	username, password string
	identityToken      string // to get others with, by OAuth2
	registryToken      string // to be used as it is
	from               string // the file, for messages
}

func (c credentials) empty() bool {
	return c.username == "" && c.identityToken == "" && c.registryToken == ""
}

func (c credentials) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.username+":"+c.password))
}

// authFile is the part of docker's config.json and podman's auth.json that is about credentials.
type authFile struct {
	Auths map[string]struct {
		Auth, Username, Password     string
		IdentityToken, RegistryToken string
	}
	CredHelpers map[string]string
	CredsStore  string
}

// authFiles are where docker and podman keep credentials, the first that has some for a registry counts. A file that
// the environment names comes before those that lie about.
func authFiles() []string {
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		return []string{file}
	}
	var files []string
	docker := os.Getenv("DOCKER_CONFIG")
	if docker != "" {
		files = append(files, filepath.Join(docker, "config.json"))
	}
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if runtime != "" {
		files = append(files, filepath.Join(runtime, "containers/auth.json"))
	} else {
		files = append(files, fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid()))
	}
	home := os.Getenv("HOME")
	if config := os.Getenv("XDG_CONFIG_HOME"); config != "" {
		files = append(files, filepath.Join(config, "containers/auth.json"))
	} else if home != "" {
		files = append(files, filepath.Join(home, ".config/containers/auth.json"))
	}
	if home != "" && docker == "" {
		files = append(files, filepath.Join(home, ".docker/config.json"))
	}
	return files
}

// findCredentials returns what the user has for HOST/NAME. go-containerregistry's keychain does not know the names
// that podman uses: docker.io, and a path below a registry.
func findCredentials(ctx context.Context, repo string) (credentials, error) {
	for _, name := range authFiles() {
		file, err := readAuthFile(name)
		if err == nil && file != nil {
			var c credentials
			if c, err = file.find(ctx, repo); err == nil && !c.empty() {
				c.from = name
				return c, nil
			}
		}
		if err != nil {
			return credentials{}, fmt.Errorf("credentials: %s: %w", name, err)
		}
	}
	return credentials{}, nil
}

// credentials are those of the user, where they may be used.
func (c *Client) credentials(ctx context.Context, repo string) (credentials, error) {
	if c.opt.Anonymous {
		return credentials{}, nil
	}
	return findCredentials(ctx, repo)
}

// readAuthFile returns nil where there is none.
func readAuthFile(name string) (*authFile, error) {
	fi, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
		return nil, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, nil // /run/containers/UID may be another's; what cannot be read is not the caller's
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxCredentials))
	if err != nil || len(bytes.TrimSpace(raw)) == 0 {
		return nil, err
	}
	file := &authFile{}
	if json.Unmarshal(raw, file) != nil {
		return nil, errors.New("it is not the JSON of a docker or podman login") // its text may hold a password
	}
	return file, nil
}

// find looks for HOST/NAME, then for what is above it, down to HOST.
func (f *authFile) find(ctx context.Context, repo string) (credentials, error) {
	helpers, auths := map[string]string{}, map[string]credentials{}
	for key, helper := range f.CredHelpers {
		helpers[authKey(key)] = helper
	}
	for key, a := range f.Auths {
		c := credentials{username: a.Username, password: a.Password, identityToken: a.IdentityToken, registryToken: a.RegistryToken}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, ok := strings.Cut(string(plain), ":")
			if err != nil || !ok {
				return credentials{}, fmt.Errorf("the entry of %s is not NAME:PASSWORD in base64", key)
			}
			c.username, c.password = user, strings.TrimRight(password, "\x00")
		}
		auths[authKey(key)] = c
	}
	registry, _, _ := strings.Cut(repo, "/")
	for key := repo; ; key = key[:strings.LastIndexByte(key, '/')] {
		if helper := helpers[key]; helper != "" {
			return askHelper(ctx, helper, registry)
		}
		if c := auths[key]; !c.empty() {
			return c, nil
		}
		if key == registry {
			break
		}
	}
	if f.CredsStore != "" {
		return askHelper(ctx, f.CredsStore, registry)
	}
	return credentials{}, nil
}

// authKey is a key of the files as HOST[/PATH]: docker writes URLs, and Docker Hub's is that of its first version.
func authKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimRight(key, "/")
	key = strings.TrimSuffix(strings.TrimSuffix(key, "/v1"), "/v2")
	registry, path, below := strings.Cut(key, "/")
	if registry = hostName(registry); below {
		registry += "/" + path
	}
	return registry
}

// askHelper asks docker-credential-NAME, as https://github.com/docker/docker-credential-helpers has it.
func askHelper(ctx context.Context, name, registry string) (credentials, error) {
	if strings.ContainsRune(name, '/') {
		return credentials{}, fmt.Errorf("%q is not the name of a credential helper", name)
	}
	ctx, cancel := context.WithTimeout(ctx, helperPatience)
	defer cancel()
	servers := []string{registry}
	if registry == dockerHub {
		servers = []string{"https://index.docker.io/v1/", registry}
	}
	for _, server := range servers {
		cmd := exec.CommandContext(ctx, "docker-credential-"+name, "get")
		cmd.Stdin = strings.NewReader(server)
		cmd.WaitDelay = time.Second
		var out, said limited
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return credentials{}, fmt.Errorf("docker-credential-%s get: no answer within %v", name, helperPatience)
			}
			// The protocol's way to say that there is none; the text goes to stdout.
			if text := out.String() + said.String(); strings.Contains(text, "credentials not found") {
				continue
			}
			return credentials{}, fmt.Errorf("docker-credential-%s get: %w: %s", name, err, oneLine(strings.TrimSpace(said.String())))
		}
		var answer struct{ Username, Secret string }
		if json.Unmarshal(out.Bytes(), &answer) != nil {
			return credentials{}, fmt.Errorf("docker-credential-%s get: its answer is not JSON", name)
		}
		if answer.Username == "<token>" {
			return credentials{identityToken: answer.Secret}, nil
		}
		if answer.Username != "" {
			return credentials{username: answer.Username, password: answer.Secret}, nil
		}
	}
	return credentials{}, nil
}

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxCredentials - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
