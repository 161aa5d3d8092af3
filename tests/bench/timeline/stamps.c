/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A CUDA library that is another one, but writes down when calls of it begin and end: between a program and the library
 * that it uses, and between a worker and the driver. timeline.py makes one timeline of what both wrote.
 *
 * It is built for one library: REAL is that one's path, as a string, and it is linked with it, so that what is not below is
 * found there. Its stamps go to STAMPS and the process's number, in a file of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

/* What is looked at, with up to nine arguments of a word each; what a call has less of is read from the stack, and ignored. */
#define CALLS(each)                                                                                                    \
	each(cuStreamSynchronize) each(cuCtxSynchronize) each(cuMemcpyHtoD_v2) each(cuMemcpyDtoH_v2)                   \
	each(cuMemcpyHtoDAsync_v2) each(cuMemcpyDtoHAsync_v2) each(cuMemcpyAsync) each(cuMemAlloc_v2)                  \
	each(cuMemFree_v2) each(cuGraphLaunch) each(cuEventRecord) each(cuEventQuery) each(cuEventSynchronize)         \
	each(cuStreamWaitEvent) each(cuLaunchKernelEx) each(cuMemsetD8Async) each(cuStreamIsCapturing)                 \
	each(cuLibraryLoadData) each(cuModuleLoadData) each(cuModuleLoadDataEx) each(cuModuleLoadFatBinary)            \
	each(cuLibraryGetModule) each(cuLibraryGetKernel) each(cuKernelGetFunction) each(cuModuleGetFunction)          \
	each(cuFuncGetAttribute) each(cuInit) each(cuDevicePrimaryCtxRetain) each(cuStreamQuery)                       \
	each(cuMemcpy2DAsync_v2) each(cuMemcpyDtoDAsync_v2) each(cuMemAllocAsync) each(cuMemFreeAsync)                 \
	each(cuGraphInstantiateWithFlags) each(cuGraphExecUpdate_v2) each(cuStreamCreateWithPriority)                  \
	each(cuMemHostAlloc) each(cuMemFreeHost) each(cuPointerGetAttributes) each(cuEventCreate)                      \
	each(cuMemcpy3D_v2) each(cuMemcpy3DAsync_v2) each(cuMemcpyBatchAsync)

#define NUMBER(name) NUMBER_##name,
enum { NUMBER_cuLaunchKernel, CALLS(NUMBER) COUNT };

/* How many calls a process may make. */
#define ROOM (1u << 21)

struct stamp {
	uint64_t begin, end; /* the processor's counter */
	uint32_t call, thread;
	uint64_t value; /* the call's last argument but one, which for copies is their length */
};

struct stamps {
	uint64_t counter[2], nanoseconds[2]; /* at the file's beginning and later, so that its rate is known */
	uint64_t count;
	struct stamp stamps[ROOM];
};

static struct stamps *stamps;
static __thread uint32_t thread;

static void now(int which)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	stamps->counter[which] = __rdtsc();
	stamps->nanoseconds[which] = time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void *real(const char *name)
{
	static void *library;

	if (library == NULL)
		library = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
	return library == NULL ? NULL : dlsym(library, name);
}

__attribute__((constructor)) static void begin(void)
{
	char path[4096];
	int file;

	snprintf(path, sizeof(path), "%s.%d", STAMPS, getpid());
	file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (file < 0 || ftruncate(file, sizeof(*stamps)) != 0)
		return;
	stamps = mmap(NULL, sizeof(*stamps), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (stamps == MAP_FAILED)
		stamps = NULL;
	else
		now(0);
}

static void note(uint32_t call, uint64_t begin, uint64_t value)
{
	uint64_t end = __rdtsc();
	uint64_t index;

	if (stamps == NULL)
		return;
	if (thread == 0)
		thread = gettid();
	index = __atomic_fetch_add(&stamps->count, 1, __ATOMIC_RELAXED);
	if (index >= ROOM)
		return;
	stamps->stamps[index] = (struct stamp){ begin, end, call, thread, value };
	if (index % 64 == 63)
		now(1);
}

#define WRAP(name)                                                                                                     \
	int name(long a, long b, long c, long d, long e, long f, long g, long h, long i)                                                       \
	{                                                                                                              \
		static int (*function)(long, long, long, long, long, long, long, long, long);                                            \
		uint64_t begin;                                                                                        \
		int result;                                                                                            \
                                                                                                                       \
		if (function == NULL)                                                                                  \
			function = real(#name);                                                                        \
		begin = __rdtsc();                                                                                     \
		result = function(a, b, c, d, e, f, g, h, i);                                                                   \
		note(NUMBER_##name, begin, c);                                                                         \
		return result;                                                                                         \
	}
CALLS(WRAP)

int cuLaunchKernel(void *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
		   unsigned block_z, unsigned shared_bytes, void *stream, void **parameters, void **extra)
{
	static __typeof__(cuLaunchKernel) *function;
	uint64_t begin;
	int result;

	if (function == NULL)
		function = real("cuLaunchKernel");
	begin = __rdtsc();
	result = function(kernel, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, parameters,
			  extra);
	note(NUMBER_cuLaunchKernel, begin, grid_x);
	return result;
}

/* CUDA's runtime library gets its functions from here: by their names without versions. */
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, void *status)
{
	static __typeof__(cuGetProcAddress_v2) *found;
	int result;

	if (found == NULL)
		found = real("cuGetProcAddress_v2");
	result = found(name, function, version, flags, status);
	if (result != 0 || function == NULL || (flags & 2) != 0)
		return result;
#define REPLACE(each)                                                                                                  \
	if (*function == real(#each))                                                                                  \
		*function = (void *)each;
	REPLACE(cuLaunchKernel)
	CALLS(REPLACE)
	if (strcmp(name, "cuGetProcAddress") == 0)
		*function = (void *)cuGetProcAddress_v2;
	return result;
}
