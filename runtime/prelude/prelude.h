// What the three C files of the prelude share; see doc.go.
#pragma once
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// The roles of a process of dlrun; the same numbers as in prelude.go.
enum role { ROLE_PLAIN, ROLE_OUTSIDE, ROLE_INSIDE };

// The steps into the namespaces, named by prelude.go where one of them fails.
enum step { STEP_NONE, STEP_UNSHARE, STEP_SETGROUPS, STEP_UIDMAP, STEP_GIDMAP, STEP_MOUNTS };

// One page that front, outside and inside share.
struct shared {
	volatile pid_t command; // the container's first process, 0 before it runs
};

struct prelude {
	enum role role;
	int peer;            // socket between outside and inside
	int front_alive;     // inside: a pipe that reads EOF when the front has died
	enum step failed;    // inside: the step that failed, STEP_NONE when entered
	int err;             // inside: its errno
	uint64_t ignored;    // signals that the caller had set to be ignored, bit N-1 for signal N
	struct shared *shared;
};

extern struct prelude prelude;

bool prelude_wants_namespaces(const char *word);
void front_run(pid_t outside, pid_t inside, const sigset_t *set) __attribute__((noreturn));
void namespaces_enter(void);
void enter_command(int argc, char **argv) __attribute__((noreturn));
void tree_end(void);
int write_file(const char *path, const char *text);
