// The constructor: decides by argv alone what this process is, before Go starts.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef __GLIBC__
#error "the constructor takes argc and argv from glibc; other C libraries pass none"
#endif

struct prelude prelude = {
	.role = ROLE_PLAIN, .peer = -1, .front_alive = -1, .leader = -1, .tty = -1, .control = -1, .inner = -1, .alike = -1,
	.share.fd = {[0 ... SHARE_FILES - 1] = -1},
};

// First words that need no namespaces. After any other word something is run in a container, or tried (unpack
// asks whether an overlay can be mounted). A flag before the verb only costs the forks.
// cmd/dlrun tests that its verbs and this list agree.
static const char *const plain[] = {
	"save", "pull", "export", "add", "link", "inspect", "id", "verify", "cache",
	"__tidy", "version", "help", "completion", "__complete", "__completeNoDesc", "-h", "--help", "--version", NULL,
};

bool prelude_wants_namespaces(const char *word)
{
	for (int i = 0; plain[i]; i++)
		if (!strcmp(word, plain[i]))
			return false;
	return true;
}

// What the front passes on, real-time signals besides; batch systems send XCPU and XFSZ too. TTIN and TTOU are the
// terminal's answer to a reader or writer in the background and concern the process that reads or writes alone, as faults and
// SIGPIPE do the one that makes them.
static const int passed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH, SIGCONT, SIGTSTP,
	SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT};

void fail(int code, const char *what)
{
	fprintf(stderr, "dlrun: %s: %s\n", what, strerror(errno));
	_exit(code);
}

// A descriptor that the caller has closed must not become one of our sockets. It fails the command as a closed one
// does (EBADF): what is opened in its place is open the other way round.
static void have_standard_files(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", fd ? O_RDONLY : O_WRONLY);
}

// take_signals blocks what the front passes on, and notes what the caller ignores and blocks.
static void take_signals(sigset_t *set, sigset_t *callers)
{
	for (int sig = 1; sig <= 64; sig++) {
		struct sigaction old;
		if (!sigaction(sig, NULL, &old) && old.sa_handler == SIG_IGN)
			prelude.ignored |= (uint64_t)1 << (sig - 1);
	}
	signal(SIGCHLD, SIG_DFL); // ignored, it would keep exit codes from those who wait
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	// A signal that is both blocked and ignored is still queued: what the caller ignores
	// (nohup, a background job of a script) must stay out of the set.
	for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++)
		if (!(prelude.ignored >> (passed_on[i] - 1) & 1))
			sigaddset(set, passed_on[i]);
	for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
		if (!(prelude.ignored >> (sig - 1) & 1))
			sigaddset(set, sig);
	sigprocmask(SIG_BLOCK, set, callers);
	for (int sig = 1; sig <= 64; sig++)
		if (sigismember(callers, sig) == 1)
			prelude.blocked |= (uint64_t)1 << (sig - 1);
}

// give_up ends a run that has not begun, and whatever others may wait for it for.
void give_up(const char *what)
{
	int err = errno;
	if (share_leave())
		share_tidy();
	alike_ends();
	errno = err;
	fail(125, what);
}

static bool begins_with(const char *s, const char *begin)
{
	return s && !strncmp(s, begin, strlen(begin));
}

// prelude_waits says whether the inside is started only when the outside asks for it, since this may be one of
// several ranks on this node, and most of them join what the first has made. It is a guess that costs the wrong side some
// milliseconds: the outside decides, and may ask for another inside at any time.
static bool prelude_waits(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (begins_with(argv[i], "--mpi") || begins_with(argv[i], "--join"))
			return true;
	if (getenv("DLRUN_MPI") || getenv("DLRUN_JOIN") || getenv("OMPI_COMM_WORLD_LOCAL_SIZE") || getenv("MPI_LOCALNRANKS"))
		return true;
	// "1" or "1(x4)": alone on each node.
	const char *tasks = getenv("SLURM_STEP_ID") ? getenv("SLURM_STEP_TASKS_PER_NODE") : NULL;
	return tasks && strcmp(tasks, "1") && !(begins_with(tasks, "1(x") && !strchr(tasks, ','));
}

// Go reserves addresses for its heap and a stack for each thread, and dies with a dump where it may not (measured with
// go 1.26 on two cores: 1.3 GiB). The limit itself is kept: it is the command's too.
static void enough_room(void)
{
	enum { NEEDED_MIB = 1600 };
	struct rlimit limit;
	if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >> 20 >= NEEDED_MIB)
		return;
	if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max >> 20 >= NEEDED_MIB)
		fprintf(stderr, "dlrun: the address space is limited to %ju MiB, dlrun needs %d\nhint: ulimit -S -v %ju\n",
			(uintmax_t)limit.rlim_cur >> 20, NEEDED_MIB, (uintmax_t)NEEDED_MIB << 10);
	else
		fprintf(stderr, "dlrun: the address space is limited to %ju MiB for good, dlrun needs %d\nhint: ask the batch system for more "
			"virtual memory (Grid Engine: -l h_vmem=2G)\n", (uintmax_t)limit.rlim_cur >> 20, NEEDED_MIB);
	_exit(125);
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);
	return n >= m && !strcmp(s + n - m, end);
}

// become_inside makes this process, a fork of the front, the inside.
void become_inside(const struct front *f, int peer)
{
	close(f->alive[1]);
	close(f->leader[0]);
	close(f->control[0]);
	if (prelude.alike >= 0)
		close(prelude.alike);
	// A group of its own: what the terminal or killpg sends to the caller's group goes
	// through the front alone, once.
	setpgid(0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sigprocmask(SIG_SETMASK, &f->callers, NULL);
	prelude.role = ROLE_INSIDE;
	prelude.peer = peer;
	prelude.front_alive = f->alive[0];
	prelude.leader = f->leader[1];
	prelude.control = f->control[1];
	namespaces_enter();
}

static void __attribute__((constructor)) start(int argc, char **argv)
{
	if (argc < 2 || getenv("_LIBCONTAINER_INITPIPE"))
		return; // libcontainer's own constructor takes over
	if (!strcmp(argv[1], "__enter"))
		enter_command(argc, argv);
	if (!prelude_wants_namespaces(argv[1]) || ends_with(argv[0], "git-annex-remote-dlrun") || ends_with(argv[0], ".test"))
		return;

	mallopt(M_ARENA_MAX, 1); // each would reserve 64 MiB of addresses, one a thread
	enough_room();
	have_standard_files();
	prelude.tty = terminal_of_caller();
	struct front f = {0};
	sigset_t set;
	take_signals(&set, &f.callers);
	prelude.waits = prelude_waits(argc, argv);
	bool joined = prelude.waits && prelude.tty < 0 && alike_join(argc, argv, &f.callers);

	int peers[2];
	prelude.shared = mmap(NULL, sizeof *prelude.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (prelude.shared == MAP_FAILED)
		give_up("mmap");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, peers) || pipe2(f.alive, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f.leader) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, f.control))
		give_up("socketpair");
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);

	if (joined) {
		close(peers[0]);
		close(peers[1]);
		close(f.control[0]);
		close(f.control[1]);
		prelude.leader = f.leader[0];
		front_join(&f, &set);
	}
	if (!prelude.waits) {
		f.inside = fork();
		if (f.inside < 0)
			give_up("fork");
		if (f.inside == 0) {
			close(peers[0]);
			become_inside(&f, peers[1]);
			return;
		}
		setpgid(f.inside, f.inside); // whoever comes first
	}
	close(peers[1]);
	pid_t front = getpid();
	f.outside = fork();
	if (f.outside < 0)
		give_up("fork");
	if (f.outside == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (getppid() != front)
			_exit(125);
		close(f.alive[0]);
		close(f.alive[1]);
		close(f.leader[0]);
		close(f.leader[1]);
		close(f.control[0]);
		if (prelude.alike >= 0)
			close(prelude.alike);
		sigprocmask(SIG_SETMASK, &f.callers, NULL);
		prelude.role = ROLE_OUTSIDE;
		prelude.peer = peers[0];
		prelude.control = f.control[1];
		return;
	}
	close(peers[0]);
	prelude.leader = f.leader[0];
	prelude.control = f.control[0];
	front_run(&f, &set);
}
