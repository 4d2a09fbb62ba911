// The leader of the command's session, where there is one: with a terminal, and as process 1 of a pid namespace.
//
// With a terminal: the kernel stops no group that has no parent in its session outside of itself (an orphaned one),
// so a command that led its session could not be stopped by Ctrl-Z. As process 1: it would get no signal that it has no handler for, and would
// have to reap. The leader is the parent in both cases. It has every signal blocked: what is meant for the
// command comes from the front by a socket, so nothing arrives twice.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
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

// The command's files are the command's: whoever waits for their end waits for it alone.
static void keep_only(int front, bool terminal)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = terminal ? 1 : 0; fd < 3; fd++)
		dup2(null, fd);
	dup2(front, 3);
	if (syscall(SYS_close_range, 4, ~0U, 0)) // before Linux 5.9
		for (int fd = 4, end = sysconf(_SC_OPEN_MAX); fd < end; fd++)
			close(fd);
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
