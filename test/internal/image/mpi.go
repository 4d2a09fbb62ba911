package image

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// mpiImage is an image of an MPI as Debian has it: the programs in mpi/, compiled by compiler, busybox, and of the host's
// own packages what these load, directly or from the plugin directories. A few seconds and 30 MB; a Debian with the packages
// takes minutes and 500 MB.
func mpiImage(compiler string, plugins ...string) recipe {
	return func(ctx context.Context, dir, scratch string) error {
		root := filepath.Join(scratch, "root")
		bin := filepath.Join(root, "usr", "bin")
		for _, d := range []string{bin, filepath.Join(root, "etc")} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		objects, err := compilePrograms(ctx, compiler, scratch, bin)
		if err != nil {
			return err
		}
		for _, p := range plugins {
			err := filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				if strings.Contains(filepath.Base(path), ".so") {
					objects = append(objects, path)
				}
				return copyInto(ctx, root, path)
			})
			if err != nil {
				return fmt.Errorf("plugins of %s: %w", compiler, err)
			}
		}
		for _, o := range objects {
			libraries, err := loaded(ctx, o)
			if err != nil {
				return err
			}
			if err := copyInto(ctx, root, libraries...); err != nil {
				return err
			}
		}
		tarball := filepath.Join(scratch, "root.tar")
		for _, args := range [][]string{
			{"/sbin/ldconfig", "-X", "-r", root}, // the cache, as every distribution has it
			{"tar", "--create", "--sort=name", "--owner=0", "--group=0", fmt.Sprintf("--mtime=@%d", epoch.Unix()), "--file=" + tarball, "--directory=" + root, "."},
		} {
			if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", args[0], err, out)
			}
		}
		return Write(dir, scratch, config, Gzip, shell(), Tarball(tarball))
	}
}

// compilePrograms returns the binaries in bin.
func compilePrograms(ctx context.Context, compiler, scratch, bin string) ([]string, error) {
	entries, err := source.ReadDir("mpi")
	if err != nil {
		return nil, err
	}
	var programs []string
	for _, e := range entries {
		text, err := source.ReadFile("mpi/" + e.Name())
		if err != nil {
			return nil, err
		}
		file, program := filepath.Join(scratch, e.Name()), filepath.Join(bin, strings.TrimSuffix(e.Name(), ".c"))
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return nil, err
		}
		if out, err := exec.CommandContext(ctx, compiler, "-O2", "-o", program, file).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", compiler, err, out)
		}
		programs = append(programs, program)
	}
	return programs, nil
}

// loaded lists the files that the dynamic linker loads for an object, itself included.
func loaded(ctx context.Context, object string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ldd", object).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", object, err)
	}
	var list []string
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") && word != object+":" {
			list = append(list, word)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// copyInto copies files to the same paths below root; links become what they lead to.
func copyInto(ctx context.Context, root string, files ...string) error {
	if len(files) == 0 {
		return nil
	}
	args := append([]string{"--parents", "--dereference", "--no-clobber"}, files...)
	if out, err := exec.CommandContext(ctx, "cp", append(args, root)...).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return nil
}
