// oldkernel [--no-overlay] VERSION CMD [ARG...]
//
// Runs CMD as a kernel of VERSION (4.18, 5.14, 6.1, …) would: a seccomp filter answers ENOSYS to each system call that is younger.
// What a filter cannot see, the words that a call points to, a process beside CMD reads and answers for:
//
//     fsconfig(lowerdir+)         before 6.8 it is refused; before 6.5 it is taken and means nothing, unless a comma is in it
//     fsetxattr(user.*) on tmpfs  before 6.6 it is refused
//     overlay                     refused by --no-overlay, as for ordinary users before 5.11
//
// CMD keeps the pid, the parent and the streams of the caller. Nothing else differs but no_new_privs, which the filter of an
// ordinary user needs: what a kernel does with the calls that it has is this kernel's.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "no architecture that this knows"
#endif

// A version is a number: 4.18 is 418, 6.1 is 601.
#define V(major, minor) ((major) * 100 + (minor))

// The system calls of 424 and above, which have the same numbers on every architecture, and the version that brought
// them. What is above the last is younger than all.
static const struct {
	int first, last, since;
} calls[] = {
	{424, 427, V(5, 1)},  // pidfd_send_signal, io_uring_setup, io_uring_enter, io_uring_register
	{428, 433, V(5, 2)},  // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
	{434, 435, V(5, 3)},  // pidfd_open, clone3
	{436, 436, V(5, 9)},  // close_range
	{437, 438, V(5, 6)},  // openat2, pidfd_getfd
	{439, 439, V(5, 8)},  // faccessat2
	{440, 440, V(5, 10)}, // process_madvise
	{441, 441, V(5, 11)}, // epoll_pwait2
	{442, 442, V(5, 12)}, // mount_setattr
	{443, 443, V(5, 14)}, // quotactl_fd
	{444, 446, V(5, 13)}, // landlock_create_ruleset, landlock_add_rule, landlock_restrict_self
	{447, 447, V(5, 14)}, // memfd_secret
	{448, 448, V(5, 15)}, // process_mrelease
	{449, 449, V(5, 16)}, // futex_waitv
	{450, 450, V(5, 17)}, // set_mempolicy_home_node
	{451, 451, V(6, 5)},  // cachestat
	{452, 453, V(6, 6)},  // fchmodat2, map_shadow_stack
	{454, 456, V(6, 7)},  // futex_wake, futex_wait, futex_requeue
	{457, 461, V(6, 8)},  // statmount, listmount, lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules
	{462, 462, V(6, 10)}, // mseal
	{463, 466, V(6, 13)}, // setxattrat, getxattrat, listxattrat, removexattrat
	{467, 467, V(6, 15)}, // open_tree_attr
	{468, 469, V(6, 17)}, // file_getattr, file_setattr
};
enum { CALLS = sizeof calls / sizeof *calls, FSOPEN = 430, FSCONFIG = 431 };

static int version;
static bool no_overlay;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct sock_filter program[8 * CALLS];
static unsigned short length;

static void add(struct sock_filter i) { program[length++] = i; }
static void load(unsigned offset) { add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); }
static void answer(unsigned action) { add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action)); }

// on_call lets the next n instructions see the call nr alone.
static void on_call(unsigned nr, unsigned char n) { add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, n)); }

static void write_program(void)
{
	const unsigned missing = SECCOMP_RET_ERRNO | ENOSYS, nr = offsetof(struct seccomp_data, nr);

	load(offsetof(struct seccomp_data, arch));
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0));
	answer(SECCOMP_RET_ALLOW);
	load(nr);
	for (int i = 0; i < CALLS; i++)
		for (int call = calls[i].first; call <= calls[i].last && calls[i].since > version; call++) {
			on_call(call, 1);
			answer(missing);
		}
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, calls[CALLS - 1].last, 0, 1));
	answer(missing);
	if (version < V(5, 8)) { // statx knows no mount id: asked for it alone, it has nothing to tell
		on_call(SYS_statx, 4);
		load(offsetof(struct seccomp_data, args[3]));
		add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x1000, 0, 1));
		answer(missing);
		load(nr);
	}
	if (no_overlay) {
		on_call(SYS_mount, 1);
		answer(SECCOMP_RET_USER_NOTIF);
		on_call(FSOPEN, 1);
		answer(SECCOMP_RET_USER_NOTIF);
	}
	if (version < V(6, 8)) {
		on_call(FSCONFIG, 1);
		answer(SECCOMP_RET_USER_NOTIF);
	}
	if (version < V(6, 6)) {
		on_call(SYS_fsetxattr, 1);
		answer(SECCOMP_RET_USER_NOTIF);
	}
	answer(SECCOMP_RET_ALLOW);
}

// word reads a short string of a process.
static int word(pid_t pid, __u64 at, char *buf, size_t size)
{
	char path[64];
	memset(buf, 0, size);
	if (!at)
		return 0;
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = pread(fd, buf, size - 1, at); // less, where it meets a page that is not there
	close(fd);
	return n > 0 ? 0 : -1;
}

static bool on_tmpfs(pid_t pid, int fd)
{
	char path[64];
	struct statfs fs;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
	return !statfs(path, &fs) && fs.f_type == 0x01021994;
}

// judge answers one call. What cannot be read is EIO: nothing shall pass for an older kernel's answer that is not.
static struct seccomp_notif_resp judge(const struct seccomp_notif *call)
{
	struct seccomp_notif_resp r = {.id = call->id};
	const __u64 *args = call->data.args;
	pid_t pid = call->pid;
	char text[32], value[4096];
	int failed = 0, is = 0;

	switch (call->data.nr) {
	case SYS_mount:
		failed = word(pid, args[2], text, sizeof text);
		if ((is = !strcmp(text, "overlay")))
			r.error = -EPERM;
		break;
	case FSOPEN:
		failed = word(pid, args[0], text, sizeof text);
		if ((is = !strcmp(text, "overlay")))
			r.error = -EPERM;
		break;
	case FSCONFIG:
		failed = word(pid, args[2], text, sizeof text);
		if ((is = !strcmp(text, "lowerdir+"))) { // 0: done
			failed |= word(pid, args[3], value, sizeof value);
			if (version >= V(6, 5) || strchr(value, ','))
				r.error = -EINVAL;
		}
		break;
	case SYS_fsetxattr:
		failed = word(pid, args[1], text, sizeof text);
		if ((is = !strncmp(text, "user.", 5) && on_tmpfs(pid, args[0])))
			r.error = -EOPNOTSUPP;
		break;
	}
	if (failed)
		r.error = -EIO;
	else if (!is)
		r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	return r;
}

// beside answers calls until no process has the filter any more.
static void beside(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};
	while (poll(&p, 1, -1) >= 0 || errno == EINTR) {
		if (p.revents & POLLHUP)
			return;
		struct seccomp_notif call = {0};
		if (!(p.revents & POLLIN) || ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			continue;
		struct seccomp_notif_resp r = judge(&call);
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
	}
}

// start_beside forks twice, so that CMD gets no child that it did not make, and returns a socket for the listener.
static int start_beside(void)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid) {
		waitpid(pid, NULL, 0);
		close(pair[0]);
		return pair[1];
	}
	if (fork())
		_exit(0);
	setsid();
	close(pair[1]);
	int null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 1024; fd++) // the caller waits for the end of pipes
		if (fd < 3)
			dup2(null, fd);
		else if (fd != pair[0])
			close(fd);
	(void)!chdir("/");
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct msghdr m = {
		.msg_iov = &(struct iovec){&byte, 1}, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
	};
	if (recvmsg(pair[0], &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m)) {
		int listener;
		memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof listener);
		close(pair[0]);
		beside(listener);
	}
	_exit(0);
}

static void hand_over(int socket, int listener)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct msghdr m = {
		.msg_iov = &(struct iovec){"", 1}, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control,
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof listener);
	memcpy(CMSG_DATA(c), &listener, sizeof listener);
	if (sendmsg(socket, &m, 0) != 1)
		die("sendmsg");
	close(socket);
	close(listener);
}

int main(int argc, char **argv)
{
	int major, minor;
	char *name = argv[0];
	if (argc > 1 && !strcmp(argv[1], "--no-overlay"))
		no_overlay = true, argc--, argv++;
	if (argc < 3 || sscanf(argv[1], "%d.%d", &major, &minor) != 2) {
		fprintf(stderr, "usage: %s [--no-overlay] 4.18|5.14|6.1 CMD [ARG...]\n", name);
		return 2;
	}
	version = V(major, minor);
	write_program();
	struct sock_fprog filter = {.len = length, .filter = program};
	int socket = start_beside();
	int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
	if (listener < 0 && errno == EACCES && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) // an ordinary user
		listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
	if (listener < 0)
		die("seccomp");
	fcntl(listener, F_SETFD, FD_CLOEXEC);
	hand_over(socket, listener);
	execvp(argv[2], argv + 2);
	die(argv[2]);
}
