// exchange A B: swaps the names A and B, over and over, until it is killed.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	while (argc == 3 && !renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE))
		;
	perror("exchange");
	return 1;
}
