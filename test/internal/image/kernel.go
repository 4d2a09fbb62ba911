package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Kernel returns a directory with the kernel of Debian 12, Linux 6.1: vmlinuz, and overlay.ko, the one part that dlrun
// needs and that is a module. Nothing is installed: a kernel package would make itself the one that is booted next.
func Kernel(ctx context.Context) (string, error) {
	return cached(ctx, "kernel-6.1", func(ctx context.Context, dir, scratch string) error {
		// Without root mmdebstrap packs with the tree's own tar.
		tree := filepath.Join(scratch, "kernel.tar")
		out, err := exec.CommandContext(ctx, "mmdebstrap", "--quiet", "--variant=extract", "--include=linux-image-cloud-amd64,tar", "bookworm", tree).CombinedOutput()
		if err != nil {
			return fmt.Errorf("mmdebstrap: %w: %s", err, out)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		out, err = exec.CommandContext(ctx, "tar", "--extract", "--file="+tree, "--directory="+dir, "--wildcards", "--transform=s,.*/,,;s,^vmlinuz-.*,vmlinuz,",
			"./boot/vmlinuz-*", "*/overlay.ko").CombinedOutput()
		if err != nil {
			return fmt.Errorf("tar: %w: %s", err, out)
		}
		return nil
	})
}
