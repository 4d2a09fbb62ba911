// What the C files of the prelude share; see doc.go.
#pragma once
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

enum role { ROLE_PLAIN, ROLE_OUTSIDE, ROLE_INSIDE };

// What outside and inside ask of the front, as a struct order with open files.
enum order_kind {
	ORDER_INSIDE, // with peer, stdin, stdout: start an inside, in place of one that waits
	ORDER_JOIN,   // with letter, stdin, stdout: start the command in the shared container
	ORDER_SHARE,  // with those files of a shared container that the mask flags names
};
enum { INSIDE_INNER = 1 }; // a flag of ORDER_INSIDE: make the inner user namespace too

struct order {
	uint32_t what, flags;
	char text[512]; // of the first ORDER_SHARE, and of one to a rank that is alike: SOCKET NUL CLAIM NUL KEY NUL
};
enum { ORDER_HEAD = offsetof(struct order, text) };

// The open files of a shared container (share.c), in the order in which they are sent.
enum share_file {
	SHARE_LISTEN,  // where others ask to join; all who are in the container have it
	SHARE_READ,    // a pipe that holds one byte; its other end is open as long as somebody is in
	SHARE_WRITE,
	SHARE_SCRATCH, // the scratch directory, with its lock
	SHARE_CLAIM,   // says that this rank has a dlrun that takes part; not passed on
	SHARE_HOLD,    // a lock that says that the image is in use; absent where there are no locks
	SHARE_ALIKE,   // where ranks that are alike ask to join; absent where there is no letter
	SHARE_LETTER,  // a card and the letter of whoever has the same (alike.c)
	SHARE_USER,    // the namespaces
	SHARE_INNER,   // absent where the command stays in the outer one
	SHARE_MNT,
	SHARE_CGROUP,
	SHARE_NET,     // absent where it is the host's
	SHARE_UTS,
	SHARE_FILES,   // how many there are
};

// What a rank says who it is (alike.c).
struct card {
	char *text;
	size_t n;
};

// How a request to join a shared container ends (ask.c).
enum answer {
	ANSWER_OK,
	ANSWER_GONE,      // whoever was to answer has ended, or does not want this rank
	ANSWER_UNTRUSTED,
	ANSWER_ERROR,     // of the connection: ENOENT where there is nobody of that name, ECONNREFUSED where nobody listens any more
};
enum { WHY = 128, PATH = 108 }; // bytes of a reason, and of the path of a socket

struct share {
	int fd[SHARE_FILES]; // -1: absent
	char socket[PATH], claim[PATH], key[64];
	char alike[PATH]; // the name of the socket SHARE_ALIKE, "" for none
};

// The steps into the namespaces, named by prelude.go where one of them fails.
enum step { STEP_NONE, STEP_UNSHARE, STEP_SETGROUPS, STEP_UIDMAP, STEP_GIDMAP, STEP_MOUNTS };

// One page that front, outside and inside share.
struct shared {
	volatile pid_t command;       // the container's first process, 0 before it runs, negative after it
	volatile bool led;            // that process is a leader (leader.c): signals go to it by socket
	volatile bool attached;       // the caller's terminal has the modes raw, and had the modes saved
	struct termios saved, raw;
};

struct prelude {
	enum role role;
	int peer;            // socket between outside and inside
	int front_alive;     // inside: a pipe that reads EOF when the front has died
	int leader;          // socket between front and leader: the front's end there, the leader's in the inside
	bool waits;          // there is no inside before the outside asks for one
	int control;         // socket for orders: the front's end there, the others' in outside and inside
	int inner;           // inside: the inner user namespace, where it was asked for
	struct share share;
	struct card card;    // this rank's, empty where none can be alike
	int alike;           // where those that are alike ask, as long as this one, the first, has no letter for them; else -1
	int tty;             // the caller's terminal where a pty stands in for it, else -1
	enum step failed;    // inside: the step that failed, STEP_NONE when entered
	int err;             // inside: its errno
	uint64_t ignored;    // signals that the caller had set to be ignored, bit N-1 for signal N
	uint64_t blocked;    // signals that the caller had blocked
	struct shared *shared;
};

extern struct prelude prelude;

// What front and leader tell each other.
enum what {
	LEADER_READY,   // with the pty's master: the command waits for the answer
	LEADER_STOPPED, // by the signal sig
	LEADER_ENDED,   // the leader waits for FRONT_DRAINED: with it the pty would lose what it holds
	FRONT_SIGNAL,   // send sig to the command, or to its group
	FRONT_DRAINED,
};
struct message {
	enum what what;
	int sig;         // 0 for none
	bool group;
	bool foreground; // the caller's terminal is ours: make the command the pty's foreground group
};

// What the front needs to start the others.
struct front {
	pid_t outside, inside; // 0: not there
	int alive[2];          // a pipe: the inside ends everything when the front has closed it
	int leader[2];         // the front's end, the leader's
	int control[2];        // the front's end, the others'
	sigset_t callers;      // the mask of the caller
};

// What execs the command, read from its letter (enter.c).
struct letter {
	unsigned uid, gid, nested, led, terminal;
	uint64_t ignored, blocked, caps;
	int fds[64], n; // the open files that the command keeps, by their numbers there
	char *cwd, *hint, **command, **env;
	size_t filter; // bytes of the seccomp program
	void *program;
};
enum { NESTED_NOT, NESTED_NEW, NESTED_JOIN };

struct ucred;

struct letter read_letter(int fd, size_t from);
void enter_directory(const char *cwd);
void exec_command(struct letter *l) __attribute__((noreturn));

bool prelude_wants_namespaces(const char *word);
void front_run(const struct front *f, const sigset_t *set);
void front_join(struct front *f, const sigset_t *set) __attribute__((noreturn));
void become_inside(const struct front *f, int peer);
void stop_with(int sig, bool group);
void namespaces_enter(void);
int namespaces_make_inner(uid_t uid, gid_t gid);
int map_ids(uid_t uid, gid_t gid);
void enter_command(int argc, char **argv) __attribute__((noreturn));
void join_run(const struct front *f, int letter) __attribute__((noreturn));
int receive_order(int from, struct order *o, int *fds, int room, struct ucred *who, int flags);
int connect_to(const char *path, int flags);
int publish_at(const char *dir, const char *name);
enum answer share_ask(const char *socket, const void *say, size_t n, const sigset_t *mask, struct order *o, int *fds, char *why);
bool alike_join(int argc, char **argv, const sigset_t *callers);
void alike_begins(void);
void alike_ends(void);
struct card alike_card(void);
struct letter alike_letter(void);
const char *rank_variable(int i);
void share_take(const struct order *o, const int *fds, int n);
void share_name(const struct order *o);
bool share_is_complete(void);
void share_serve(void);
bool share_leave(void);
void share_tidy(void);
void close_all_but(const int *keep, int n);
void lead(int front, bool terminal);
void fail(int code, const char *what) __attribute__((noreturn));
void give_up(const char *what) __attribute__((noreturn));
void tree_end(void);
void drop_program(void);
void rest(void) __attribute__((noreturn));
int write_file(const char *path, const char *text);

int terminal_of_caller(void);
bool terminal_ready(void);
int terminal_poll(struct pollfd tty_and_master[2]);
void terminal_move(const struct pollfd tty_and_master[2]);
void terminal_hear(void);
void terminal_resize(void);
void terminal_restore(void);
void leader_signal(int sig, bool group);
