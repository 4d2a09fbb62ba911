package main

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dlrun/dlrun/internal/lazy"
)

// jobServer finds the two files of GNU make's job server, as make up to 4.3 and since 4.4 writes them.
var jobServer = lazy.Regexp(`--jobserver-(?:auth|fds)=(\d+),(\d+)`)

// isCallers reports whether fd came from the caller. All that dlrun has opened itself is closed by an exec, and what
// came by one is not: a number that the caller names without having it open must not lead to a file of ours.
func isCallers(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC == 0
}

// keptFiles returns the open files above 2 that the command keeps, ascending: the first n from 3 on, those of
// make's job server, and the one that PMI_FD names (Slurm's PMI2 and Hydra).
func keptFiles(n int) []int {
	var fds []int
	for fd := 3; fd < 3+n; fd++ {
		fds = append(fds, fd)
	}
	named := []string{os.Getenv("PMI_FD")}
	if m := jobServer().FindStringSubmatch(os.Getenv("MAKEFLAGS")); m != nil {
		named = append(named, m[1:]...)
	}
	for _, s := range named {
		if fd, err := strconv.Atoi(s); err == nil && fd > 2 {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return slices.DeleteFunc(slices.Compact(fds), func(fd int) bool { return !isCallers(fd) })
}
