// The caller's terminal and the pty that stands in for it inside: the front's part.
//
// While dlrun is in the foreground it is attached: the caller's terminal is raw, keys go to the pty, and what they
// mean is decided there (Ctrl-C, Ctrl-Z, line editing). In the background it is not: the terminal is neither read nor
// changed, and the command is in the background of the pty. A command that wants to read there is stopped by
// the kernel (SIGTTIN), and the front with it, as the caller's shell expects of a job. One that waits in poll is not, and
// nothing tells the front that a running job has come to the foreground: in the background it looks now and then.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

// More than a pty holds of what has been written before the command ended (Linux: 8 KiB and 4 KiB).
enum { PTY_HOLDS = 64 << 10 };

enum { BACKGROUND_MS = 250 };

struct flow {
	char data[8 << 10];
	size_t from, to;
};

static struct {
	int master; // -1 before the command has its pty
	bool ready, draining;
	bool guessed; // its modes are made up, since a shell that edits its line had those of the caller's terminal
	struct termios made_up;
	size_t drained;
	struct flow in, out;
} pty = {.master = -1};

// Returns a descriptor of its own of the controlling terminal (not to block, without a change to that of the
// caller), where fds 0 and 1 are it; else -1.
int terminal_of_caller(void)
{
	if (tcgetpgrp(STDIN_FILENO) < 0 || tcgetpgrp(STDOUT_FILENO) < 0)
		return -1;
	return open("/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

// terminal_ready reports whether the leader hears signals: it does not while it waits for the answer to LEADER_READY.
bool terminal_ready(void)
{
	return prelude.tty < 0 || pty.ready;
}

static bool in_foreground(void)
{
	return prelude.tty >= 0 && tcgetpgrp(prelude.tty) == getpgrp();
}

static bool has_modes(int fd, const struct termios *a)
{
	struct termios now;
	return !tcgetattr(fd, &now) && now.c_iflag == a->c_iflag && now.c_oflag == a->c_oflag &&
	       now.c_lflag == a->c_lflag;
}

static void attach(void)
{
	struct shared *s = prelude.shared;
	if (!in_foreground() || (s->attached && has_modes(prelude.tty, &s->raw)))
		return;
	// After a SIGSTOP a shell may give back the raw modes: those are not the caller's.
	if (!s->raw.c_cflag || !has_modes(prelude.tty, &s->raw))
		if (tcgetattr(prelude.tty, &s->saved))
			return;
	if (pty.guessed && has_modes(pty.master, &pty.made_up)) // not yet changed by the command
		tcsetattr(pty.master, TCSANOW, &s->saved);
	pty.guessed = false;
	s->raw = s->saved;
	cfmakeraw(&s->raw);
	s->attached = true;
	tcsetattr(prelude.tty, TCSANOW, &s->raw);
	terminal_resize();
}

// terminal_restore gives the caller's terminal its modes back, unless somebody has changed them since. Front and
// inside may call it: whoever survives.
void terminal_restore(void)
{
	struct shared *s = prelude.shared;
	if (!s->attached)
		return;
	sigset_t ttou, old;
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU); // a background process may set modes with it blocked
	pthread_sigmask(SIG_BLOCK, &ttou, &old);
	if (has_modes(prelude.tty, &s->raw))
		tcsetattr(prelude.tty, TCSANOW, &s->saved);
	s->attached = false;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void terminal_resize(void)
{
	struct winsize size;
	if (pty.master >= 0 && !ioctl(prelude.tty, TIOCGWINSZ, &size))
		ioctl(pty.master, TIOCSWINSZ, &size);
}

// In the background the caller's terminal has whatever modes its shell needs. The command's has the usual ones, until it comes to
// the foreground; the caller's adds the carriage returns.
static void guess_modes(void)
{
	struct termios *m = &pty.made_up;
	if (in_foreground() || tcgetattr(pty.master, m))
		return;
	m->c_iflag = (m->c_iflag | ICRNL) & ~(INLCR | IGNCR);
	m->c_oflag = (m->c_oflag | OPOST) & ~ONLCR;
	m->c_lflag |= ICANON | ISIG | IEXTEN | ECHO | ECHOE | ECHOK;
	pty.guessed = !tcsetattr(pty.master, TCSANOW, m);
}

static void tell_leader(enum what what, int sig, bool group)
{
	struct message m = {.what = what, .sig = sig, .group = group, .foreground = prelude.shared->attached};
	send(prelude.leader, &m, sizeof m, MSG_NOSIGNAL);
}

// leader_signal passes a signal on to the command by its leader.
void leader_signal(int sig, bool group)
{
	if (sig == SIGCONT && pty.master >= 0)
		attach();
	tell_leader(FRONT_SIGNAL, sig, group);
}

// The command has stopped: so does the job that the caller's shell knows.
static void stopped(int sig)
{
	bool by_terminal = sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
	if ((sig == SIGTTIN || sig == SIGTTOU) && in_foreground()) {
		attach();
		tell_leader(FRONT_SIGNAL, SIGCONT, true);
		return;
	}
	terminal_restore();
	stop_with(sig, by_terminal && pty.master >= 0);
}

static int receive(struct message *m)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = m, .iov_len = sizeof *m};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(prelude.leader, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n != sizeof *m)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&pty.master, CMSG_DATA(c), sizeof(int));
	return 1;
}

// terminal_hear takes a message of the leader, if there is one.
void terminal_hear(void)
{
	struct message m;
	int got = prelude.leader < 0 ? 0 : receive(&m);
	if (got < 0) {
		close(prelude.leader);
		prelude.leader = -1;
	}
	if (got <= 0)
		return;
	switch (m.what) {
	case LEADER_READY:
		pty.ready = true;
		fcntl(pty.master, F_SETFL, O_NONBLOCK);
		guess_modes();
		attach();
		tell_leader(FRONT_SIGNAL, 0, false);
		break;
	case LEADER_STOPPED:
		stopped(m.sig);
		break;
	case LEADER_ENDED:
		pty.draining = true;
		break;
	default:
		break;
	}
}

static bool is_empty(const struct flow *f)
{
	return f->from == f->to;
}

// Each returns false when the other side is gone for good.
static bool fill(int fd, struct flow *f)
{
	ssize_t n = read(fd, f->data, sizeof f->data);
	f->from = 0;
	f->to = n > 0 ? n : 0;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool empty(int fd, struct flow *f)
{
	ssize_t n = write(fd, f->data + f->from, f->to - f->from);
	if (n > 0)
		f->from += n;
	return n >= 0 || errno == EAGAIN || errno == EINTR;
}

static void lose_pty(void)
{
	close(pty.master);
	pty.master = -1;
	pty.in.from = pty.in.to = 0;
}

// Without the terminal there is no pty either: the kernel tells the command, as it has told us.
static void lose_tty(void)
{
	close(prelude.tty);
	prelude.tty = -1;
	prelude.shared->attached = false;
	pty.out.from = pty.out.to = 0;
	if (pty.master >= 0)
		lose_pty();
}

// terminal_poll says what to wait for, and returns for how long.
int terminal_poll(struct pollfd p[2])
{
	if (pty.master >= 0 && !prelude.shared->attached && in_foreground()) {
		attach();
		tell_leader(FRONT_SIGNAL, 0, false);
	}
	short tty = (prelude.shared->attached && is_empty(&pty.in) ? POLLIN : 0) | (is_empty(&pty.out) ? 0 : POLLOUT);
	short master = (is_empty(&pty.out) ? POLLIN : 0) | (is_empty(&pty.in) ? 0 : POLLOUT);
	p[0] = (struct pollfd){.fd = pty.master >= 0 || tty ? prelude.tty : -1, .events = tty};
	p[1] = (struct pollfd){.fd = pty.master, .events = master};
	return pty.master >= 0 && prelude.tty >= 0 && !prelude.shared->attached ? BACKGROUND_MS : -1;
}

// terminal_move copies what can be copied without waiting.
void terminal_move(const struct pollfd p[2])
{
	if (prelude.tty >= 0 && p[0].fd >= 0) {
		if ((p[0].revents & POLLIN && !fill(prelude.tty, &pty.in)) ||
		    (p[0].revents & POLLOUT && !empty(prelude.tty, &pty.out)) || p[0].revents & (POLLHUP | POLLERR))
			lose_tty();
	}
	if (pty.master >= 0 && p[1].fd >= 0) {
		if (p[1].revents & POLLOUT)
			empty(pty.master, &pty.in);
		if (p[1].revents & (POLLIN | POLLHUP) && is_empty(&pty.out) && !fill(pty.master, &pty.out))
			lose_pty();
	}
	if (!pty.draining)
		return;
	if (pty.master >= 0 && is_empty(&pty.out) && pty.drained < PTY_HOLDS) {
		if (!fill(pty.master, &pty.out))
			lose_pty();
		pty.drained += pty.out.to;
	}
	if (is_empty(&pty.out)) {
		pty.draining = false;
		terminal_restore();
		tell_leader(FRONT_DRAINED, 0, false);
	}
}
