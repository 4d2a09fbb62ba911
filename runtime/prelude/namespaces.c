// Entering the namespaces of a run: once, while the process has one thread.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int err = errno;
	close(fd);
	errno = err;
	return n < 0 ? -1 : 0;
}

static void failed(enum step step)
{
	prelude.failed = step;
	prelude.err = errno;
}

// libcontainer insists on a cgroup hierarchy at /sys/fs/cgroup. One of our own namespace, read-only,
// serves it alike on v1, v2, hybrid hosts and where there is none, keeps it from making groups in
// a hierarchy that is delegated to the user, and shows the job's own limits inside.
static void mount_cgroup(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
	if (!mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, NULL))
		return;
	if (errno != ENOENT && errno != ENOTDIR)
		return; // libcontainer falls back to what the host has
	if (!mount("tmpfs", "/sys", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755") &&
	    !mkdir("/sys/fs", 0755) && !mkdir("/sys/fs/cgroup", 0755))
		(void)!mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, NULL);
}

void namespaces_enter(void)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP))
		return failed(STEP_UNSHARE);
	// Supplementary groups stay as they are: nothing may call setgroups from here on.
	if (write_file("/proc/self/setgroups", "deny"))
		return failed(STEP_SETGROUPS);
	// libcontainer's nsexec wants to be uid 0; the command gets its own uid back in a second,
	// nested namespace (enter.c).
	snprintf(map, sizeof map, "0 %u 1\n", uid);
	if (write_file("/proc/self/uid_map", map))
		return failed(STEP_UIDMAP);
	snprintf(map, sizeof map, "0 %u 1\n", gid);
	if (write_file("/proc/self/gid_map", map))
		return failed(STEP_GIDMAP);
	// Slave, so that what the host's automounter mounts later shows up inside.
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL))
		return failed(STEP_MOUNTS);
	mount_cgroup();
}

// map_ids makes the one id of the parent namespace the caller's own here.
int map_ids(uid_t uid, gid_t gid)
{
	char map[64];
	(void)!write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "%u 0 1\n", uid);
	if (write_file("/proc/self/uid_map", map))
		return -1;
	snprintf(map, sizeof map, "%u 0 1\n", gid);
	return write_file("/proc/self/gid_map", map);
}

// namespaces_make_inner makes the inner user namespace ahead of the command: those who join must find it also when the
// command ends at once. Mapping the parent's uid 0 needs CAP_SETFCAP there since Linux 5.12. Returns an open file
// of it, or -1.
int namespaces_make_inner(uid_t uid, gid_t gid)
{
	int made[2], seen[2], status, ns = -1;
	char path[64], ok = 0;
	if (pipe2(made, O_CLOEXEC) || pipe2(seen, O_CLOEXEC))
		return -1;
	pid_t child = fork();
	if (child == 0) {
		close(seen[1]);
		ok = !unshare(CLONE_NEWUSER) && !map_ids(uid, gid);
		(void)!write(made[1], &ok, 1);
		(void)!read(seen[0], &ok, 1);
		_exit(0);
	}
	close(made[1]);
	if (child > 0 && read(made[0], &ok, 1) == 1 && ok) {
		snprintf(path, sizeof path, "/proc/%d/ns/user", child);
		ns = open(path, O_RDONLY | O_CLOEXEC);
	}
	close(made[0]);
	close(seen[0]);
	close(seen[1]);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return ns;
}
