/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What the measurements share: the driver's functions, found at run time (no CUDA headers are needed), and a way to
 * run each measurement in a process of its own with a time limit, so that none disturbs the next.
 *
 * A program defines _GNU_SOURCE, includes this file and calls `measure` once for each measurement. The environment
 * variable GROUND_LIBCUDA names another library than libcuda.so.1.
 */
#ifndef GROUND_H
#define GROUND_H

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t device_pointer;

struct ipc_handle { char bytes[64]; };
struct location { int type, id; };
struct allocation {
	int type, handle_types;
	struct location location;
	void *unused;
	uint8_t compression, rdma;
	uint16_t usage;
	uint8_t reserved[4];
};
struct access_right { struct location location; int flags; };

#define CUDA_CALLS(X) \
	X(cuInit, (unsigned int)) \
	X(cuDriverGetVersion, (int *)) \
	X(cuGetErrorName, (int, const char **)) \
	X(cuGetErrorString, (int, const char **)) \
	X(cuGetProcAddress_v2, (const char *, void **, int, uint64_t, int *)) \
	X(cuDeviceGet, (int *, int)) \
	X(cuDeviceGetAttribute, (int *, int, int)) \
	X(cuDeviceGetName, (char *, int, int)) \
	X(cuDeviceGetUuid_v2, (unsigned char *, int)) \
	X(cuDeviceTotalMem_v2, (size_t *, int)) \
	X(cuDeviceGetPCIBusId, (char *, int, int)) \
	X(cuDevicePrimaryCtxRetain, (void **, int)) \
	X(cuDevicePrimaryCtxReset_v2, (int)) \
	X(cuCtxCreate_v2, (void **, unsigned int, int)) \
	X(cuCtxDestroy_v2, (void *)) \
	X(cuCtxSetCurrent, (void *)) \
	X(cuCtxGetCurrent, (void **)) \
	X(cuCtxSynchronize, (void)) \
	X(cuCtxGetStreamPriorityRange, (int *, int *)) \
	X(cuCtxGetLimit, (size_t *, int)) \
	X(cuMemGetInfo_v2, (size_t *, size_t *)) \
	X(cuMemAlloc_v2, (device_pointer *, size_t)) \
	X(cuMemFree_v2, (device_pointer)) \
	X(cuMemAllocAsync, (device_pointer *, size_t, void *)) \
	X(cuMemAllocManaged, (device_pointer *, size_t, unsigned int)) \
	X(cuMemHostAlloc, (void **, size_t, unsigned int)) \
	X(cuMemHostRegister_v2, (void *, size_t, unsigned int)) \
	X(cuMemHostUnregister, (void *)) \
	X(cuMemHostGetDevicePointer_v2, (device_pointer *, void *, unsigned int)) \
	X(cuMemHostGetFlags, (unsigned int *, void *)) \
	X(cuMemGetAddressRange_v2, (device_pointer *, size_t *, device_pointer)) \
	X(cuPointerGetAttribute, (void *, int, device_pointer)) \
	X(cuPointerGetAttributes, (unsigned int, int *, void **, device_pointer)) \
	X(cuIpcGetMemHandle, (struct ipc_handle *, device_pointer)) \
	X(cuIpcOpenMemHandle_v2, (device_pointer *, struct ipc_handle, unsigned int)) \
	X(cuMemCreate, (uint64_t *, size_t, const struct allocation *, uint64_t)) \
	X(cuMemExportToShareableHandle, (void *, uint64_t, int, uint64_t)) \
	X(cuMemImportFromShareableHandle, (uint64_t *, void *, int)) \
	X(cuMemAddressReserve, (device_pointer *, size_t, size_t, device_pointer, uint64_t)) \
	X(cuMemMap, (device_pointer, size_t, size_t, uint64_t, uint64_t)) \
	X(cuMemSetAccess, (device_pointer, size_t, const struct access_right *, size_t)) \
	X(cuMemcpyHtoD_v2, (device_pointer, const void *, size_t)) \
	X(cuMemcpyDtoH_v2, (void *, device_pointer, size_t)) \
	X(cuMemcpyDtoHAsync_v2, (void *, device_pointer, size_t, void *)) \
	X(cuMemcpyHtoDAsync_v2, (device_pointer, const void *, size_t, void *)) \
	X(cuMemsetD32_v2, (device_pointer, unsigned int, size_t)) \
	X(cuModuleLoadData, (void **, const void *)) \
	X(cuModuleLoadDataEx, (void **, const void *, unsigned int, int *, void **)) \
	X(cuModuleUnload, (void *)) \
	X(cuModuleGetFunction, (void **, void *, const char *)) \
	X(cuModuleGetGlobal_v2, (device_pointer *, size_t *, void *, const char *)) \
	X(cuFuncGetAttribute, (int *, int, void *)) \
	X(cuLaunchKernel, (void *, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, \
			   unsigned int, void *, void **, void **)) \
	X(cuStreamWaitValue32_v2, (void *, device_pointer, uint32_t, unsigned int)) \
	X(cuStreamWriteValue32_v2, (void *, device_pointer, uint32_t, unsigned int)) \
	X(cuStreamCreate, (void **, unsigned int)) \
	X(cuStreamDestroy_v2, (void *)) \
	X(cuStreamQuery, (void *)) \
	X(cuStreamSynchronize, (void *)) \
	X(cuEventCreate, (void **, unsigned int)) \
	X(cuEventRecord, (void *, void *)) \
	X(cuEventQuery, (void *)) \
	X(cuEventSynchronize, (void *)) \
	X(cuEventElapsedTime, (float *, void *, void *)) \
	X(cuEventDestroy_v2, (void *))

#define DECLARE_CALL(name, parameters) static int (*name) parameters __attribute__((unused));
CUDA_CALLS(DECLARE_CALL)
#undef DECLARE_CALL

#define HELPER static __attribute__((unused))

/* Empty; busy for a number of cycles; a store to an address. Small enough for every GPU and driver. */
HELPER const char ground_ptx[] =
	".version 7.0\n.target sm_52\n.address_size 64\n"
	".visible .entry empty()\n{\n ret;\n}\n"
	".visible .entry spin(.param .u64 cycles)\n{\n"
	" .reg .u64 %rd<5>;\n .reg .pred %p<2>;\n"
	" ld.param.u64 %rd1, [cycles];\n mov.u64 %rd2, %clock64;\n"
	"again:\n mov.u64 %rd3, %clock64;\n sub.u64 %rd4, %rd3, %rd2;\n"
	" setp.lt.u64 %p1, %rd4, %rd1;\n @%p1 bra again;\n ret;\n}\n"
	".visible .entry store(.param .u64 target)\n{\n"
	" .reg .u64 %rd<2>;\n .reg .u32 %r<2>;\n"
	" ld.param.u64 %rd1, [target];\n mov.u32 %r1, 42;\n st.global.u32 [%rd1], %r1;\n ret;\n}\n";

HELPER void *library, *context, *module, *empty_kernel, *spin_kernel, *store_kernel;

HELPER double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A result as "700 CUDA_ERROR_ILLEGAL_ADDRESS". The text lives until the eighth call after this one. */
HELPER const char *code(int result)
{
	static char texts[8][80];
	static unsigned int next;
	const char *name = NULL;
	char *text = texts[next++ % 8];

	if (cuGetErrorName)
		cuGetErrorName(result, &name);
	snprintf(text, sizeof(texts[0]), "%d%s%s", result, name ? " " : "", name ? name : "");
	return text;
}

/* Ends the measurement, with the failure as its row. */
#define CHECK(expression) \
	do { \
		int check_result = (expression); \
		if (check_result) { \
			printf("| `%s` | failed: %s |\n", #expression, code(check_result)); \
			fflush(stdout); \
			_exit(1); \
		} \
	} while (0)

/* A row of its own for what a call answers. */
#define ANSWER(what, expression) printf("| %s | %s |\n", what, code(expression))

HELPER void load_library(void)
{
	const char *name = getenv("GROUND_LIBCUDA");

	library = dlopen(name ? name : "libcuda.so.1", RTLD_NOW);
	if (!library) {
		printf("| dlopen | %s |\n", dlerror());
		fflush(stdout);
		_exit(1);
	}
#define FIND_CALL(name, parameters) *(void **)&name = dlsym(library, #name);
	CUDA_CALLS(FIND_CALL)
#undef FIND_CALL
}

HELPER void start_driver(void)
{
	if (!library)
		load_library();
	CHECK(cuInit(0));
}

HELPER void start_context(void)
{
	int device;

	start_driver();
	CHECK(cuDeviceGet(&device, 0));
	CHECK(cuCtxCreate_v2(&context, 0, device));
}

HELPER void load_kernels(void)
{
	CHECK(cuModuleLoadData(&module, ground_ptx));
	CHECK(cuModuleGetFunction(&empty_kernel, module, "empty"));
	CHECK(cuModuleGetFunction(&spin_kernel, module, "spin"));
	CHECK(cuModuleGetFunction(&store_kernel, module, "store"));
}

HELPER void start(void)
{
	start_context();
	load_kernels();
}

HELPER int launch(void *kernel, void *stream, uint64_t parameter)
{
	void *parameters[] = { &parameter };

	return cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, kernel == empty_kernel ? NULL : parameters, NULL);
}

/* Runs one measurement in a child; says so when it died or exceeded its time. */
HELPER void measure(const char *what, void (*body)(void), unsigned int seconds)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		alarm(seconds);
		body();
		fflush(stdout);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		printf("| %s | no process: %s |\n", what, strerror(errno));
	else if (WIFSIGNALED(status))
		printf("| %s | ended by %s |\n", what,
		       WTERMSIG(status) == SIGALRM ? "its time limit" : strsignal(WTERMSIG(status)));
}

HELPER void table(const char *title)
{
	/* Rows leave at once, so that a measurement that is killed keeps those before. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("\n### %s\n\n| what | measured |\n|---|---|\n", title);
}

#endif
