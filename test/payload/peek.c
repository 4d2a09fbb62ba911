// peek PID ADDRESS: prints the string at that address of another process, by process_vm_readv, the way in which the
// ranks of an MPI program copy from each other. Without arguments: prints the own PID and ADDRESS of a string, and waits.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static char text[] = "seen from outside";

int main(int argc, char **argv)
{
	if (argc == 1) {
		printf("%d %p\n", getpid(), (void *)text);
		fflush(stdout);
		pause();
	}
	char copy[sizeof text] = "";
	struct iovec to = {copy, sizeof copy}, from = {argc == 3 ? (void *)strtoul(argv[2], NULL, 0) : NULL, sizeof copy};
	if (process_vm_readv(atoi(argv[1]), &to, 1, &from, 1, 0) != sizeof copy) {
		perror("process_vm_readv");
		return 1;
	}
	puts(copy);
}
