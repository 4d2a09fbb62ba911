// slurmstepd PID: signals PID and every descendant of it, one by one, as slurmstepd does for a job step, with each
// signal whose number is a line of stdin. Like that it is there as long as the step.
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

struct process {
	pid_t pid, parent;
};

static size_t list(struct process *all, size_t room)
{
	size_t n = 0;
	DIR *proc = opendir("/proc");
	for (struct dirent *e; proc && n < room && (e = readdir(proc));) {
		char path[300], line[1024];
		snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
		FILE *f = atoi(e->d_name) > 0 ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		char *end = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
		if (end && sscanf(end, ") %*c %d", &all[n].parent) == 1)
			all[n++].pid = atoi(e->d_name);
		fclose(f);
	}
	closedir(proc);
	return n;
}

static void signal_below(const struct process *all, size_t n, pid_t pid, int sig)
{
	kill(pid, sig);
	for (size_t i = 0; i < n; i++)
		if (all[i].parent == pid)
			signal_below(all, n, all[i].pid, sig);
}

int main(int argc, char **argv)
{
	static struct process all[1 << 16];
	int sig;
	while (argc == 2 && scanf("%d", &sig) == 1)
		signal_below(all, list(all, sizeof all / sizeof *all), atoi(argv[1]), sig);
	return argc != 2;
}
