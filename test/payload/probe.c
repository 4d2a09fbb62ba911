// probe calls       a line "NAME ANSWER" for system calls that a container may or may not make: ok, or the errno's name
// probe key NAME    the key of type user and that NAME, searched for as Kerberos and AFS do
//
// No call does anything: each has arguments that the kernel refuses, where a filter does not refuse it before.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CALL(name, ...) tell(#name, syscall(SYS_##name, ##__VA_ARGS__))

static void tell(const char *name, long answer)
{
	printf("%s %s\n", name, answer < 0 ? strerrorname_np(errno) : "ok");
	if (answer > 0)
		close(answer);
}

static int read_key(const char *name)
{
	char text[64];
	long key = syscall(SYS_request_key, "user", name, NULL, 0), n = -1;
	if (key >= 0)
		n = syscall(SYS_keyctl, 11 /* KEYCTL_READ */, key, text, sizeof text);
	if (n < 0) {
		perror(name);
		return 1;
	}
	printf("%.*s\n", (int)n, text);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return read_key(argv[2]);
	CALL(bpf, -1, NULL, 0);
	CALL(userfaultfd, 0);
	CALL(io_uring_setup, 0, NULL);
	CALL(add_key, "user", "planted", "x", 1, -3);
	CALL(open_by_handle_at, -1, NULL, 0);
	CALL(kexec_load, 0, 0, NULL, 0);
	CALL(init_module, NULL, 0, "");
	CALL(mount, NULL, NULL, NULL, 0, NULL);
	CALL(fsopen, "tmpfs", 0);
	CALL(reboot, 0, 0, 0, NULL);
	CALL(swapon, NULL, 0);
	CALL(settimeofday, NULL, NULL);
	CALL(move_pages, 0, 0UL, NULL, NULL, NULL, 0);
	CALL(perf_event_open, NULL, 0, -1, -1, 0UL);
	CALL(request_key, "user", "nobody has this key", NULL, 0);
	CALL(process_vm_readv, getpid(), NULL, 0UL, NULL, 0UL, 0UL);
}
