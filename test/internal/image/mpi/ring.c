// ring: a token goes round all ranks, small, then in sizes for which MPI changes its ways. Every rank looks at every byte. Rank 0
// says "ring of N on M nodes: ok".
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void wrong(int rank, const char *what)
{
	fprintf(stderr, "rank %d: %s\n", rank, what);
	MPI_Abort(MPI_COMM_WORLD, 1);
}

int main(int argc, char **argv)
{
	static const int sizes[] = {1, 4 << 10, 128 << 10, 4 << 20};
	int rank, ranks, local, leaders;
	MPI_Comm node;
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &ranks);
	if (ranks < 2)
		wrong(rank, "alone: the ranks have not found each other");
	MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
	MPI_Comm_rank(node, &local);
	int leads = local == 0;
	MPI_Allreduce(&leads, &leaders, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		int n = sizes[s], next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
		unsigned char *token = malloc(n);
		for (int i = 0; i < n; i++)
			token[i] = i * 7 + s;
		if (rank == 0) {
			MPI_Send(token, n, MPI_BYTE, next, 0, MPI_COMM_WORLD);
			memset(token, 0xff, n);
		}
		MPI_Recv(token, n, MPI_BYTE, previous, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		for (int i = 0; i < n; i++)
			if (token[i] != (unsigned char)(i * 7 + s))
				wrong(rank, "a wrong byte");
		if (rank != 0)
			MPI_Send(token, n, MPI_BYTE, next, 0, MPI_COMM_WORLD);
		free(token);
	}
	if (rank == 0)
		printf("ring of %d on %d nodes: ok\n", ranks, leaders);
	MPI_Finalize();
}
