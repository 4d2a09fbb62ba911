// A container that the ranks of a job step share: the part of each rank's front.
//
// Each front in it holds its namespaces, its scratch directory and the socket at which others ask to join, all as open
// files, so that no front is special once it is in: whoever is left answers, and the kernel takes from the count whoever is killed.
// The namespaces were checked by package runtime/rendezvous before they came here. What asks to join is
// answered only if it is the caller's, and not in a container: it is in this front's own user namespace.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// How long one who has connected may take to say what it wants.
enum { PATIENCE_MS = 100 };

#define share (prelude.share)

// receive_order takes one order with its files: 1, 0 when there is none, -1 when there will be none.
int receive_order(int from, struct order *o, int *fds, int room)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(SHARE_FILES * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = o, .iov_len = sizeof *o};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	memset(o, 0, sizeof *o);
	for (int i = 0; i < room; i++)
		fds[i] = -1;
	ssize_t n = recvmsg(from, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < ORDER_HEAD)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	o->text[sizeof o->text - 1] = 0;
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return 1;
}

static const char *copy_word(char *to, size_t room, const char *from)
{
	snprintf(to, room, "%s", from);
	return from + strlen(from) + 1;
}

// share_take adds what an order brings to what is there.
void share_take(const struct order *o, const int *fds, int n)
{
	for (int i = 0, next = 0; i < SHARE_FILES && next < n; i++)
		if (o->flags >> i & 1)
			share.fd[i] = fds[next++];
	if (!o->text[0])
		return;
	const char *text = copy_word(share.socket, sizeof share.socket, o->text);
	text = copy_word(share.claim, sizeof share.claim, text);
	copy_word(share.key, sizeof share.key, text);
}

// share_is_complete says whether others can be let in.
bool share_is_complete(void)
{
	return share.fd[SHARE_LISTEN] >= 0 && share.fd[SHARE_SCRATCH] >= 0 && share.fd[SHARE_MNT] >= 0;
}

static bool is_ours(int client)
{
	struct ucred who;
	socklen_t size = sizeof who;
	char path[64];
	struct stat its, own;
	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &size) || who.uid != geteuid())
		return false;
	snprintf(path, sizeof path, "/proc/%d/ns/user", who.pid);
	return !stat(path, &its) && !stat("/proc/self/ns/user", &own) && its.st_dev == own.st_dev && its.st_ino == own.st_ino;
}

static void let_in(int client)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(SHARE_FILES * sizeof(int))];
	} control = {0};
	struct order o = {.what = ORDER_SHARE};
	int fds[SHARE_FILES], n = 0;
	for (int i = 0; i < SHARE_FILES; i++)
		if (share.fd[i] >= 0 && i != SHARE_CLAIM) {
			o.flags |= 1u << i;
			fds[n++] = share.fd[i];
		}
	struct iovec iov = {.iov_base = &o, .iov_len = ORDER_HEAD};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	sendmsg(client, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// share_serve answers all who wait. Whoever is refused sees the end of the connection.
void share_serve(void)
{
	int client;
	while ((client = accept4(share.fd[SHARE_LISTEN], NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		char key[sizeof share.key];
		struct pollfd p = {.fd = client, .events = POLLIN};
		ssize_t n = is_ours(client) && poll(&p, 1, PATIENCE_MS) > 0 ? recv(client, key, sizeof key, MSG_DONTWAIT) : -1;
		if (n > 0 && n == (ssize_t)strlen(share.key) && !memcmp(key, share.key, n))
			let_in(client);
		close(client);
	}
}

// share_leave returns whether nobody is left: true once, for one of those who leave at the same time. The container has
// no name then: who comes from now on makes a new one. What remains is the scratch directory.
bool share_leave(void)
{
	char token;
	if (share.claim[0])
		unlink(share.claim);
	if (share.fd[SHARE_WRITE] < 0)
		return false;
	close(share.fd[SHARE_WRITE]);
	share.fd[SHARE_WRITE] = -1;
	struct pollfd p = {.fd = share.fd[SHARE_READ], .events = POLLIN};
	bool last = poll(&p, 1, 0) > 0 && p.revents & POLLHUP && read(p.fd, &token, 1) == 1;
	// As long as this end of it is open, nobody takes the name for a dead one.
	if (last)
		unlink(share.socket);
	close(share.fd[SHARE_LISTEN]);
	return last;
}

// share_tidy empties the scratch directory, by this program: it is Go that knows how.
void share_tidy(void)
{
	int status, scratch = share.fd[SHARE_SCRATCH];
	if (scratch < 0)
		return;
	pid_t pid = fork();
	if (pid == 0) {
		if (scratch == 3)
			fcntl(3, F_SETFD, 0);
		else
			dup2(scratch, 3);
		execl("/proc/self/exe", "dlrun", "__tidy", (char *)NULL);
		_exit(125);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}
