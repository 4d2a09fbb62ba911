package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Variables of the environment. With testKernel all tests run as on that kernel, as far as test/oldkernel can make one:
//
//	DLRUN_TEST_KERNEL=4.18 go test ./test -count=1 -run TestSessions
//
// underKernel says that they do.
const (
	testKernel  = "DLRUN_TEST_KERNEL"
	underKernel = "DLRUN_TEST_UNDER"
)

func TestMain(m *testing.M) {
	if err := enterKernel(os.Getenv(testKernel)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enterKernel starts this process anew under the launcher, once.
func enterKernel(version string) error {
	if version == "" || os.Getenv(underKernel) != "" {
		return nil
	}
	dir, err := os.MkdirTemp("", "oldkernel-")
	if err != nil {
		return err
	}
	launcher := filepath.Join(dir, "oldkernel")
	if err := compile("oldkernel/oldkernel.c", launcher); err != nil {
		return err
	}
	// The open file outlives its name.
	f, err := os.Open(launcher)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := append([]string{"oldkernel", version, self}, os.Args[1:]...)
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), argv, append(os.Environ(), underKernel+"="+version))
}

// compile makes a static binary of one C file.
func compile(source, binary string) error {
	out, err := exec.Command("cc", "-std=gnu11", "-O2", "-Wall", "-Werror", "-static", "-o", binary, source).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cc %s: %w\n%s", source, err, out)
	}
	return nil
}
