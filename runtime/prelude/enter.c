// The last step of a run, inside the container: become the caller again, then exec the command.
//
// libcontainer execs /proc/self/exe (its sealed copy of this binary) as
//     EXE __enter UID:GID:NESTED:FILTERED:IGNORED FDS CWD HINT CMD [ARG...]
// FDS is "N,N,…": the numbers that fds 3, 4, … had for the caller. With FILTERED the next fd after
// these holds a seccomp program. IGNORED is the mask of signals to ignore.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void fail(int code, const char *what) __attribute__((noreturn));
static void fail(int code, const char *what)
{
	fprintf(stderr, "dlrun: %s: %s\n", what, strerror(errno));
	_exit(code);
}

// A namespace whose one id is the caller's own. Mapping the parent's uid 0 needs CAP_SETFCAP there
// since Linux 5.12. The bounding set comes back full in a new namespace: it is emptied here.
static void become_caller(unsigned uid, unsigned gid)
{
	char map[64];
	if (unshare(CLONE_NEWUSER))
		fail(125, "cannot make the inner user namespace");
	(void)!write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "%u 0 1\n", uid);
	if (write_file("/proc/self/uid_map", map))
		fail(125, "cannot map the user id");
	snprintf(map, sizeof map, "%u 0 1\n", gid);
	if (write_file("/proc/self/gid_map", map))
		fail(125, "cannot map the group id");
	for (int cap = 0; !prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); cap++)
		;
}

// Moves fds 3, 4, … to the numbers that the caller's variables name (PMI_FD, MAKEFLAGS). Each number
// is at least 3, and they come sorted: from the highest down none is overwritten before it moves.
static void renumber(const int *want, int n)
{
	for (int i = n - 1; i >= 0; i--)
		if (want[i] != 3 + i) {
			if (dup2(3 + i, want[i]) < 0)
				fail(125, "cannot keep an open file");
			close(3 + i);
		}
}

// The program is read at the start and loaded at the end: a profile may forbid all that lies between.
static struct sock_fprog read_filter(int fd)
{
	static struct sock_filter program[BPF_MAXINSNS];
	ssize_t n = read(fd, program, sizeof program);
	if (n <= 0 || n % sizeof *program)
		fail(125, "cannot read the seccomp filter");
	close(fd);
	return (struct sock_fprog){.len = n / sizeof *program, .filter = program};
}

// Process 1 of a pid namespace gets no signal that it has no handler for: a parent of the command
// takes that place, passes signals on and reaps.
static pid_t init_child;
static void to_child(int sig)
{
	kill(init_child, sig);
}
static void become_init(void)
{
	sigset_t all, old;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	init_child = fork();
	if (init_child < 0)
		fail(125, "fork");
	if (init_child == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		return;
	}
	static const int sigs[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH};
	for (size_t i = 0; i < sizeof sigs / sizeof *sigs; i++)
		signal(sigs[i], to_child);
	sigprocmask(SIG_SETMASK, &old, NULL);
	for (;;) {
		int status;
		pid_t pid = wait(&status);
		if (pid == init_child)
			_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	}
}

// Execs file as execvp would, without its detour through a shell for files of no known format.
// Returns the errno that tells most.
static int exec_by_path(char **argv)
{
	if (!*argv[0])
		return ENOENT;
	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, environ);
		return errno;
	}
	const char *path = getenv("PATH");
	int told = ENOENT;
	for (const char *p = path ? path : ""; *p;) {
		size_t n = strcspn(p, ":");
		char *file;
		if (asprintf(&file, "%.*s/%s", (int)(n ? n : 1), n ? p : ".", argv[0]) < 0)
			return ENOMEM;
		struct stat st;
		execve(file, argv, environ);
		// Directories answer EACCES too; one of that name in PATH does not hide "not found".
		if (errno != ENOENT && errno != ENOTDIR && !(errno == EACCES && !stat(file, &st) && S_ISDIR(st.st_mode)))
			told = errno;
		free(file);
		if (told != ENOENT && told != EACCES)
			return told;
		p += n + (p[n] == ':');
	}
	return told;
}

static void cannot_exec(char **argv, int err, const char *hint) __attribute__((noreturn));
static void cannot_exec(char **argv, int err, const char *hint)
{
	struct stat st;
	bool path = strchr(argv[0], '/');
	if (err == ENOENT && path && !stat(argv[0], &st)) {
		fprintf(stderr, "dlrun: %s: its interpreter is not in the image\n", argv[0]);
		_exit(126);
	}
	if (err == ENOENT || err == ENOTDIR) {
		fprintf(stderr, "dlrun: %s: command not found%s\n", argv[0], path ? "" : " in the image's PATH");
		if (*hint)
			fprintf(stderr, "hint: %s\n", hint);
		_exit(127);
	}
	if (err == EACCES && path && !stat(argv[0], &st) && S_ISDIR(st.st_mode))
		err = EISDIR;
	fprintf(stderr, "dlrun: %s: cannot be executed: %s\n", argv[0], strerror(err));
	_exit(126);
}

void enter_command(int argc, char **argv)
{
	unsigned uid, gid, nested, filtered;
	uint64_t ignored;
	if (argc < 7 || sscanf(argv[2], "%u:%u:%u:%u:%" SCNx64, &uid, &gid, &nested, &filtered, &ignored) != 5) {
		fprintf(stderr, "dlrun: __enter is dlrun's own last step and cannot be called\n");
		_exit(125);
	}
	char *cwd = argv[4], *hint = argv[5], **command = argv + 6;
	int fds[64], n = 0;
	for (char *s = strtok(argv[3], ","); s && n < 64; s = strtok(NULL, ","))
		fds[n++] = atoi(s);
	struct sock_fprog filter = {0};
	if (filtered)
		filter = read_filter(3 + n);
	if (nested)
		become_caller(uid, gid);
	if (chdir(cwd)) {
		fprintf(stderr, "dlrun: cannot enter the working directory %s: %s\n", cwd, strerror(errno));
		_exit(125);
	}
	renumber(fds, n);
	if (getpid() == 1)
		become_init();
	for (int sig = 1; sig < 64; sig++)
		if (ignored >> (sig - 1) & 1)
			signal(sig, SIG_IGN);
	if (filtered && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		fail(125, "cannot load the seccomp filter");
	cannot_exec(command, exec_by_path(command), hint);
}
