// impostor listen SOCKET: answers those who ask to join a container with its own namespaces, until it is killed.
// impostor ask SOCKET KEY: asks to join, and says whether it is let in.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../runtime/prelude/prelude.h"

static void answer(int client, int listener)
{
	struct {
		uint32_t what, files;
		char text[8];
	} order = {ORDER_SHARE, 1 << SHARE_LISTEN | 1 << SHARE_READ | 1 << SHARE_WRITE | 1 << SHARE_SCRATCH | 1 << SHARE_USER | 1 << SHARE_MNT, ""};
	char key[64];
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(6 * sizeof(int))];
	} control = {0};
	int ends[2];
	(void)!pipe(ends);
	int fds[] = {listener, ends[0], ends[1], open(".", O_RDONLY), open("/proc/self/ns/user", O_RDONLY), open("/proc/self/ns/mnt", O_RDONLY)};
	struct iovec iov = {&order, ORDER_HEAD};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(c), fds, sizeof fds);
	(void)!recv(client, key, sizeof key, 0);
	sendmsg(client, &h, MSG_NOSIGNAL);
	for (size_t i = 1; i < sizeof fds / sizeof *fds; i++)
		close(fds[i]);
}

int main(int argc, char **argv)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	if (argc < 3)
		return 2;
	snprintf(at.sun_path, sizeof at.sun_path, "%s", argv[2]);
	if (argc == 4) {
		char reply[64];
		if (connect(s, (struct sockaddr *)&at, sizeof at)) {
			perror("connect");
			return 1;
		}
		(void)!send(s, argv[3], strlen(argv[3]), MSG_NOSIGNAL); // it may be refused already
		puts(recv(s, reply, sizeof reply, 0) > 0 ? "let in" : "refused");
		return 0;
	}
	if (bind(s, (struct sockaddr *)&at, sizeof at) || listen(s, 64)) {
		perror("bind");
		return 1;
	}
	puts("listens");
	fflush(stdout);
	for (;;) {
		int client = accept(s, NULL, NULL);
		answer(client, s);
		close(client);
	}
}
