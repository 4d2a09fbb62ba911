package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/runtime/prelude"
)

// NamespaceError says why the kernel gives this user no namespaces, and who can change that.
type NamespaceError struct {
	Cause, Remedy string
	Err           error // an *prelude.EnterError
}

func (e *NamespaceError) Error() string { return fmt.Sprintf("%v: %s", e.Err, e.Cause) }
func (e *NamespaceError) Unwrap() error { return e.Err }

// Hint is the remedy.
func (e *NamespaceError) Hint() string { return e.Remedy }

// explain turns the errno of a refused step into its cause. The errno decides; system settings only word it.
func explain(err error) error {
	var enter *prelude.EnterError
	if !errors.As(err, &enter) {
		return err
	}
	n := &NamespaceError{Err: enter}
	switch {
	case enter.Err == unix.ENOSPC:
		n.Cause = "the limit of user or mount namespaces is reached (user.max_user_namespaces or user.max_mnt_namespaces is 0, or namespaces are nested too deep)"
		n.Remedy = "an administrator sets: sysctl -w user.max_user_namespaces=15000"
	case enter.Err == unix.EUSERS:
		n.Cause = "user namespaces are nested too deep (32 levels)"
		n.Remedy = "start dlrun outside of some of the containers around it"
	case enter.Err == unix.ENOENT:
		n.Cause = "/proc is not mounted"
		n.Remedy = "whoever sets up the container or chroot around dlrun mounts /proc there"
	case enter.Err == unix.EINVAL:
		n.Cause = "this kernel is built without user namespaces"
		n.Remedy = "an administrator boots a kernel with CONFIG_USER_NS, on RHEL 7 with user_namespace.enable=1"
	case setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
		n.Cause = "AppArmor keeps programs without a profile from user namespaces (kernel.apparmor_restrict_unprivileged_userns=1)"
		n.Remedy = "an administrator adds a profile for dlrun with the rule `userns,`, or sets: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
	case setting("kernel/unprivileged_userns_clone") == "0":
		n.Cause = "user namespaces are for root only on this machine (kernel.unprivileged_userns_clone=0)"
		n.Remedy = "an administrator sets: sysctl -w kernel.unprivileged_userns_clone=1"
	case filtered():
		n.Cause = "a seccomp filter denies it, as container engines set for what runs in them"
		n.Remedy = "whoever starts the container around dlrun allows unshare and mount there (podman: --security-opt seccomp=unconfined)"
	default:
		n.Cause = "the kernel or a security module denies user namespaces to this process (a chroot, SELinux, a container engine)"
		n.Remedy = "an administrator allows unprivileged user namespaces for this program"
	}
	return n
}

func setting(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func filtered() bool {
	b, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(b), "\nSeccomp:\t2\n")
}
