// The end of a tree: what a subreaper does about the processes below it.
#define _GNU_SOURCE
#include "prelude.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Levels that one round reaches. Each holds two open files.
enum { DEPTH = 16 };

// The kernel lists children by the thread that made them (CONFIG_PROC_CHILDREN); false where it does not. The deepest
// are killed first: a process that has ended no longer tells its children.
static bool kill_below(const char *process, int depth)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%.20s/task", process);
	DIR *tasks = depth < DEPTH ? opendir(path) : NULL;
	if (!tasks)
		return false;
	bool listed = false;
	struct dirent *e;
	while ((e = readdir(tasks))) {
		snprintf(path, sizeof path, "/proc/%.20s/task/%.20s/children", process, e->d_name);
		FILE *f = fopen(path, "re");
		if (!f)
			continue;
		listed = true;
		char child[16];
		while (fscanf(f, "%15s", child) == 1) {
			kill_below(child, depth + 1);
			kill(atoi(child), SIGKILL);
		}
		fclose(f);
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

// tree_end kills and reaps every descendant. A subreaper inherits the children of those that it kills, so rounds
// reach them all: background jobs, setsid, double forks. As a rule one is enough, lest this process is killed
// between two.
void tree_end(void)
{
	for (int round = 0; round < 5000; round++) {
		pid_t pid;
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return;
		if (!kill_below("self", 0))
			kill_children_by_scan();
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}
