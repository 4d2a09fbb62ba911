// Asking to join a shared container, and whom to believe.
//
// An answer is believed only if its sender is the caller's, alive, and in the caller's own user namespace, where no
// process of a container is, and if the namespaces that come with it belong to each other and to the caller.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static enum answer doubt(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
static enum answer doubt(char *why, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vsnprintf(why, WHY, format, list);
	va_end(list);
	return ANSWER_UNTRUSTED;
}

static bool same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static enum answer believe_sender(const struct ucred *who, int own, char *why)
{
	char path[64];
	struct stat theirs, ours;
	if (who->uid != geteuid())
		return doubt(why, "uid %u", who->uid);
	// From here on the number is the sender's, or the check of its life fails. No pidfds before Linux 5.3.
	int pidfd = syscall(SYS_pidfd_open, who->pid, 0);
	if (pidfd < 0 && errno == ESRCH)
		return ANSWER_GONE;
	snprintf(path, sizeof path, "/proc/%d/ns/user", who->pid);
	int err = stat(path, &theirs) ? errno : 0;
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	bool gone = err == ENOENT || (pidfd >= 0 && poll(&ended, 1, 0) > 0);
	if (pidfd >= 0)
		close(pidfd);
	if (gone)
		return ANSWER_GONE;
	if (err || fstat(own, &ours))
		return doubt(why, "process %d: %s", who->pid, strerror(err ? err : errno));
	if (!same(&theirs, &ours))
		return doubt(why, "process %d is in another user namespace", who->pid);
	return ANSWER_OK;
}

static bool is_below(int ns, unsigned long request, int above)
{
	struct stat a, b;
	int up = ioctl(ns, request);
	if (up < 0)
		return false;
	bool match = !fstat(up, &a) && !fstat(above, &b) && same(&a, &b);
	close(up);
	return match;
}

// The outer user namespace must be the caller's and made in the caller's own, the inner one made in it; it must own all others.
static enum answer believe_files(const int *fds, int own, char *why)
{
	static const int needed[] = {SHARE_LISTEN, SHARE_READ, SHARE_WRITE, SHARE_SCRATCH, SHARE_USER, SHARE_MNT};
	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		if (fds[needed[i]] < 0)
			return doubt(why, "file %d is missing", needed[i]);
	uid_t uid;
	if (ioctl(fds[SHARE_USER], NS_GET_OWNER_UID, &uid))
		return doubt(why, "its user namespace: %s", strerror(errno));
	if (uid != geteuid())
		return doubt(why, "its user namespace belongs to uid %u", uid);
	for (int i = SHARE_USER; i < SHARE_FILES; i++) {
		bool user = i == SHARE_USER || i == SHARE_INNER;
		if (fds[i] >= 0 && !is_below(fds[i], user ? NS_GET_PARENT : NS_GET_USERNS, i == SHARE_USER ? own : fds[SHARE_USER]))
			return doubt(why, "namespace %d is not the container's", i);
	}
	struct stat st;
	if (fstat(fds[SHARE_SCRATCH], &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return doubt(why, "its scratch directory is not the caller's");
	return ANSWER_OK;
}

static enum answer believe(const struct ucred *who, const int *fds, char *why)
{
	int own = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
	if (own < 0)
		return doubt(why, "/proc/self/ns/user: %s", strerror(errno));
	enum answer a = believe_sender(who, own, why);
	if (a == ANSWER_OK)
		a = believe_files(fds, own, why);
	close(own);
	return a;
}

// connect_to returns a socket to whoever listens at path, or -1 with errno.
int connect_to(const char *path, int flags)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof at.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(at.sun_path, path);
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
	const int on = 1; // the kernel says who sends
	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_PASSCRED, &on, sizeof on))
		return s;
	while (connect(s, (struct sockaddr *)&at, sizeof at))
		if (errno != EINTR) { // a signal of the Go runtime's own
			int err = errno;
			close(s);
			errno = err;
			return -1;
		}
	return s;
}

// share_ask connects to socket, says what is to be said, and waits for the answer, with the signal mask unless that is NULL. fds has room for SHARE_FILES and is filled
// where the answer is ANSWER_OK; why has room for WHY and is filled where it is ANSWER_UNTRUSTED, errno where it is ANSWER_ERROR.
enum answer share_ask(const char *socket, const void *say, size_t n, const sigset_t *mask, struct order *o, int *fds, char *why)
{
	for (int i = 0; i < SHARE_FILES; i++)
		fds[i] = -1;
	int s = connect_to(socket, 0);
	if (s < 0)
		return ANSWER_ERROR;
	struct ucred who = {.uid = -1};
	int got[SHARE_FILES], files = 0;
	int received = send(s, say, n, MSG_NOSIGNAL) < 0 ? -1 : 0;
	struct pollfd p = {.fd = s, .events = POLLIN};
	while (!received && mask && ppoll(&p, 1, NULL, mask) < 0 && errno == EINTR)
		; // what ends a process ends this one here, where it holds nothing
	if (!received)
		received = receive_order(s, o, got, SHARE_FILES, &who, 0);
	enum answer a = received > 0 ? ANSWER_OK : ANSWER_GONE;
	for (int i = 0; i < SHARE_FILES && received > 0; i++)
		if (o->flags >> i & 1 && files < SHARE_FILES && got[files] >= 0)
			fds[i] = got[files++];
	if (a == ANSWER_OK && o->what != ORDER_SHARE)
		a = doubt(why, "it says something else");
	if (a == ANSWER_OK)
		a = believe(&who, fds, why);
	close(s); // until here the sender stays
	for (int i = 0; a != ANSWER_OK && received > 0 && i < SHARE_FILES; i++)
		if (got[i] >= 0)
			close(got[i]);
	return a;
}
