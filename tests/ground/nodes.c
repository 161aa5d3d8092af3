// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * What a library reads of the nodes that slot 7 of the private table
 * 6e163fbe-b958-444d-835c-e182aff1991e hands to its callback.
 *
 * Loaded into a process before the library (ctypes.CDLL, then watch()). It puts
 * a function of its own into slot 7, which gives the library copies of the
 * nodes that cannot be read: each access faults, is written down with its
 * offset and the instruction's bytes, and is let through for one instruction.
 */
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define NODE_BYTES 0x1000
#define MOST 64
#define TRAP_FLAG 0x100

typedef int (*callback_t)(void *, void *, void *);
typedef CUresult (*walk_t)(CUcontext, CUmodule, callback_t, void *);

static walk_t walk;
static char *guarded;
static void *originals[MOST];
static int nodes;
static struct {
	callback_t callback;
	void *data;
} caller;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	char *at = info->si_addr;

	if (guarded && at >= guarded && at < guarded + MOST * NODE_BYTES) {
		long offset = at - guarded;
		const unsigned char *code = (void *)user->uc_mcontext.gregs[REG_RIP];
		uint64_t value;

		mprotect(guarded, MOST * NODE_BYTES, PROT_READ | PROT_WRITE);
		memcpy(&value, at, sizeof(value));
		printf("node %ld offset 0x%lx value 0x%016lx error %lld code", offset / NODE_BYTES, offset % NODE_BYTES,
		       value, (long long)user->uc_mcontext.gregs[REG_ERR]);
		for (int byte = 0; byte < 10; byte++)
			printf(" %02x", code[byte]);
		printf("\n");
		user->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
		return;
	}
	printf("another fault at %p\n", (void *)at);
	fflush(stdout);
	_exit(1);
}

static void on_step(int signal, siginfo_t *info, void *context)
{
	ucontext_t *user = context;

	user->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	mprotect(guarded, MOST * NODE_BYTES, PROT_NONE);
}

static int relay(void *data, void *node, void *owner)
{
	int result;

	if (nodes == MOST)
		return caller.callback(caller.data, node, owner);
	mprotect(guarded, MOST * NODE_BYTES, PROT_READ | PROT_WRITE);
	char *copy = guarded + nodes * NODE_BYTES;
	/* As much of the node as is mapped. */
	int pipes[2];
	if (pipe(pipes) == 0) {
		for (int done = 0; done < 0x600; done += 64) {
			if (write(pipes[1], (char *)node + done, 64) != 64)
				break;
			if (read(pipes[0], copy + done, 64) != 64)
				break;
		}
		close(pipes[0]);
		close(pipes[1]);
	}
	mprotect(guarded, MOST * NODE_BYTES, PROT_NONE);
	originals[nodes] = node;
	printf("callback: node %d at %p, owner %p, data %p\n", nodes, node, owner, data);
	nodes++;
	result = caller.callback(caller.data, copy, owner);
	printf("callback returned %d\n", result);
	return result;
}

static CUresult watched_walk(CUcontext context, CUmodule module, callback_t callback, void *data)
{
	CUresult result;

	printf("walk: context %p, module %p, callback %p, data %p\n", (void *)context, (void *)module,
	       (void *)callback, data);
	caller.callback = callback;
	caller.data = data;
	result = walk(context, module, relay, data);
	printf("walk returned %d after %d nodes\n", result, nodes);
	fflush(stdout);
	return result;
}

int watch(void)
{
	static const CUuuid id = { { 0x6e, 0x16, 0x3f, 0xbe, 0xb9, 0x58, 0x44, 0x4d, 0x83, 0x5c, (char)0xe1, (char)0x82,
				     (char)0xaf, (char)0xf1, (char)0x99, 0x1e } };
	CUresult (*get)(const void **, const CUuuid *);
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	void *library = dlopen("libcuda.so.1", RTLD_NOW);
	void **table;

	get = (void *)dlsym(library, "cuGetExportTable");
	if (cuInit(0) || get((const void **)&table, &id))
		return 1;
	printf("table of %zu bytes\n", (size_t)table[0]);
	guarded = mmap(NULL, MOST * NODE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	action.sa_sigaction = on_fault;
	sigaction(SIGSEGV, &action, NULL);
	action.sa_sigaction = on_step;
	sigaction(SIGTRAP, &action, NULL);
	uintptr_t page = (uintptr_t)&table[7] & ~4095UL;
	if (mprotect((void *)page, 8192, PROT_READ | PROT_WRITE))
		return 2;
	walk = (walk_t)table[7];
	table[7] = watched_walk;
	return 0;
}
