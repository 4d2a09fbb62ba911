package slurm

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"
)

//go:embed node.sh
var nodeScript []byte

//go:embed slurm.conf
var confText string

// Limits in time: of a start, and of the end of each daemon.
const (
	startLimit = 60 * time.Second
	endLimit   = 10 * time.Second
)

// Cluster is a running cluster. Stop must be called.
type Cluster struct {
	Dir   string // holds everything that the daemons write
	Nodes int    // they are called n1, n2, …

	daemons []*daemon // in the order of their start
}

// Conf is the value of SLURM_CONF, by which Slurm's commands find the cluster.
func (c *Cluster) Conf() string { return filepath.Join(c.Dir, "slurm.conf") }

// NodeTmp is where /tmp of a node lies on the machine. For root only.
func (c *Cluster) NodeTmp(node int) string {
	return filepath.Join(c.Dir, "nodes", fmt.Sprintf("n%d", node), "tmp")
}

// daemon is a process that Start has started.
type daemon struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start makes a cluster of nodes below dir, an empty directory outside /tmp that others may enter, and returns when
// every node is idle.
func Start(ctx context.Context, dir string, nodes int) (c *Cluster, err error) {
	c = &Cluster{Dir: dir, Nodes: nodes}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%w\n%s", err, c.logs()), c.Stop())
		}
	}()
	for name, mode := range map[string]fs.FileMode{"munge": 0o755, "log": 0o755, "spool": 0o755, "state": 0o700, "nodes": 0o755} {
		if err := os.Mkdir(filepath.Join(dir, name), mode); err != nil {
			return c, err
		}
	}
	if err := c.startMunge(ctx); err != nil {
		return c, err
	}
	if err := c.configure(); err != nil {
		return c, err
	}
	if err := c.start("slurmctld", nil, "slurmctld", "-D", "-i", "-f", c.Conf()); err != nil {
		return c, err
	}
	for i := 1; i <= nodes; i++ {
		if err := c.startNode(fmt.Sprintf("n%d", i)); err != nil {
			return c, err
		}
	}
	return c, c.until(ctx, "every node is idle", func() bool {
		out, err := c.tool(ctx, "sinfo", "--noheader", "--Node", "--format=%T").Output()
		return err == nil && string(out) == strings.Repeat("idle\n", nodes)
	})
}

// startMunge starts a munged with a key and a socket of its own.
func (c *Cluster) startMunge(ctx context.Context) error {
	at := func(name string) string { return filepath.Join(c.Dir, "munge", name) }
	if err := os.Mkdir(at("key"), 0o700); err != nil {
		return err
	}
	key := make([]byte, 1024)
	_, _ = rand.Read(key)
	if err := os.WriteFile(at("key/munge.key"), key, 0o400); err != nil {
		return err
	}
	err := c.start("munged", nil, "munged", "--foreground", "--key-file="+at("key/munge.key"), "--socket="+at("socket"),
		"--pid-file="+at("munged.pid"), "--log-file="+at("key/munged.log"), "--seed-file="+at("key/munged.seed"), "--origin=127.0.0.1")
	if err != nil {
		return err
	}
	return c.until(ctx, "munged listens", func() bool {
		conn, err := net.Dial("unix", at("socket"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// configure writes what the daemons read.
func (c *Cluster) configure() error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	host, _, _ = strings.Cut(host, ".")
	me, err := user.Current()
	if err != nil {
		return err
	}
	port, err := freePorts(c.Nodes + 1)
	if err != nil {
		return err
	}
	addresses, _ := net.LookupHost(host)
	var conf bytes.Buffer
	err = template.Must(template.New("").Parse(confText)).Execute(&conf, map[string]any{
		"Dir": c.Dir, "Host": host, "User": me.Username, "Nodes": c.Nodes, "CPUs": 64,
		"Port": port, "FirstNode": port + 1, "LastNode": port + c.Nodes,
		"Loopback": len(addresses) > 0 && strings.HasPrefix(addresses[0], "127."),
	})
	if err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost " + host + "\n"
	for i := range c.Nodes {
		hosts += fmt.Sprintf("127.0.0.1 n%d\n", i+1)
	}
	for name, text := range map[string]string{
		"slurm.conf": conf.String(), "cgroup.conf": "CgroupAutomount=no\n", "plugstack.conf": "", "hosts": hosts, "node.sh": string(nodeScript),
	} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// freePorts returns the first of n consecutive free ports, below those that outgoing connections take.
func freePorts(n int) (int, error) {
	for try := range 50 {
		first := 10000 + (os.Getpid()*31+try*97)%20000
		if portsFree(first, n) {
			return first, nil
		}
	}
	return 0, errors.New("there are no free ports")
}

func portsFree(first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

func (c *Cluster) startNode(name string) error {
	if err := os.Mkdir(filepath.Join(c.Dir, "spool", name), 0o755); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return c.start(name, nil, "slurmd", "-D", "-N", name, "-f", c.Conf())
	}
	own := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNS}
	return c.start(name, own, "sh", filepath.Join(c.Dir, "node.sh"), c.Dir, name)
}

// start starts a daemon that dies with this process, whatever happens to it.
func (c *Cluster) start(name string, attr *syscall.SysProcAttr, command string, args ...string) error {
	out, err := os.Create(filepath.Join(c.Dir, "log", name+".out"))
	if err != nil {
		return err
	}
	defer out.Close()
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Setsid = true
	cmd := exec.Command(command, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = c.Dir, c.env(), out, out, attr
	d := &daemon{name: name, cmd: cmd, ended: make(chan struct{})}
	if err := startBound(cmd); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(d.ended)
	}()
	c.daemons = append(c.daemons, d)
	return nil
}

// env is that of a login, and nothing of a job that this may be part of.
func (c *Cluster) env() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "SLURM_CONF=" + c.Conf()}
}

// tool is one of Slurm's commands, as the owner of the cluster. It is ended after a while.
func (c *Cluster) tool(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "timeout", append([]string{"--kill-after=1", "5", name}, args...)...)
	cmd.Env = c.env()
	return cmd
}

func (c *Cluster) until(ctx context.Context, what string, done func() bool) error {
	for end := time.Now().Add(startLimit); !done(); time.Sleep(50 * time.Millisecond) {
		for _, d := range c.daemons {
			select {
			case <-d.ended:
				return fmt.Errorf("%s has ended", d.name)
			default:
			}
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("given up waiting until %s", what)
		}
	}
	return nil
}

// logs is the end of what the daemons wrote.
func (c *Cluster) logs() string {
	var text strings.Builder
	files, _ := filepath.Glob(filepath.Join(c.Dir, "log", "*"))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		fmt.Fprintf(&text, "%s:\n%s\n", filepath.Base(f), data[max(0, len(data)-1000):])
	}
	return text.String()
}
