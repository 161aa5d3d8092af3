// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * Registration of host memory as the worker does it: a memory file mapped piece by piece at a fixed address of the
 * window, then cuMemHostRegister over the whole; and what the driver answers to unusual registrations.
 */
#define _GNU_SOURCE
#include "ground.h"
#include <sys/mman.h>
#include <sys/personality.h>

enum { PORTABLE = 1, MAPPED = 2, IO_MEMORY = 4, READ_ONLY = 8 };

static char *const window = (char *)0x2a0000000000;
static const size_t mib = (size_t)1 << 20;

/* Maps `size` bytes of a new memory file at the address, in pieces whose order in the file is reversed. */
static int map_pieces(char *at, size_t size, size_t piece, int protection)
{
	int file = memfd_create("ground", 0);
	size_t offset;

	if (file < 0 || ftruncate(file, (off_t)size))
		return -1;
	for (offset = 0; offset < size; offset += piece)
		if (mmap(at + offset, piece, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, file,
			 (off_t)(size - piece - offset)) != at + offset)
			return -1;
	return close(file);
}

static void pieces(void)
{
	static const struct { size_t size, piece; } cases[] = {
		{ (size_t)64 << 20, (size_t)64 << 20 }, { (size_t)64 << 20, (size_t)2 << 20 },
		{ (size_t)64 << 20, (size_t)64 << 10 }, { (size_t)64 << 20, (size_t)4 << 10 },
	};
	char *at = window;
	unsigned int i;

	start();
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++, at += (size_t)1 << 30) {
		double begin = now(), mapped, registered;
		device_pointer device = 0;
		int result;

		if (map_pieces(at, cases[i].size, cases[i].piece, PROT_READ | PROT_WRITE)) {
			printf("| 64 MiB in pieces of %zu KiB | mmap: %s |\n", cases[i].piece >> 10, strerror(errno));
			continue;
		}
		mapped = now();
		result = cuMemHostRegister_v2(at, cases[i].size, PORTABLE | MAPPED);
		registered = now();
		if (result) {
			printf("| 64 MiB in pieces of %zu KiB | register: %s |\n", cases[i].piece >> 10, code(result));
			continue;
		}
		CHECK(cuMemHostGetDevicePointer_v2(&device, at, 0));
		CHECK(launch(store_kernel, NULL, device + cases[i].size - 4));
		CHECK(cuCtxSynchronize());
		printf("| 64 MiB in pieces of %zu KiB | mmap %.1f ms, register %.1f ms, device address %s, a kernel's store is %s;",
		       cases[i].piece >> 10, (mapped - begin) * 1e3, (registered - mapped) * 1e3,
		       device == (uintptr_t)at ? "the same" : "another",
		       *(int *)(at + cases[i].size - 4) == 42 ? "seen" : "not seen");
		registered = now();
		result = cuMemHostUnregister(at);
		printf(" unregister %.1f ms: %s |\n", (now() - registered) * 1e3, code(result));
	}
}

static void try_flags(const char *what, char *at, unsigned int flags)
{
	device_pointer device = 0;
	unsigned int seen = 0;
	int result = cuMemHostRegister_v2(at, mib, flags), pointer;

	if (result) {
		printf("| %s, flags %#x | %s |\n", what, flags, code(result));
		return;
	}
	pointer = cuMemHostGetDevicePointer_v2(&device, at, 0);
	result = cuMemHostGetFlags(&seen, at);
	printf("| %s, flags %#x | registered; device pointer %s %#lx; cuMemHostGetFlags %s %#x |\n", what, flags, code(pointer),
	       device, code(result), seen);
	CHECK(cuMemHostUnregister(at));
}

static void flags(void)
{
	static const unsigned int tried[] = { 0, PORTABLE, MAPPED, IO_MEMORY, READ_ONLY, MAPPED | READ_ONLY, 16 };
	char *anonymous = mmap(NULL, mib, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	start_context();
	if (map_pieces(window, mib, mib, PROT_READ | PROT_WRITE) || map_pieces(window + 16 * mib, mib, mib, PROT_READ)) {
		printf("| mapping | %s |\n", strerror(errno));
		return;
	}
	for (i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
		try_flags("shared, writable", window, tried[i]);
		try_flags("shared, PROT_READ", window + 16 * mib, tried[i]);
		try_flags("private, writable", anonymous, tried[i]);
	}
}

static void wrong(void)
{
	char *at = window + 32 * mib;

	start_context();
	if (map_pieces(at, 4 * mib, mib, PROT_READ | PROT_WRITE)) {
		printf("| mapping | %s |\n", strerror(errno));
		return;
	}
	ANSWER("unregister of what is not registered", cuMemHostUnregister(at));
	ANSWER("register of 0 bytes", cuMemHostRegister_v2(at, 0, MAPPED));
	ANSWER("register of NULL", cuMemHostRegister_v2(NULL, mib, MAPPED));
	ANSWER("register of what is not mapped", cuMemHostRegister_v2(at + 64 * mib, mib, MAPPED));
	ANSWER("register beyond the mapping's end", cuMemHostRegister_v2(at + 3 * mib, 2 * mib, MAPPED));
	ANSWER("register of 1 MiB", cuMemHostRegister_v2(at + mib, mib, MAPPED));
	ANSWER("the same again", cuMemHostRegister_v2(at + mib, mib, MAPPED));
	ANSWER("overlapping its end", cuMemHostRegister_v2(at + mib + mib / 2, mib, MAPPED));
	ANSWER("overlapping its beginning", cuMemHostRegister_v2(at + mib / 2, mib, MAPPED));
	ANSWER("around it", cuMemHostRegister_v2(at, 4 * mib, MAPPED));
	ANSWER("beside it", cuMemHostRegister_v2(at + 2 * mib, mib, MAPPED));
	ANSWER("unregister of its middle", cuMemHostUnregister(at + mib + 4096));
	ANSWER("unregister of it", cuMemHostUnregister(at + mib));
	ANSWER("unregister of it again", cuMemHostUnregister(at + mib));
	ANSWER("register, not aligned to pages (100 bytes at + 12)", cuMemHostRegister_v2(at + 12, 100, MAPPED));
	ANSWER("another one in the same page", cuMemHostRegister_v2(at + 512, 100, MAPPED));
}

/* A copy of 512 MiB needs about 10 ms: the registration ends while it runs. */
static void in_flight(void)
{
	const size_t size = 512 * mib;
	device_pointer memory;
	void *stream;
	double begin, queued, unregistered;
	int result;

	start_context();
	if (map_pieces(window, size, 64 * mib, PROT_READ | PROT_WRITE)) {
		printf("| mapping | %s |\n", strerror(errno));
		return;
	}
	CHECK(cuMemHostRegister_v2(window, size, PORTABLE | MAPPED));
	CHECK(cuMemAlloc_v2(&memory, size));
	CHECK(cuStreamCreate(&stream, 1));
	begin = now();
	CHECK(cuMemcpyDtoHAsync_v2(window, memory, size, stream));
	queued = now();
	result = cuMemHostUnregister(window);
	unregistered = now();
	printf("| unregister while a copy of 512 MiB to it runs | call %.2f ms, unregister %.2f ms: %s; the stream then: %s |\n",
	       (queued - begin) * 1e3, (unregistered - queued) * 1e3, code(result), code(cuStreamSynchronize(stream)));
}

/* The mapping goes while it is registered, as when a guest frees pages behind the driver's back. */
static void unmapped(void)
{
	device_pointer memory;

	start_context();
	if (map_pieces(window, mib, mib, PROT_READ | PROT_WRITE)) {
		printf("| mapping | %s |\n", strerror(errno));
		return;
	}
	CHECK(cuMemHostRegister_v2(window, mib, PORTABLE | MAPPED));
	CHECK(cuMemAlloc_v2(&memory, mib));
	munmap(window, mib);
	ANSWER("munmap of a registered range, then DtoH to it", cuMemcpyDtoH_v2(window, memory, mib));
	ANSWER("unregister after munmap", cuMemHostUnregister(window));
}

int main(int argc, char **argv)
{
	/* The worker's layout: libraries and the driver's mappings grow upwards from 0x2aaa..., above the window. */
	if (argc < 2 && personality(ADDR_COMPAT_LAYOUT) != -1)
		execl("/proc/self/exe", argv[0], "laid-out", NULL);
	table("Registration of host memory in the window at 0x2a00_0000_0000");
	measure("pieces", pieces, 15);
	measure("flags", flags, 10);
	measure("wrong registrations", wrong, 10);
	measure("unregister in flight", in_flight, 10);
	measure("unmapped", unmapped, 10);
	return 0;
}
