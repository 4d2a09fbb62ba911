// What the C files of the prelude share; see doc.go.
#pragma once
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

// The roles of a process of dlrun; the same numbers as in prelude.go.
enum role { ROLE_PLAIN, ROLE_OUTSIDE, ROLE_INSIDE };

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

bool prelude_wants_namespaces(const char *word);
void front_run(pid_t outside, pid_t inside, int alive, const sigset_t *set) __attribute__((noreturn));
void stop_with(int sig, bool group);
void namespaces_enter(void);
void enter_command(int argc, char **argv) __attribute__((noreturn));
void lead(int front, bool terminal);
void fail(int code, const char *what) __attribute__((noreturn));
void tree_end(void);
void drop_program(void);
int write_file(const char *path, const char *text);

int terminal_of_caller(void);
int terminal_poll(struct pollfd tty_and_master[2]);
void terminal_move(const struct pollfd tty_and_master[2]);
void terminal_hear(void);
void terminal_resize(void);
void terminal_restore(void);
void leader_signal(int sig, bool group);
