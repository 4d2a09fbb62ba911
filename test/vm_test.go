package test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dlrun/dlrun/test/internal/image"
)

// writing are the sessions that write, of those that need no more than busybox around them.
const writing = "binds|home|layer|oldkernel-promises|where"

// guestInit is process 1 of the guest. Its last line tells the exit code of the tests.
const guestInit = `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm /dev/mqueue
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 cgroup2 /sys/fs/cgroup
insmod /overlay.ko
ip link set lo up
chown -R 1000:1000 /home/dlrun-nosub
export PATH=/bin:/usr/bin DLRUN_TEST_BIN=/usr/bin DLRUN_TEST_CACHE=/cache
echo && echo "kernel: $(uname -r)"
cd /test
./sessions -test.v -test.run 'TestSessions/dlrun-nosub/^(` + writing + `)$'
echo "sessions: $?"
poweroff -f
`

// TestKernel61 runs the sessions that write under the kernel of Debian 12, 6.1, in an emulated machine without network.
// The files of runs lie on an ext4: the tmpfs of that kernel has no user.* attributes.
func TestKernel61(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the guest is amd64")
	}
	if os.Getenv(underKernel) != "" {
		t.Skip("an older kernel is played already")
	}
	kernel, err := image.Kernel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tree, disk := guestTree(t, kernel), filepath.Join(t.TempDir(), "disk")
	run(t, exec.Command("/sbin/mkfs.ext4", "-q", "-d", tree, disk, "512M"))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	// Emulated: what virtual machines nest in, some do badly.
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot", "-nic", "none",
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file="+disk, "-device", "nvme,drive=disk,serial=1",
		"-kernel", filepath.Join(kernel, "vmlinuz"), "-append", "console=ttyS0 quiet panic=-1 mitigations=off root=/dev/nvme0n1 rw init=/init")
	out, err := qemu.CombinedOutput()
	out = bytes.ReplaceAll(out, []byte("\r\n"), []byte("\n"))
	if err != nil || !regexp.MustCompile(`\nkernel: 6\.1\.`).Match(out) || !bytes.Contains(out, []byte("\nsessions: 0\n")) {
		t.Fatalf("qemu: %v\n%s", err, out)
	}
	for _, name := range strings.Split(writing, "|") {
		if !regexp.MustCompile(`--- PASS: TestSessions/dlrun-nosub/` + name + ` `).Match(out) {
			t.Errorf("session %s did not run:\n%s", name, out)
		}
	}
}

// guestTree lays out the guest's root: busybox, the tests as one static program, dlrun, and the image.
func guestTree(t *testing.T, kernel string) string {
	t.Helper()
	tree := t.TempDir()
	for _, dir := range []string{"bin", "dev", "etc", "home/dlrun-nosub", "proc", "root", "sys", "tmp", "usr/bin", "var/tmp", "test", "cache"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"tmp", "var/tmp"} {
		if err := os.Chmod(filepath.Join(tree, dir), 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndlrun-sub:x:1001:1001::/home/dlrun-sub:/bin/sh\ndlrun-nosub:x:1000:1000::/home/dlrun-nosub:/bin/sh\n",
		"etc/group":  "root:x:0:\ndlrun-sub:x:1001:\ndlrun-nosub:x:1000:\ndlrun-project:x:1002:dlrun-sub,dlrun-nosub\n",
		"etc/subuid": "dlrun-sub:100000:65536\n", "etc/subgid": "dlrun-sub:100000:65536\n",
		"etc/hosts": "127.0.0.1 localhost\n", "etc/resolv.conf": "", "init": guestInit,
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	install(t, filepath.Join(tree, "bin"), busybox, "busybox")
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(tree, "bin", applet)); err != nil {
				t.Fatal(err)
			}
		}
	}
	installAll(t, filepath.Join(tree, "usr/bin"))
	install(t, tree, filepath.Join(kernel, "overlay.ko"), "overlay.ko")
	copyTree(t, "testdata", filepath.Join(tree, "test/testdata"))
	test := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", filepath.Join(tree, "test/sessions"), ".")
	test.Env = append(os.Environ(), "CGO_ENABLED=0")
	run(t, test)
	for _, name := range []string{"tiny", "odd"} {
		dir, err := image.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		copyTree(t, dir, filepath.Join(tree, "cache"))
	}
	return tree
}
