// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * Measures what the design stands on and CUDA's documentation leaves open. Run natively on a machine with a GPU:
 *
 *     cc -O2 -pthread -o ground tests/ground/ground.c -ldl && ./ground
 *
 * Each measurement runs in a process of its own, so that none disturbs the next.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef int (*call)();
#define EACH(X) \
	X(cuInit) X(cuDeviceGet) X(cuCtxCreate_v2) X(cuCtxSetCurrent) X(cuMemAlloc_v2) X(cuMemFree_v2) \
	X(cuMemAllocAsync) X(cuMemAllocManaged) X(cuMemHostAlloc) X(cuIpcGetMemHandle) X(cuIpcOpenMemHandle_v2) \
	X(cuModuleLoadData) X(cuModuleGetFunction) X(cuLaunchKernel) X(cuStreamCreate) X(cuStreamSynchronize) \
	X(cuMemcpyDtoH_v2) X(cuMemcpyHtoD_v2) X(cuCtxSynchronize) X(cuStreamWaitValue32_v2) X(cuStreamWriteValue32_v2) \
	X(cuMemGetInfo_v2) X(cuMemsetD32_v2) X(cuCtxDestroy_v2) X(cuStreamQuery)
#define DECLARE(name) static call name;
EACH(DECLARE)

struct ipc_handle { char bytes[64]; };
typedef int (*ipc_open)(uint64_t *, struct ipc_handle, unsigned int);

#define CHECK(expression) \
	do { \
		int check_result = (expression); \
		if (check_result) { \
			printf("| %s | failed with %d |\n", #expression, check_result); \
			fflush(stdout); \
			_exit(1); \
		} \
	} while (0)

static const char ptx[] =
	".version 7.0\n.target sm_52\n.address_size 64\n"
	".visible .entry empty()\n{\n ret;\n}\n"
	".visible .entry spin(.param .u64 cycles)\n{\n"
	" .reg .u64 %rd<5>;\n .reg .pred %p<2>;\n"
	" ld.param.u64 %rd1, [cycles];\n mov.u64 %rd2, %clock64;\n"
	"again:\n mov.u64 %rd3, %clock64;\n sub.u64 %rd4, %rd3, %rd2;\n"
	" setp.lt.u64 %p1, %rd4, %rd1;\n @%p1 bra again;\n ret;\n}\n";

static void *context;
static void *empty_kernel, *spin_kernel;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void load(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);

	if (!library) {
		printf("| dlopen | %s |\n", dlerror());
		_exit(1);
	}
#define LOOKUP(name) name = (call)dlsym(library, #name);
	EACH(LOOKUP)
}

static void start(void)
{
	void *module;
	int device;

	if (!cuInit)
		load();
	CHECK(cuInit(0));
	CHECK(cuDeviceGet(&device, 0));
	CHECK(cuCtxCreate_v2(&context, 0, device));
	CHECK(cuModuleLoadData(&module, ptx));
	CHECK(cuModuleGetFunction(&empty_kernel, module, "empty"));
	CHECK(cuModuleGetFunction(&spin_kernel, module, "spin"));
}

static void launch(void *kernel, void *stream, uint64_t cycles)
{
	void *parameters[] = { &cycles };

	CHECK(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

/* 1. Where ranges land under ADDR_COMPAT_LAYOUT; the second process opens what the first exports. */
static void addresses(const char *self)
{
	uint64_t device, pool, managed, opened;
	struct ipc_handle handle;
	int stack, in[2], out[2];
	void *pinned;

	(void)self;
	if (pipe(in) || pipe(out))
		return;
	if (!fork()) {
		start();
		CHECK(cuMemAlloc_v2(&device, (size_t)2 << 20));
		CHECK(cuIpcGetMemHandle(&handle, device));
		if (write(in[1], &handle, sizeof(handle)) < 0 || read(out[0], &stack, 1) < 0)
			_exit(1);
		_exit(0);
	}
	start();
	CHECK(cuMemAlloc_v2(&device, (size_t)2 << 20));
	CHECK(cuMemAllocAsync(&pool, (size_t)1 << 20, NULL));
	CHECK(cuMemAllocManaged(&managed, (size_t)1 << 20, 1));
	CHECK(cuMemHostAlloc(&pinned, (size_t)1 << 20, 3));
	if (read(in[0], &handle, sizeof(handle)) != sizeof(handle))
		return;
	CHECK(((ipc_open)cuIpcOpenMemHandle_v2)(&opened, handle, 1));
	printf("| device %#lx, pool %#lx, managed %#lx, pinned %p, **IPC-opened %#lx** | stack %p, libcuda %p, program %p |\n",
	       device, pool, managed, pinned, opened, (void *)&stack, (void *)cuInit, (void *)addresses);
	if (write(out[1], "x", 1) < 0)
		_exit(1);
	fflush(stdout);
	wait(NULL);
}

/* 2. Whether threads of one context scale. */
static volatile int go;
static const int launches = 20000;

static void *launcher(void *unused)
{
	void *stream;
	int i;

	(void)unused;
	CHECK(cuCtxSetCurrent(context));
	CHECK(cuStreamCreate(&stream, 1));
	while (!go)
		;
	for (i = 0; i < launches; i++)
		launch(empty_kernel, stream, 0);
	CHECK(cuStreamSynchronize(stream));
	return NULL;
}

static void threads(void)
{
	static const int counts[] = { 1, 2, 4, 8 };
	pthread_t thread[8];
	unsigned int c;
	int i;

	start();
	for (c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		double begin;

		go = 0;
		for (i = 0; i < counts[c]; i++)
			pthread_create(&thread[i], NULL, launcher, NULL);
		usleep(100000);
		begin = now();
		go = 1;
		for (i = 0; i < counts[c]; i++)
			pthread_join(thread[i], NULL);
		printf("| %d threads launch in one context | %.0f launches/s in all, %.2f µs each |\n", counts[c],
		       launches * counts[c] / (now() - begin), (now() - begin) / launches * 1e6);
	}
}

/* 3. A thread that is blocked in the driver, and what another one can do meanwhile. */
static void *waiter(void *stream)
{
	CHECK(cuCtxSetCurrent(context));
	CHECK(cuStreamSynchronize(stream));
	return NULL;
}

static void blocked(void)
{
	void *busy, *other;
	pthread_t thread;
	uint64_t memory;
	double t0, t1, t2, t3;
	int value;

	start();
	CHECK(cuStreamCreate(&busy, 1));
	CHECK(cuStreamCreate(&other, 1));
	CHECK(cuMemAlloc_v2(&memory, 4096));
	launch(spin_kernel, busy, 400000000);
	pthread_create(&thread, NULL, waiter, busy);
	usleep(20000);
	t0 = now();
	launch(empty_kernel, other, 0);
	CHECK(cuStreamSynchronize(other));
	t1 = now();
	CHECK(cuMemcpyDtoH_v2(&value, memory, 4));
	t2 = now();
	CHECK(cuMemFree_v2(memory));
	t3 = now();
	pthread_join(thread, NULL);
	printf("| while a thread waits for a kernel of about 0.2 s | launch+sync elsewhere %.0f µs, 4-byte DtoH %.0f µs, cuMemFree %.0f µs; kernel over after %.0f µs |\n",
	       (t1 - t0) * 1e6, (t2 - t1) * 1e6, (t3 - t2) * 1e6, (now() - t0) * 1e6);
}

/* 4. Launches behind a blocked stream: does the driver stall, and does it then stop others? */
static uint64_t flag;
static volatile int queued;

static void *flooder(void *stream)
{
	CHECK(cuCtxSetCurrent(context));
	for (queued = 0; queued < 4000; queued++)
		launch(empty_kernel, stream, 0);
	return NULL;
}

static void flood(void)
{
	void *blocked_stream, *other;
	pthread_t thread;
	int before, after;
	double begin;

	start();
	CHECK(cuMemAlloc_v2(&flag, 4096));
	CHECK(cuMemsetD32_v2(flag, 0, 1));
	CHECK(cuStreamCreate(&blocked_stream, 1));
	CHECK(cuStreamCreate(&other, 1));
	CHECK(cuStreamWaitValue32_v2(blocked_stream, flag, 1, 0));
	pthread_create(&thread, NULL, flooder, blocked_stream);
	usleep(500000);
	before = queued;
	begin = now();
	launch(empty_kernel, other, 0);
	CHECK(cuStreamWriteValue32_v2(other, flag, 1, 0));
	after = queued;
	pthread_join(thread, NULL);
	CHECK(cuCtxSynchronize());
	printf("| launches behind a stream that waits | stall at %d of 4000; another thread's launch + WriteValue go through in %.0f µs (then %d) |\n",
	       before, (now() - begin) * 1e6, after);
}

/* 5. A child of a process that never touched CUDA, that loaded the library, that initialised it. */
static void child_of(const char *parent)
{
	double begin;
	int status, result;

	fflush(stdout);
	if (!fork()) {
		begin = now();
		if (!cuInit)
			load();
		result = cuInit(0);
		if (result) {
			printf("| child of a parent that %s | cuInit = %d |\n", parent, result);
		} else {
			start();
			printf("| child of a parent that %s | works; init, context and module %.0f ms |\n", parent,
			       (now() - begin) * 1e3);
		}
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	if (!WIFEXITED(status))
		printf("| child of a parent that %s | died by signal %d |\n", parent, WTERMSIG(status));
}

static void spawner(void)
{
	child_of("never touched CUDA");
	load();
	child_of("loaded libcuda only");
	CHECK(cuInit(0));
	child_of("called cuInit");
}

/* 6. The same as another user, with no new privileges, in namespaces of its own. */
static void confined(void)
{
	int namespaces = unshare(CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID);

	fflush(stdout);
	if (!fork()) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (setgid(65534) || setuid(65534))
			_exit(1);
		start();
		printf("| as user 65534, no_new_privs, own ipc, net, mount and pid namespaces (unshare = %d) | works |\n",
		       namespaces);
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
}

static void in_child(void (*measurement)(void))
{
	fflush(stdout);
	if (!fork()) {
		measurement();
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1) {
		addresses(argv[0]);
		return 0;
	}
	printf("| what | measured |\n|---|---|\n");
	in_child(spawner);
	in_child(confined);
	in_child(threads);
	in_child(blocked);
	in_child(flood);
	if (!fork()) {
		personality(ADDR_COMPAT_LAYOUT);
		execl("/proc/self/exe", argv[0], "addresses", NULL);
		_exit(1);
	}
	wait(NULL);
	return 0;
}
