// The front: the process that the caller sees. It passes signals on, waits, and returns the code.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int code_of(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static struct front run;
static int ended_by; // a signal that came before the command was there, 0 for none

static bool sender_is(const struct signalfd_siginfo *si, const char *name)
{
	char path[64], comm[16] = "";
	if (si->ssi_code != SI_USER || !si->ssi_pid)
		return false;
	snprintf(path, sizeof path, "/proc/%u/comm", si->ssi_pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, comm, sizeof comm - 1);
	close(fd);
	return n > 0 && !strncmp(comm, name, strlen(name));
}

// Whether the command has had this signal already.
static bool has_had(const struct signalfd_siginfo *si)
{
	static uint32_t timeout;
	static uint64_t sent;
	// slurmstepd signals every process of a step one by one, the command included.
	if (sender_is(si, "slurmstepd"))
		return true;
	// timeout(1) signals its child, and then the group that both are in.
	if (!sender_is(si, "timeout\n"))
		return false;
	if (si->ssi_pid != timeout)
		sent = 0;
	timeout = si->ssi_pid;
	bool again = sent >> (si->ssi_signo - 1) & 1;
	sent |= (uint64_t)1 << (si->ssi_signo - 1);
	return again;
}

// Whether sig does to the process what it does by default.
static bool by_default(pid_t pid, int sig)
{
	char path[64], line[128];
	uint64_t set, other = 0;
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "SigIgn: %" SCNx64, &set) == 1 || sscanf(line, "SigCgt: %" SCNx64, &set) == 1)
			other |= set;
	if (f)
		fclose(f);
	return !(other >> (sig - 1) & 1);
}

// Stops this process, or its group, as sig does by default. Where the kernel does not (the group is orphaned: no
// shell could continue it), the command goes on.
void stop_with(int sig, bool group)
{
	sigset_t set, pending;
	sigemptyset(&set);
	sigaddset(&set, sig);
	kill(group ? 0 : getpid(), sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL); // here it stops
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigpending(&pending);
	if (!sigismember(&pending, SIGCONT))
		kill(getpid(), SIGCONT);
}

// Before there is a command, a signal does to the run as a whole what it does to a process by default.
static void early(int sig, bool terminal)
{
	// The outside is in the caller's group and has had what the terminal sent.
	if (run.outside > 0 && !terminal)
		kill(run.outside, sig);
	switch (sig) {
	case SIGWINCH:
		break;
	case SIGTSTP:
		if (run.inside > 0)
			kill(-run.inside, SIGSTOP);
		if (prelude.shared->command > 0)
			kill(prelude.shared->command, SIGSTOP);
		stop_with(SIGTSTP, false);
		break;
	case SIGCONT:
		if (run.inside > 0)
			kill(-run.inside, SIGCONT);
		if (prelude.shared->command > 0)
			kill(prelude.shared->command, SIGCONT);
		break;
	default:
		if (!ended_by)
			close(run.alive[1]);
		ended_by = sig;
	}
}

static void pass_on(const struct signalfd_siginfo *si)
{
	pid_t command = prelude.shared->command;
	int sig = si->ssi_signo;
	bool terminal = si->ssi_code == SI_KERNEL; // Ctrl-C and its kin, sent to the whole foreground group

	if (command < 0)
		return; // it has ended, and its code stands
	terminal_hear();
	// Until it has exec'ed, whoever has its pid may handle signals in other ways: that closes the leader's socket,
	// or a leader takes them from there.
	if (command == 0 || (prelude.leader >= 0 && !prelude.shared->led) || !terminal_ready())
		return early(sig, terminal);
	if (sig == SIGWINCH && prelude.tty >= 0) {
		terminal_resize();
		if (terminal)
			return; // the pty tells its own foreground group
	}
	if (has_had(si))
		return;
	if (prelude.shared->led)
		return leader_signal(sig, terminal || sig == SIGCONT);
	switch (sig) {
	case SIGTSTP:
		// The command leads a session of its own, whose group is orphaned: there the kernel drops a SIGTSTP
		// that nobody handles.
		if (by_default(command, SIGTSTP)) {
			kill(-command, SIGSTOP);
			stop_with(SIGTSTP, false);
			break;
		}
		kill(terminal ? -command : command, SIGTSTP);
		break;
	case SIGCONT:
		kill(-command, SIGCONT);
		break;
	default:
		kill(terminal ? -command : command, sig);
	}
}

// Starts an inside in place of one that has nothing to do. Returns true in the new process.
static bool start_inside(int letter, int peer, int in, int out, bool inner)
{
	if (run.inside > 0)
		kill(run.inside, SIGKILL); // it waits, and has nothing yet
	uid_t uid = geteuid();
	gid_t gid = getegid();
	run.inside = fork();
	if (run.inside < 0)
		fail(125, "fork");
	if (run.inside > 0) {
		setpgid(run.inside, run.inside); // whoever comes first
		return false;
	}
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	close(in);
	close(out);
	if (letter >= 0)
		join_run(&run, letter);
	become_inside(&run, peer);
	if (inner && !prelude.failed)
		prelude.inner = namespaces_make_inner(uid, gid);
	return true;
}

// Does what outside or inside ask for. Returns true in a process that is to be the inside.
static bool take_orders(void)
{
	struct order o;
	int fds[SHARE_FILES], got = 0;
	while (prelude.control >= 0 && (got = receive_order(prelude.control, &o, fds, SHARE_FILES, NULL, MSG_DONTWAIT)) > 0) {
		if (o.what == ORDER_SHARE) {
			share_take(&o, fds, SHARE_FILES);
			continue;
		}
		int letter = o.what == ORDER_JOIN ? fds[0] : -1;
		if (!ended_by && start_inside(letter, fds[0], fds[1], fds[2], o.flags & INSIDE_INNER))
			return true;
		for (int i = 0; i < 3; i++)
			close(fds[i]);
	}
	if (got < 0 && errno == EMFILE) {
		share_name(&o); // the claim is to be removed
		give_up("cannot take over what to run");
	}
	if (got < 0) {
		close(prelude.control);
		prelude.control = -1;
	}
	return false;
}

static void reap(int *code_outside, int *code_inside)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == run.outside) {
			run.outside = 0;
			*code_outside = code_of(status);
			drop_program();
		} else if (pid == run.inside) {
			run.inside = 0;
			*code_inside = code_of(status);
		}
	}
}

// front_run returns in a process that is to be the inside, and else ends this one.
void front_run(const struct front *f, const sigset_t *set)
{
	int code_outside = 0, code_inside = 0;
	run = *f;

	// Whoever waits for the command to close its own need not wait for the front.
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	int signals = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	while (run.outside > 0 || run.inside > 0) {
		struct pollfd p[] = {
			{.fd = signals, .events = POLLIN},
			{.fd = prelude.leader, .events = POLLIN},
			{.fd = prelude.control, .events = POLLIN},
			{.fd = share_is_complete() ? prelude.share.fd[SHARE_LISTEN] : -1, .events = POLLIN},
			{.fd = share_is_complete() ? prelude.share.fd[SHARE_ALIKE] : -1, .events = POLLIN},
			{0}, {0}, // the terminal's
		};
		if (poll(p, sizeof p / sizeof *p, terminal_poll(p + 5)) < 0)
			continue;
		if (p[1].revents)
			terminal_hear();
		terminal_move(p + 5);
		if (p[2].revents && take_orders())
			return;
		if (p[3].revents || p[4].revents)
			share_serve();
		struct signalfd_siginfo si;
		if (!p[0].revents || read(signals, &si, sizeof si) != sizeof si)
			continue;
		if (si.ssi_signo != SIGCHLD) {
			pass_on(&si);
			continue;
		}
		reap(&code_outside, &code_inside);
		if (run.outside > 0)
			continue;
		if (take_orders()) // its last
			return;
		alike_ends();
		if (run.leader[1] >= 0)
			close(run.leader[1]); // its end tells that the command is there
		run.leader[1] = -1;
	}
	terminal_restore();
	// The inside has ended its own tree; where it was killed, its children are ours now.
	tree_end();
	if (share_is_complete())
		share_serve(); // who waits need not make a container of its own
	if (share_leave())
		share_tidy();
	_exit(ended_by ? 128 + ended_by : code_outside ? code_outside : code_inside);
}

// front_join is front_run for a rank that has nobody to ask: it joins the container of one that is alike.
void front_join(struct front *f, const sigset_t *set)
{
	f->inside = fork();
	if (f->inside < 0)
		give_up("fork");
	if (f->inside == 0)
		join_run(f, -1);
	setpgid(f->inside, f->inside); // whoever comes first
	close(f->leader[1]);
	f->leader[1] = -1;
	front_run(f, set);
	_exit(125); // not reached: there is no other process to become
}
