// pingpong: pairs of ranks (0 and 1, 2 and 3, …) exchange messages of growing size, both ways at a time and by turns. Rank
// 0 says "pingpong: ok".
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 10, LARGEST = 2 << 20 };

int main(int argc, char **argv)
{
	int rank, ranks, bad = 0, all = 0;
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	int peer = rank ^ 1;
	char *mine = malloc(LARGEST), *theirs = malloc(LARGEST);
	for (int n = 1; n <= LARGEST && peer < ranks; n *= 8)
		for (int round = 0; round < ROUNDS; round++) {
			memset(mine, rank + round, n);
			memset(theirs, 0, n);
			if (round % 2) {
				MPI_Sendrecv(mine, n, MPI_CHAR, peer, n, theirs, n, MPI_CHAR, peer, n, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
			} else if (rank < peer) {
				MPI_Send(mine, n, MPI_CHAR, peer, n, MPI_COMM_WORLD);
				MPI_Recv(theirs, n, MPI_CHAR, peer, n, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
			} else {
				MPI_Recv(theirs, n, MPI_CHAR, peer, n, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
				MPI_Send(mine, n, MPI_CHAR, peer, n, MPI_COMM_WORLD);
			}
			bad += theirs[0] != (char)(peer + round) || memcmp(theirs, theirs + 1, n - 1);
		}
	bad += ranks < 2;
	MPI_Allreduce(&bad, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	if (rank == 0)
		printf(all ? "pingpong: %d wrong\n" : "pingpong: ok\n", all);
	MPI_Finalize();
	return all != 0;
}
