// The front: the process that the caller sees. It passes signals on, waits, and returns the code.
#define _GNU_SOURCE
#include "prelude.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int code_of(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// slurmstepd signals every process of a step one by one, the command included.
static bool sender_is_slurmstepd(const siginfo_t *si)
{
	char path[64], comm[16] = "";
	if (si->si_code != SI_USER || si->si_pid <= 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d/comm", si->si_pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, comm, sizeof comm - 1);
	close(fd);
	return n >= 10 && !memcmp(comm, "slurmstepd", 10);
}

// A signal that came when the outside had ended and the command had not begun.
static int pending;

static void pass_on(const siginfo_t *si, pid_t outside)
{
	pid_t command = prelude.shared->command;
	int sig = si->si_signo;
	bool terminal = si->si_code == SI_KERNEL; // Ctrl-C and its kin, sent to the whole foreground group

	if (command <= 0) {
		// The outside is in the caller's group and has had what the terminal sent.
		if (outside > 0 && !terminal)
			kill(outside, sig);
		if (outside <= 0)
			pending = sig;
		if (sig == SIGTSTP)
			raise(SIGSTOP);
		return;
	}
	switch (sig) {
	case SIGTSTP:
		// The command leads a session of its own, whose group is orphaned: the kernel drops
		// a SIGTSTP there.
		kill(-command, SIGSTOP);
		raise(SIGSTOP);
		break;
	case SIGCONT:
		kill(-command, SIGCONT);
		break;
	default:
		if (!sender_is_slurmstepd(si))
			kill(terminal ? -command : command, sig);
	}
}

void front_run(pid_t outside, pid_t inside, const sigset_t *set)
{
	int code_outside = 0, code_inside = 0;

	while (outside > 0 || inside > 0) {
		siginfo_t si;
		if (sigwaitinfo(set, &si) < 0)
			continue;
		if (si.si_signo != SIGCHLD) {
			pass_on(&si, outside);
			continue;
		}
		// The inside sends a SIGCHLD of its own once the command is there.
		if (pending && prelude.shared->command > 0) {
			kill(prelude.shared->command, pending);
			pending = 0;
		}
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == outside) {
				outside = 0;
				code_outside = code_of(status);
			} else if (pid == inside) {
				inside = 0;
				code_inside = code_of(status);
			}
		}
	}
	// The inside has ended its own tree; where it was killed, its children are ours now.
	tree_end();
	_exit(code_outside ? code_outside : code_inside);
}

static void kill_listed(FILE *f)
{
	int pid;
	while (fscanf(f, "%d", &pid) == 1)
		kill(pid, SIGKILL);
	fclose(f);
}

// The kernel lists children by the thread that made them (CONFIG_PROC_CHILDREN); false where it does not.
static bool kill_children_of_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	if (!tasks)
		return false;
	bool listed = false;
	struct dirent *e;
	while ((e = readdir(tasks))) {
		char path[64];
		snprintf(path, sizeof path, "/proc/self/task/%.20s/children", e->d_name);
		FILE *f = fopen(path, "re");
		if (!f)
			continue;
		listed = true;
		kill_listed(f);
	}
	closedir(tasks);
	return listed;
}

static void kill_children_by_scan(void)
{
	DIR *proc = opendir("/proc");
	if (!proc)
		return;
	struct dirent *e;
	while ((e = readdir(proc))) {
		char path[64], line[512];
		int pid = atoi(e->d_name), parent;
		if (pid <= 0)
			continue;
		snprintf(path, sizeof path, "/proc/%d/stat", pid);
		FILE *f = fopen(path, "re");
		if (!f)
			continue;
		char *end = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL; // the name before it may hold anything
		if (end && sscanf(end, ") %*c %d", &parent) == 1 && parent == getpid())
			kill(pid, SIGKILL);
		fclose(f);
	}
	closedir(proc);
}

// tree_end kills and reaps every descendant. A subreaper inherits the children of those that it
// kills, so rounds over the direct children reach them all: background jobs, setsid, double forks.
void tree_end(void)
{
	for (int round = 0; round < 5000; round++) {
		pid_t pid;
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return;
		if (!kill_children_of_threads())
			kill_children_by_scan();
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}
