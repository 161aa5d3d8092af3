// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * What libraries give to slots of private tables, and what they get back.
 *
 * Loaded into a process before the library (ctypes.CDLL, then watch(identifier,
 * slot) for each slot). Every call is written down with its six possible
 * arguments, what those point to before and after, and the result.
 */
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 16
#define WORDS 8
#define ARGUMENTS 6

typedef uint64_t (*slot_t)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

static struct {
	slot_t original;
	char name[40];
	int slot;
	int calls;
} watched[MOST];
static int count;

/* Reads without faulting; returns the bytes that are there. */
static long peek(uint64_t address, void *to, size_t bytes)
{
	struct iovec local = { to, bytes }, remote = { (void *)address, bytes };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

static void show(const char *when, int argument, uint64_t address)
{
	uint64_t words[WORDS];
	long bytes = address > 4096 ? peek(address, words, sizeof(words)) : -1;

	if (bytes <= 0)
		return;
	printf("    %s [%d]:", when, argument);
	for (int word = 0; word < bytes / 8; word++)
		printf(" %lx", words[word]);
	printf("\n");
}

static uint64_t relay(int index, const uint64_t *a)
{
	void *callers[3];
	Dl_info from = { 0 };
	uint64_t result;

	watched[index].calls++;
	if (watched[index].calls > 12)
		return watched[index].original(a[0], a[1], a[2], a[3], a[4], a[5]);
	if (backtrace(callers, 3) == 3)
		dladdr(callers[2], &from);
	printf("%s[%d](%lx, %lx, %lx, %lx, %lx, %lx) from %s\n", watched[index].name, watched[index].slot, a[0], a[1],
	       a[2], a[3], a[4], a[5], from.dli_fname ? strrchr(from.dli_fname, '/') : "?");
	for (int argument = 0; argument < ARGUMENTS; argument++)
		show("before", argument, a[argument]);
	result = watched[index].original(a[0], a[1], a[2], a[3], a[4], a[5]);
	printf("  = %lx\n", result);
	for (int argument = 0; argument < ARGUMENTS; argument++) {
		uint64_t word;

		show("after", argument, a[argument]);
		if (a[argument] > 4096 && peek(a[argument], &word, 8) == 8)
			show("  behind", argument, word);
	}
	show("result", 0, result);
	fflush(stdout);
	return result;
}

#define RELAY(n)                                                                                             \
	static uint64_t relay_##n(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)    \
	{                                                                                                    \
		return relay(n, (uint64_t[]){ a, b, c, d, e, f });                                           \
	}
RELAY(0)
RELAY(1)
RELAY(2)
RELAY(3)
RELAY(4)
RELAY(5)
RELAY(6)
RELAY(7)
static const slot_t relays[] = { relay_0, relay_1, relay_2, relay_3, relay_4, relay_5, relay_6, relay_7 };

/* The identifier has 32 hexadecimal digits. */
int watch(const char *identifier, int slot)
{
	CUresult (*get)(const void **, const CUuuid *) = (void *)dlsym(dlopen("libcuda.so.1", RTLD_NOW), "cuGetExportTable");
	CUuuid id;
	void **table;

	for (int byte = 0; byte < 16; byte++) {
		unsigned int value;

		if (sscanf(identifier + 2 * byte, "%2x", &value) != 1)
			return 1;
		id.bytes[byte] = (char)value;
	}
	if (count == 8 || cuInit(0) || get((const void **)&table, &id))
		return 2;
	uintptr_t page = (uintptr_t)&table[slot] & ~4095UL;
	if (mprotect((void *)page, 8192, PROT_READ | PROT_WRITE))
		return 3;
	snprintf(watched[count].name, sizeof(watched[count].name), "%.8s", identifier);
	watched[count].slot = slot;
	watched[count].original = (slot_t)table[slot];
	table[slot] = (void *)relays[count];
	printf("table %.8s: %zu bytes, watching slot %d\n", identifier, (size_t)table[0], slot);
	count++;
	return 0;
}
