// Package users gives tests the ordinary users that dlrun is for.
//
// Root is never the one who runs dlrun in a test. Two accounts are made on
// first use and stay: dlrun-sub, with a range in /etc/subuid and /etc/subgid,
// and dlrun-nosub, without. Both belong to the group dlrun-project, so that
// supplementary groups can be tested. When the caller is not root, he himself
// is the only test user.
package users

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of the accounts and of their common supplementary group.
const (
	Sub     = "dlrun-sub"
	Nosub   = "dlrun-nosub"
	Project = "dlrun-project"
)

// User is an ordinary user that tests run commands as.
type User struct {
	Name        string
	UID, GID    int
	Groups      []int // supplementary groups, GID excluded
	Home        string
	Subordinate bool // has a range in /etc/subuid
}

// List returns the test users: both accounts for root, made when they are
// missing, else the caller alone.
func List() ([]*User, error) {
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return nil, err
		}
		me, err := lookup(u.Username)
		if err != nil {
			return nil, err
		}
		return []*User{me}, nil
	}
	if err := ensure(); err != nil {
		return nil, err
	}
	var list []*User
	for _, name := range []string{Sub, Nosub} {
		u, err := lookup(name)
		if err != nil {
			return nil, err
		}
		if u.Subordinate != (name == Sub) {
			return nil, fmt.Errorf("user %s: has subordinate ids: %t (see /etc/subuid)", name, u.Subordinate)
		}
		list = append(list, u)
	}
	return list, nil
}

// Get returns the test user called name, or the caller when he is not root.
func Get(name string) (*User, error) {
	list, err := List()
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return list[0], nil
	}
	for _, u := range list {
		if u.Name == name {
			return u, nil
		}
	}
	return nil, fmt.Errorf("no test user %q (there are %s and %s)", name, Sub, Nosub)
}

// ensure makes what is missing of the accounts. Test binaries run side by
// side, hence the lock; it needs no file of its own.
func ensure() error {
	passwd, err := os.Open("/etc/passwd")
	if err != nil {
		return err
	}
	defer passwd.Close()
	if err := unix.Flock(int(passwd.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock /etc/passwd: %w", err)
	}
	if _, err := user.LookupGroup(Project); err != nil {
		if err := run("groupadd", Project); err != nil {
			return err
		}
	}
	for name, ids := range map[string]string{Sub: "65536", Nosub: "0"} {
		if _, err := user.Lookup(name); err == nil {
			continue
		}
		err := run("useradd", "--create-home", "--user-group", "--groups", Project, "--shell", "/bin/sh",
			"--key", "SUB_UID_COUNT="+ids, "--key", "SUB_GID_COUNT="+ids, name)
		if err != nil {
			return err
		}
	}
	return nil
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func lookup(name string) (*User, error) {
	pw, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	u := &User{Name: name, Home: pw.HomeDir}
	if u.UID, err = strconv.Atoi(pw.Uid); err != nil {
		return nil, err
	}
	if u.GID, err = strconv.Atoi(pw.Gid); err != nil {
		return nil, err
	}
	gids, err := pw.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of %s: %w", name, err)
	}
	for _, s := range gids {
		if g, err := strconv.Atoi(s); err == nil && g != u.GID && !slices.Contains(u.Groups, g) {
			u.Groups = append(u.Groups, g)
		}
	}
	u.Subordinate, err = inFile("/etc/subuid", name, pw.Uid)
	return u, err
}

func inFile(file string, owners ...string) (bool, error) {
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		owner, _, _ := strings.Cut(s.Text(), ":")
		if slices.Contains(owners, owner) {
			return true, nil
		}
	}
	return false, nil
}

// Env is the user's clean environment: what a login gives, less
// XDG_RUNTIME_DIR, which batch jobs do not have either.
func (u *User) Env() []string {
	return []string{
		"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, "SHELL=/bin/sh", "LANG=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
}

// Command is exec.CommandContext with the user's credentials and environment.
func (u *User) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = u.Env()
	if os.Geteuid() == 0 {
		cred := &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
		for _, g := range u.Groups {
			cred.Groups = append(cred.Groups, uint32(g))
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	}
	return cmd
}

// Become gives the credentials of u to the calling goroutine for the rest of
// its life, and so to every command that it starts. Credentials belong to
// threads; the goroutine stays locked to its own, which ends with it. It does
// nothing when the caller is not root.
func (u *User) Become() error {
	if os.Geteuid() != 0 {
		return nil
	}
	runtime.LockOSThread()
	groups := make([]uint32, 0, len(u.Groups)+1)
	for _, g := range append([]int{u.GID}, u.Groups...) {
		groups = append(groups, uint32(g))
	}
	// Raw calls: those of package syscall change every thread of the process.
	if err := setgroups(groups); err != nil {
		return fmt.Errorf("become %s: setgroups: %w", u.Name, err)
	}
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("become %s: setresgid: %w", u.Name, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("become %s: setresuid: %w", u.Name, errno)
	}
	return nil
}
