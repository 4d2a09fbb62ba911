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
