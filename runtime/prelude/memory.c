// A long run is not to hold what only its start needed.
#define _GNU_SOURCE
#include "prelude.h"

#include <link.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// The first object is the program itself. Segments that nobody can write are read again from the file when they are needed.
static int drop(struct dl_phdr_info *program, size_t size, void *data)
{
	(void)size, (void)data;
	uintptr_t page = sysconf(_SC_PAGESIZE);
	for (int i = 0; i < program->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &program->dlpi_phdr[i];
		uintptr_t from = program->dlpi_addr + p->p_vaddr, start = from & ~(page - 1);
		if (p->p_type == PT_LOAD && !(p->p_flags & PF_W))
			madvise((void *)start, from + p->p_memsz - start, MADV_DONTNEED);
	}
	return 1;
}

void drop_program(void)
{
	dl_iterate_phdr(drop, NULL);
}

// rest drops the program of a process whose threads have nothing left to do, for good: this thread does not go back to
// what it was called from, whose way to sleep runs through a megabyte of code.
void rest(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); // the other threads fall asleep
	drop_program();
	for (;;)
		pause();
}
