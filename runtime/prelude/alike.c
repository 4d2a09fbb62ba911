// Ranks that are alike: of the same step, with the same command line, directory and variables but for those that tell ranks
// apart.
//
// The first of them goes the way of every run, and leaves the others a letter (enter.c) in which a variable of a rank's own
// has a name and no value. The others have nothing to find, describe or decide: they take letter and container from whoever
// is in it, before Go has started. Who they are they say by a card, which holds all that could make a difference; two with the same
// card are alike. Whoever gets no answer goes the way of every run as well, so nothing depends on this.
#define _GNU_SOURCE
#include "prelude.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

// Variables that every rank of a step has for itself.
static const char *const rank_variables[] = {
	"SLURM_PROCID", "SLURM_LOCALID", "SLURM_TASK_PID", "PMI_RANK", "PMIX_RANK",
	"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK", NULL,
};

const char *rank_variable(int i) { return rank_variables[i]; }

extern char **environ;

// More would not go through the socket in one message.
enum { MAX_CARD = 64 << 10 };

static void put(struct card *c, const void *data, size_t n)
{
	if (c->text && c->n + n <= MAX_CARD)
		memcpy(c->text + c->n, data, n);
	c->n += n;
}

static void put_word(struct card *c, const char *word) { put(c, word, strlen(word) + 1); }

// The length of the name where v is a variable of a rank's own, else 0.
static size_t own_name(const char *v)
{
	for (int i = 0; rank_variables[i]; i++) {
		size_t n = strlen(rank_variables[i]);
		if (!strncmp(v, rank_variables[i], n) && (v[n] == '=' || !v[n]))
			return n;
	}
	return 0;
}

// Which file, and which state of it.
static bool put_file(struct card *c, const char *path)
{
	struct stat st;
	if (stat(path, &st))
		return false;
	uint64_t is[] = {st.st_dev, st.st_ino};
	put(c, is, sizeof is);
	return true;
}

// The files that the command may keep are those that are open, above 2 (cmd/dlrun/fds.go).
static uint64_t open_files(void)
{
	const char *pmi = getenv("PMI_FD");
	uint64_t open = pmi && fcntl(atoi(pmi), F_GETFD) == 0;
	for (int fd = 3; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) == 0) // not one that is closed by the exec, as our own are
			open |= (uint64_t)1 << fd;
	return open;
}

static bool fill(struct card *c, int argc, char **argv)
{
	static const char *const places[] = {".", "/", "/proc/self/exe", "/proc/self/ns/mnt", "/proc/self/ns/pid", "/proc/self/ns/net",
		"/proc/self/ns/uts", "/proc/self/ns/ipc"};
	char cwd[4096];
	gid_t groups[1024];
	int n = getgroups(sizeof groups / sizeof *groups, groups);
	mode_t mask = umask(0);
	umask(mask);
	c->text = malloc(MAX_CARD);
	if (!c->text || n < 0 || !getcwd(cwd, sizeof cwd))
		return false;
	for (int i = 0; i < argc; i++)
		put_word(c, argv[i]);
	put_word(c, "");
	put_word(c, cwd);
	for (size_t i = 0; i < sizeof places / sizeof *places; i++)
		if (!put_file(c, places[i]))
			return false;
	uint64_t is[] = {mask, geteuid(), getegid(), n, open_files()};
	put(c, is, sizeof is);
	put(c, groups, n * sizeof *groups);
	for (char **e = environ; *e; e++) {
		size_t own = own_name(*e);
		put(c, *e, own ? own : strlen(*e));
		put_word(c, "");
	}
	return c->n <= MAX_CARD;
}

// Whether nothing on the command line is a process's own: a flag that decides about joining, or a file that every process has
// another of.
static bool may_be_alike(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strncmp(argv[i], "--mpi", 5) || !strncmp(argv[i], "--join", 6) || strstr(argv[i], "/dev/") || strstr(argv[i], "/proc/"))
			return false;
	const char *make = getenv("MAKEFLAGS"); // its job server may be an open file of any number
	return (!make || !strstr(make, "--jobserver")) && !getenv("DLRUN_MPI") && !getenv("DLRUN_JOIN") && !getenv("OMPI_COMM_WORLD_LOCAL_SIZE") && !getenv("MPI_LOCALNRANKS");
}

static const char *rank(void)
{
	const char *r = getenv("SLURM_STEP_ID") ? getenv("SLURM_PROCID") : NULL;
	return r && *r && strlen(r) < 11 && strspn(r, "0123456789") == strlen(r) ? r : NULL;
}

// The directory of package runtime/rendezvous, if it is there and closed to others.
static bool have_directory(char *path, size_t room)
{
	struct stat st;
	for (int i = 0; i < 2; i++) {
		snprintf(path, room, "/tmp/dlrun-%u%s", geteuid(), i ? "/steps" : "");
		if (lstat(path, &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
			return false;
	}
	return true;
}

// FNV-1a: a name, no proof; whoever answers compares the cards.
static uint64_t hash(const struct card *c)
{
	uint64_t h = 0xcbf29ce484222325;
	for (size_t i = 0; i < c->n; i++)
		h = (h ^ (unsigned char)c->text[i]) * 0x100000001b3;
	return h;
}

// Of several runs of one rank at a time only one takes part. Whoever answers has a claim of its own, HASH.RANK.
static bool take_claim(char *claim, size_t room)
{
	char *dot = strrchr(claim, '.');
	if (!dot)
		return false;
	snprintf(dot + 1, room - (dot + 1 - claim), "%s", rank());
	char *name = strrchr(claim, '/');
	if (!name)
		return false;
	// A dead one is left to those who know how to remove it (rendezvous.Take).
	*name = 0;
	prelude.share.fd[SHARE_CLAIM] = publish_at(claim, name + 1);
	*name = '/';
	return prelude.share.fd[SHARE_CLAIM] >= 0;
}

// What lies in the file of SHARE_LETTER: the name of the socket SHARE_ALIKE (PATH bytes), the length of the card (uint64), the
// card, the letter. It stays mapped.
static struct {
	char alike[PATH];
	struct card card;
	size_t letter; // where it begins
} file;

static void alike_read(void)
{
	struct stat st;
	uint64_t n;
	if (file.letter || fstat(prelude.share.fd[SHARE_LETTER], &st) || st.st_size < (off_t)(PATH + sizeof n))
		return;
	char *all = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, prelude.share.fd[SHARE_LETTER], 0);
	if (all == MAP_FAILED)
		return;
	memcpy(file.alike, all, PATH - 1);
	memcpy(&n, all + PATH, sizeof n);
	if (n > st.st_size - PATH - sizeof n)
		return;
	file.card = (struct card){all + PATH + sizeof n, n};
	file.letter = PATH + sizeof n + n;
}

static void take(const struct order *o, const int *fds)
{
	memcpy(prelude.share.fd, fds, sizeof prelude.share.fd);
	share_name(o);
	alike_begins();
}

// refuse leaves the container again.
static void refuse(void)
{
	prelude.share.claim[0] = 0; // another's
	if (share_leave())
		share_tidy();
	for (int i = 0; i < SHARE_FILES; i++) {
		if (prelude.share.fd[i] >= 0)
			close(prelude.share.fd[i]);
		prelude.share.fd[i] = -1;
	}
	prelude.share.socket[0] = prelude.share.alike[0] = 0;
	memset(&file, 0, sizeof file);
}

// alike_join returns whether this rank is in a container that one which is alike has made, and is to be run by its letter. Else,
// where prelude.alike is a socket, it is the first of its kind.
bool alike_join(int argc, char **argv, const sigset_t *callers)
{
	char dir[64], name[64], path[PATH], why[WHY];
	if (!may_be_alike(argc, argv) || !rank() || !have_directory(dir, sizeof dir) || !fill(&prelude.card, argc, argv))
		return false;
	snprintf(name, sizeof name, "alike.%016" PRIx64, hash(&prelude.card));
	snprintf(path, sizeof path, "%s/%s", dir, name);
	for (int i = 0; i < 10; i++) {
		struct order o;
		int fds[SHARE_FILES];
		enum answer a = share_ask(path, prelude.card.text, prelude.card.n, callers, &o, fds, why);
		if (a == ANSWER_OK) {
			take(&o, fds);
			if (file.letter && take_claim(prelude.share.claim, sizeof prelude.share.claim))
				return true;
			refuse();
			return false;
		}
		if (a != ANSWER_ERROR || (errno != ENOENT && errno != ECONNREFUSED))
			return false;
		if (errno == ECONNREFUSED)
			unlink(path); // it is dead; where another has that name since, those who come from now on begin anew
		else if ((prelude.alike = publish_at(dir, name)) >= 0) {
			snprintf(prelude.share.alike, sizeof prelude.share.alike, "%s", path);
			return false;
		}
	}
	return false;
}

// alike_begins: there is a letter, so others can be answered.
void alike_begins(void)
{
	alike_read();
	if (prelude.share.fd[SHARE_ALIKE] < 0) {
		prelude.share.fd[SHARE_ALIKE] = prelude.alike;
		prelude.alike = -1;
	}
	alike_ends(); // it is the first of another kind, and has joined
	snprintf(prelude.share.alike, sizeof prelude.share.alike, "%s", file.alike);
}

// alike_ends: the first of its kind has no letter for others, who go their own way.
void alike_ends(void)
{
	if (prelude.alike < 0)
		return;
	unlink(prelude.share.alike);
	prelude.share.alike[0] = 0;
	close(prelude.alike);
	prelude.alike = -1;
}

// alike_card is the card of those whom the letter is for.
struct card alike_card(void) { return file.card; }

// alike_letter reads the letter as it is for this rank.
struct letter alike_letter(void)
{
	struct letter l = read_letter(prelude.share.fd[SHARE_LETTER], file.letter);
	l.ignored = prelude.ignored;
	l.blocked = prelude.blocked;
	for (char **e = l.env; *e; e++)
		if (!strchr(*e, '='))
			for (char **own = environ; *own; own++)
				if (!strncmp(*e, *own, strlen(*e)) && (*own)[strlen(*e)] == '=') {
					*e = *own;
					break;
				}
	return l;
}
