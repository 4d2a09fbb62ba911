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
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

// How long one who has connected may take to say what it wants.
enum { PATIENCE_MS = 100, BACKLOG = 4096 };

#define share (prelude.share)

// receive_order takes one order with its files, and says in who, unless that is NULL, whose it is: 1, 0 when there is none,
// -1 when there will be none, or this process has no room for its files (errno is EMFILE).
int receive_order(int from, struct order *o, int *fds, int room, struct ucred *who, int flags)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(SHARE_FILES * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = o, .iov_len = sizeof *o};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	memset(o, 0, sizeof *o);
	for (int i = 0; i < room; i++)
		fds[i] = -1;
	ssize_t n;
	do
		n = recvmsg(from, &h, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	for (struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_type == SCM_CREDENTIALS && who)
			memcpy(who, CMSG_DATA(c), sizeof *who);
		for (size_t i = 0; c->cmsg_type == SCM_RIGHTS && i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if ((int)i < room)
				fds[i] = fd;
			else
				close(fd);
		}
	}
	if (n >= ORDER_HEAD && !(h.msg_flags & MSG_CTRUNC)) {
		o->text[sizeof o->text - 1] = 0;
		return 1;
	}
	for (int i = 0; i < room; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	errno = n >= ORDER_HEAD ? EMFILE : 0;
	return -1;
}

static const char *copy_word(char *to, size_t room, const char *from, const char *end)
{
	snprintf(to, room, "%s", from < end ? from : "");
	return from < end ? from + strlen(from) + 1 : end;
}

// share_take adds what an order brings to what is there.
void share_take(const struct order *o, const int *fds, int n)
{
	for (int i = 0, next = 0; i < SHARE_FILES && next < n; i++)
		if (o->flags >> i & 1)
			share.fd[i] = fds[next++];
	share_name(o);
	if (share.fd[SHARE_LETTER] >= 0)
		alike_begins();
}

// share_name takes the text of an order.
void share_name(const struct order *o)
{
	const char *text = o->text, *end = o->text + sizeof o->text;
	if (!text[0])
		return;
	text = copy_word(share.socket, sizeof share.socket, text, end);
	text = copy_word(share.claim, sizeof share.claim, text, end);
	copy_word(share.key, sizeof share.key, text, end);
}

// publish_at makes a socket that listens at dir/name, or fails with EEXIST. As in package rendezvous, it listens before it has
// its name: nobody takes it for a dead one.
int publish_at(const char *dir, const char *name)
{
	char path[PATH];
	struct sockaddr_un early = {.sun_family = AF_UNIX};
	snprintf(path, sizeof path, "%s/%s", dir, name);
	snprintf(early.sun_path, sizeof early.sun_path, "%s/new-%d", dir, getpid());
	unlink(early.sun_path); // of a process that had this number and was killed
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -1;
	int failed = bind(s, (struct sockaddr *)&early, sizeof early) || listen(s, BACKLOG) || link(early.sun_path, path) ? errno : 0;
	unlink(early.sun_path);
	if (failed) {
		close(s);
		errno = failed;
		return -1;
	}
	return s;
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

// Those who were let in and have not said by closing their ends that they have looked at whom they believe: it must be
// there until then.
static int looking[64];
static size_t n_looking;

static void wait_for_looking(int ms) // in all, where one of them sleeps
{
	size_t left = 0;
	for (size_t i = 0; i < n_looking; i++) {
		struct pollfd p = {.fd = looking[i], .events = POLLRDHUP};
		if (poll(&p, 1, ms) > 0)
			close(looking[i]);
		else
			looking[left++] = looking[i], ms = 0;
	}
	n_looking = left;
}

// let_in gives a rank what it needs to join; one that is alike gets the words too, which it does not know yet.
static void let_in(int client, bool alike)
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
	if (alike) {
		iov.iov_len = sizeof o;
		snprintf(o.text, sizeof o.text, "%s%c%s%c%s", share.socket, 0, share.claim, 0, share.key);
	}
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	sendmsg(client, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// accept_one returns whoever asks next, or -1. Where there is no room for an open file it makes some, or gives up the socket,
// which would be ready for ever: those who ask go their own way.
static int accept_one(int *listener)
{
	for (;;) {
		wait_for_looking(0);
		int client = accept4(*listener, NULL, NULL, SOCK_CLOEXEC);
		if (client >= 0 || (errno != EMFILE && errno != ENFILE))
			return client;
		if (!n_looking) {
			close(*listener);
			*listener = -1;
			return -1;
		}
		close(looking[--n_looking]);
	}
}

// Answers all who wait and say what is expected. Whoever is refused sees the end of the connection.
static void serve(int *listener, const void *expected, size_t n, bool alike)
{
	int client;
	char *said = malloc(n + 1); // one more, to see what is too long
	while (said && *listener >= 0 && (client = accept_one(listener)) >= 0) {
		struct pollfd p = {.fd = client, .events = POLLIN};
		bool welcome = n && is_ours(client) && poll(&p, 1, PATIENCE_MS) > 0 && recv(client, said, n + 1, MSG_DONTWAIT) == (ssize_t)n &&
		               !memcmp(said, expected, n);
		if (welcome)
			let_in(client, alike);
		if (welcome && n_looking < sizeof looking / sizeof *looking)
			looking[n_looking++] = client;
		else
			close(client);
	}
	free(said);
}

void share_serve(void)
{
	struct card card = alike_card();
	serve(&share.fd[SHARE_LISTEN], share.key, strlen(share.key), false);
	// Who has no claim cannot tell the others how theirs are called.
	serve(&share.fd[SHARE_ALIKE], card.text, share.claim[0] ? card.n : 0, true);
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
	wait_for_looking(PATIENCE_MS);
	close(share.fd[SHARE_WRITE]);
	share.fd[SHARE_WRITE] = -1;
	struct pollfd p = {.fd = share.fd[SHARE_READ], .events = POLLIN};
	bool last = poll(&p, 1, 0) > 0 && p.revents & POLLHUP && read(p.fd, &token, 1) == 1;
	// As long as this end of it is open, nobody takes the name for a dead one.
	if (last) {
		unlink(share.socket);
		if (share.alike[0])
			unlink(share.alike);
	}
	close(share.fd[SHARE_LISTEN]);
	close(share.fd[SHARE_ALIKE]); // whoever waits there waits for nobody
	share.fd[SHARE_LISTEN] = share.fd[SHARE_ALIKE] = -1;
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
