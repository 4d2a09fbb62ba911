// signals [MS]: prints "ready", then a line "SIGNO SENDER" for each signal it gets. With MS it ends MS
// milliseconds after the first.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t had;

static void note(int sig, siginfo_t *si, void *context)
{
	char line[32];
	(void)context;
	had = 1;
	(void)!write(1, line, snprintf(line, sizeof line, "%d %d\n", sig, si->si_code == SI_KERNEL ? 0 : si->si_pid));
}

int main(int argc, char **argv)
{
	struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigfillset(&a.sa_mask);
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		if (sig != SIGKILL && sig != SIGSTOP && sig != SIGCHLD)
			sigaction(sig, &a, NULL);
	(void)!write(1, "ready\n", 6);
	while (argc < 2 || !had)
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	long ms = atol(argv[1]);
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};
	while (nanosleep(&left, &left))
		;
}
