// Joining a shared container: the inside of a rank that finds one.
//
// Nothing of Go runs here. A fork of the front enters the namespaces, by open file, and execs the command; another stays in
// the caller's namespaces, waits for it and ends its tree. The command's state must be that of one that
// libcontainer has started (test/join_test.go compares).
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// A namespace of the outer user namespace can be entered only from there, the inner one comes last.
static void enter_namespaces(const int *ns)
{
	static const int order[] = {SHARE_USER, SHARE_CGROUP, SHARE_NET, SHARE_UTS, SHARE_MNT, SHARE_INNER};
	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		if (ns[order[i]] >= 0 && setns(ns[order[i]], 0))
			fail(125, "cannot join the container");
}

// In a user namespace that was just entered all sets are full. The exec empties them where the command is not uid 0.
static void limit_capabilities(const struct letter *l)
{
	uint64_t caps = l->caps;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(caps >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (l->nested)
		return;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = caps, .permitted = caps},
		{.effective = caps >> 32, .permitted = caps >> 32},
	};
	if (syscall(SYS_capset, &header, data))
		fail(125, "cannot limit the capabilities");
}

static void run_command(struct letter *l, int leader) __attribute__((noreturn));
static void run_command(struct letter *l, int leader)
{
	setsid(); // as libcontainer does
	// The files that the command keeps are where the caller has them.
	leader = fcntl(leader, F_DUPFD_CLOEXEC, l->n ? l->fds[l->n - 1] + 1 : 3);
	if (leader < 0)
		fail(125, "cannot keep an open file");
	int keep[sizeof l->fds / sizeof *l->fds + SHARE_FILES + 1], n = 0;
	for (int i = 0; i < l->n; i++)
		keep[n++] = l->fds[i];
	for (int i = SHARE_USER; i < SHARE_FILES; i++)
		keep[n++] = prelude.share.fd[i];
	keep[n++] = leader;
	close_all_but(keep, n);
	// From the namespaces on until the exec, what runs in the container shares this process's uid: it is not to be looked into.
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	enter_namespaces(prelude.share.fd);
	for (int i = SHARE_USER; i < SHARE_FILES; i++)
		close(prelude.share.fd[i]);
	limit_capabilities(l);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail(125, "cannot give up new privileges");
	enter_directory(l->cwd);
	if (l->led)
		lead(leader, l->terminal);
	exec_command(l);
}

// Waits for the command, as package runtime does for the first rank's.
static int wait_for(pid_t command, int signals)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid == command)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		if (pid > 0)
			continue;
		struct signalfd_siginfo si;
		char none;
		struct pollfd p[] = {{.fd = signals, .events = POLLIN}, {.fd = prelude.front_alive, .events = POLLIN}};
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents)
			(void)!read(signals, &si, sizeof si);
		if (p[1].revents && read(prelude.front_alive, &none, 1) == 0) {
			terminal_restore();
			tree_end();
			if (share_leave())
				share_tidy();
			_exit(128 + SIGKILL);
		}
	}
}

// join_run is the inside of a rank that joins. letter is an open file, or -1 for that of a rank that is alike.
void join_run(const struct front *f, int letter)
{
	setpgid(0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	// What is sent to every process of a job step must not end this one before the command.
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prelude.front_alive = f->alive[0];
	close(f->alive[1]);

	struct letter l = letter >= 0 ? read_letter(letter, 0) : alike_letter();
	pid_t command = fork();
	if (command < 0)
		fail(125, "fork");
	if (command == 0)
		run_command(&l, f->leader[1]);
	prelude.shared->led = l.led;
	prelude.shared->command = command;

	// The command's files are the command's: whoever waits for their end waits for it alone.
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	sigset_t sigchld;
	sigemptyset(&sigchld);
	sigaddset(&sigchld, SIGCHLD);
	int signals = signalfd(-1, &sigchld, SFD_CLOEXEC | SFD_NONBLOCK);
	const struct share *s = &prelude.share;
	int keep[] = {prelude.front_alive, signals, prelude.tty, s->fd[SHARE_LISTEN], s->fd[SHARE_READ], s->fd[SHARE_WRITE], s->fd[SHARE_SCRATCH],
	              s->fd[SHARE_HOLD]};
	close_all_but(keep, sizeof keep / sizeof *keep);

	int code = wait_for(command, signals);
	prelude.shared->command = -1;
	tree_end();
	_exit(code);
}
