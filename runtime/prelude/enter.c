// The last step of a run, inside the container: become the caller again, then exec the command.
//
// libcontainer execs /proc/self/exe (its sealed copy of this binary) as `EXE __enter FD`. FD holds the letter of
// package runtime: the length of a seccomp program (uint64), the program, then strings that end in NUL:
//     UID:GID:NESTED:IGNORED:BLOCKED:LED:TERMINAL:CAPS FDS CWD HINT ARGC CMD [ARG...] [K=V...]
// FDS is "N,N,…", the numbers that fds 3, 4, … had for the caller; IGNORED and BLOCKED are masks of signals; LED
// is whether the command gets a leader (leader.c), TERMINAL whether a pty. The fd after the letter is the leader's socket, which
// tells the front by its end that the command is there; where NESTED says that the inner user namespace is
// there already, the next is that. CAPS are the capabilities of one who joins without such a namespace (join.c).
// None of it passes through libcontainer's JSON, which cannot hold bytes that are no UTF-8.
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
#include <unistd.h>

// The inner user namespace, whose one id is the caller's own. The bounding set comes back full in a new namespace: it is
// emptied here.
static void become_caller(const struct letter *l, int inner)
{
	if (l->nested == NESTED_JOIN) {
		if (setns(inner, CLONE_NEWUSER))
			fail(125, "cannot enter the inner user namespace");
		close(inner);
	} else if (unshare(CLONE_NEWUSER) || map_ids(l->uid, l->gid)) {
		fail(125, "cannot make the inner user namespace");
	}
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

// Read at the start: a seccomp profile may forbid all that lies between.
struct letter read_letter(int fd, size_t from)
{
	struct letter l = {0};
	struct stat st;
	if (fstat(fd, &st))
		fail(125, "cannot read what to run");
	size_t size = st.st_size - from;
	char *text = malloc(size + 1), *end = text + size;
	for (char *at = text; text && at < end;) {
		ssize_t n = pread(fd, at, end - at, from + (at - text));
		if (n <= 0)
			fail(125, "cannot read what to run");
		at += n;
	}
	close(fd);
	uint64_t program;
	memcpy(&program, text, sizeof program);
	*end = 0;
	l.filter = program;
	l.program = text + sizeof program;

	size_t words = 0;
	text += sizeof program + program;
	for (char *at = text; at < end; at++)
		words += !*at;
	char **word = calloc(words + 2, sizeof *word);
	size_t i = 0;
	for (char *at = text; i < words; at += strlen(at) + 1)
		word[i++] = at;
	if (sscanf(word[0], "%u:%u:%u:%" SCNx64 ":%" SCNx64 ":%u:%u:%" SCNx64, &l.uid, &l.gid, &l.nested, &l.ignored, &l.blocked,
	           &l.led, &l.terminal, &l.caps) != 8)
		fail(125, "cannot read who to be");
	for (char *s = strtok(word[1], ","); s && l.n < 64; s = strtok(NULL, ","))
		l.fds[l.n++] = atoi(s);
	l.cwd = word[2], l.hint = word[3];
	size_t args = atol(word[4]);
	l.command = word + 5;
	l.env = l.command + args + 1;
	memmove(l.env, l.command + args, (words - 5 - args) * sizeof *word); // room for the NULL after the arguments
	l.command[args] = NULL;
	return l;
}

// Execs file as execvp would, without its detour through a shell for files of no known format.
// Returns the errno that tells most.
static int exec_by_path(char **argv, char **env)
{
	if (!*argv[0])
		return ENOENT;
	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, env);
		return errno;
	}
	const char *path = NULL;
	for (char **e = env; *e; e++)
		if (!strncmp(*e, "PATH=", 5))
			path = *e + 5;
	int told = ENOENT, there;
	for (const char *p = path ? path : ""; *p;) {
		size_t n = strcspn(p, ":");
		char *file;
		if (asprintf(&file, "%.*s/%s", (int)(n ? n : 1), n ? p : ".", argv[0]) < 0)
			return ENOMEM;
		struct stat st;
		execve(file, argv, env);
		// Directories answer EACCES too; one of that name in PATH does not hide "not found".
		int err = errno;
		there = !stat(file, &st);
		if (err == ENOENT && there && S_ISREG(st.st_mode) && st.st_mode & 0111)
			told = ELIBACC; // its interpreter is not
		else if (err != ENOENT && err != ENOTDIR && !(err == EACCES && there && S_ISDIR(st.st_mode)))
			told = err;
		free(file);
		if (told != ENOENT && told != EACCES)
			return told;
		p += n + (p[n] == ':');
	}
	return told;
}

// shown is a name, which may be an image's, without what would steer the terminal or begin a line.
static const char *shown(const char *name)
{
	char *copy = strdup(name);
	for (unsigned char *c = (unsigned char *)copy; c && *c; c++)
		if (*c < ' ' || *c == 0x7f)
			*c = '?';
	return copy ? copy : "";
}

static void cannot_exec(char **argv, int err, const char *hint) __attribute__((noreturn));
static void cannot_exec(char **argv, int err, const char *hint)
{
	struct stat st;
	bool path = strchr(argv[0], '/');
	if (err == ELIBACC || (err == ENOENT && path && !stat(argv[0], &st))) {
		fprintf(stderr, "dlrun: %s: its interpreter is not in the image\n", shown(argv[0]));
		_exit(126);
	}
	if (err == ENOENT || err == ENOTDIR) {
		fprintf(stderr, "dlrun: %s: command not found%s\n", shown(argv[0]), path ? "" : " in the image's PATH");
		if (*hint)
			fprintf(stderr, "hint: %s\n", hint);
		_exit(127);
	}
	if (err == EACCES && path && !stat(argv[0], &st) && S_ISDIR(st.st_mode))
		err = EISDIR;
	fprintf(stderr, "dlrun: %s: cannot be executed: %s\n", shown(argv[0]), strerror(err));
	_exit(126);
}

static void set_signals(uint64_t ignored, uint64_t blocked)
{
	sigset_t set;
	sigemptyset(&set);
	for (int sig = 1; sig <= 64; sig++) {
		if (ignored >> (sig - 1) & 1)
			signal(sig, SIG_IGN);
		if (blocked >> (sig - 1) & 1)
			sigaddset(&set, sig);
	}
	sigprocmask(SIG_SETMASK, &set, NULL);
}

// exec_command is where all ways to a command meet: in its namespaces, with its files where they belong.
void exec_command(struct letter *l)
{
	struct sock_fprog filter = {.len = l->filter / sizeof(struct sock_filter), .filter = l->program};
	set_signals(l->ignored, l->blocked);
	if (filter.len && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		fail(125, "cannot load the seccomp filter");
	cannot_exec(l->command, exec_by_path(l->command, l->env), l->hint);
}

void enter_directory(const char *cwd)
{
	if (!chdir(cwd))
		return;
	fprintf(stderr, "dlrun: cannot enter the working directory %s: %s\n", cwd, strerror(errno));
	_exit(125);
}

void enter_command(int argc, char **argv)
{
	int at = argc == 3 ? atoi(argv[2]) : 0;
	if (at < 3) {
		fprintf(stderr, "dlrun: __enter is dlrun's own last step and cannot be called\n");
		_exit(125);
	}
	struct letter l = read_letter(at, 0);
	if (l.nested)
		become_caller(&l, at + 2);
	enter_directory(l.cwd);
	// Out of the way of the numbers that the caller's variables name.
	int leader = fcntl(at + 1, F_DUPFD_CLOEXEC, l.n ? l.fds[l.n - 1] + 1 : 3);
	if (leader < 0)
		fail(125, "cannot keep an open file");
	close(at + 1);
	if (l.led)
		lead(leader, l.terminal);
	renumber(l.fds, l.n);
	exec_command(&l);
}
