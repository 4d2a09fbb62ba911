// The leader of the command's session, where there is one: with a terminal, and as process 1 of a pid namespace.
//
// With a terminal: the kernel stops no group that has no parent in its session outside of itself (an orphaned one),
// so a command that led its session could not be stopped by Ctrl-Z. As process 1: it would get no signal that it has no handler for, and would
// have to reap. The leader is the parent in both cases. It has every signal blocked: what is meant for the
// command comes from the front by a socket, so nothing arrives twice.
#define _GNU_SOURCE
#include "prelude.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell_front(int front, enum what what, int sig, int pass)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct message m = {.what = what, .sig = sig};
	struct iovec iov = {.iov_base = &m, .iov_len = sizeof m};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	if (pass >= 0) {
		h.msg_control = &control;
		h.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof pass);
	}
	sendmsg(front, &h, MSG_NOSIGNAL);
}

// Waits for a message; false when the front is gone.
static bool hear_front(int front, struct message *m)
{
	ssize_t n;
	while ((n = recv(front, m, sizeof *m, 0)) < 0 && errno == EINTR)
		;
	return n == sizeof *m;
}

// Makes a pty of the container's own /dev/pts the terminal of this session, in place of those of fds 0-2 that are
// terminals. Returns whether the command starts in its foreground.
static bool take_pty(int front)
{
	struct termios modes;
	struct winsize size;
	bool have_modes = !tcgetattr(0, &modes), have_size = !ioctl(0, TIOCGWINSZ, &size);

	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0, slave;
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock))
		fail(125, "cannot make a terminal at /dev/ptmx");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	if (slave < 0 || ioctl(slave, TIOCSCTTY, 0))
		fail(125, "cannot make a terminal at /dev/pts");
	if (have_modes)
		tcsetattr(slave, TCSANOW, &modes);
	if (have_size)
		ioctl(slave, TIOCSWINSZ, &size);
	for (int fd = 0; fd < 3; fd++)
		if (isatty(fd))
			dup2(slave, fd);
	close(slave);

	struct message m;
	tell_front(front, LEADER_READY, 0, master);
	close(master);
	if (!hear_front(front, &m))
		_exit(137);
	return m.foreground;
}

static int ascending(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

// Before Linux 5.9 the open ones are looked up: their numbers may be above a limit that was lowered since.
static void close_between(unsigned from, unsigned to)
{
	if (from > to || !syscall(SYS_close_range, from, to, 0))
		return;
	DIR *open = opendir("/proc/self/fd");
	struct dirent *e;
	while (open && (e = readdir(open))) {
		unsigned fd = atoi(e->d_name);
		if (fd >= from && fd <= to && (int)fd != dirfd(open))
			close(fd);
	}
	if (open)
		closedir(open);
}

// close_all_but closes what is not in keep, from 3 on; negative ones do not count.
void close_all_but(const int *keep, int n)
{
	int sorted[n];
	memcpy(sorted, keep, n * sizeof *keep);
	qsort(sorted, n, sizeof *sorted, ascending);
	unsigned from = 3;
	for (int i = 0; i < n; i++)
		if (sorted[i] >= (int)from) {
			close_between(from, sorted[i] - 1);
			from = sorted[i] + 1;
		}
	close_between(from, ~0U);
}

// The command's files are the command's: whoever waits for their end waits for it alone.
static void keep_only(int front, bool terminal)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = terminal ? 1 : 0; fd < 3; fd++)
		dup2(null, fd);
	dup2(front, 3);
	close_all_but((const int[]){3}, 1);
}

static void end(int status, bool terminal) __attribute__((noreturn));
static void end(int status, bool terminal)
{
	struct message m;
	tell_front(3, LEADER_ENDED, 0, -1);
	while (terminal && hear_front(3, &m) && m.what != FRONT_DRAINED)
		;
	_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void reap(pid_t command, bool terminal)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid != command)
			continue;
		if (WIFSTOPPED(status))
			tell_front(3, LEADER_STOPPED, WSTOPSIG(status), -1);
		else
			end(status, terminal);
	}
}

// pass_keys gives the command the signals of keys that were pressed when the pty had no other group than the leader's yet.
static void pass_keys(pid_t command)
{
	sigset_t keys;
	siginfo_t si;
	sigemptyset(&keys);
	sigaddset(&keys, SIGINT);
	sigaddset(&keys, SIGQUIT);
	sigaddset(&keys, SIGTSTP);
	while (sigtimedwait(&keys, &si, &(struct timespec){0}) > 0)
		if (si.si_code == SI_KERNEL)
			kill(-command, si.si_signo);
}

// lead splits the command from its leader; it returns in the command's process, in a group of its own.
void lead(int front, bool terminal)
{
	sigset_t all, sigchld, old;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	bool foreground = terminal && take_pty(front);
	pid_t command = fork();
	if (command < 0)
		fail(125, "fork");
	if (command == 0) {
		setpgid(0, 0);
		if (foreground)
			tcsetpgrp(0, getpid());
		sigprocmask(SIG_SETMASK, &old, NULL);
		return;
	}
	setpgid(command, command);
	if (foreground && !tcsetpgrp(0, command))
		pass_keys(command);
	prctl(PR_SET_DUMPABLE, 0); // the command's uid, but no seccomp filter: not to be traced by it
	keep_only(front, terminal);

	sigemptyset(&sigchld);
	sigaddset(&sigchld, SIGCHLD);
	struct pollfd p[] = {{.fd = 3, .events = POLLIN}, {.fd = signalfd(-1, &sigchld, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN}};
	for (;;) {
		struct signalfd_siginfo si;
		struct message m;
		reap(command, terminal);
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			(void)!read(p[1].fd, &si, sizeof si);
		if (!p[0].revents)
			continue;
		if (!hear_front(3, &m)) {
			p[0].fd = -1; // the inside ends us all
			continue;
		}
		if (m.foreground)
			tcsetpgrp(0, command);
		if (m.sig)
			kill(m.group ? -command : command, m.sig);
	}
}
