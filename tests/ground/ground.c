// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * The first questions that the design asked: whether threads of one context scale, what a blocked thread holds up,
 * where the driver stalls launches, and what a child of a process that did or did not touch CUDA can do.
 */
#define _GNU_SOURCE
#include "ground.h"
#include <pthread.h>

/* 1. Whether threads of one context scale. */
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
		CHECK(launch(empty_kernel, stream, 0));
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

/* 2. A thread that is blocked in the driver, and what another one can do meanwhile. */
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
	CHECK(launch(spin_kernel, busy, 400000000));
	pthread_create(&thread, NULL, waiter, busy);
	usleep(20000);
	t0 = now();
	CHECK(launch(empty_kernel, other, 0));
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

/* 3. Launches behind a blocked stream: does the driver stall, and does it then stop others? */
static uint64_t flag;
static volatile int queued;

static void *flooder(void *stream)
{
	CHECK(cuCtxSetCurrent(context));
	for (queued = 0; queued < 4000; queued++)
		CHECK(launch(empty_kernel, stream, 0));
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
	CHECK(launch(empty_kernel, other, 0));
	CHECK(cuStreamWriteValue32_v2(other, flag, 1, 0));
	after = queued;
	pthread_join(thread, NULL);
	CHECK(cuCtxSynchronize());
	printf("| launches behind a stream that waits | stall at %d of 4000; another thread's launch + WriteValue go through in %.0f µs (then %d) |\n",
	       before, (now() - begin) * 1e6, after);
}

/* 4. A child of a process that never touched CUDA, that loaded the library, that initialised it. */
static void child_of(const char *parent)
{
	double begin;
	int status, result;

	fflush(stdout);
	if (!fork()) {
		begin = now();
		if (!library)
			load_library();
		result = cuInit(0);
		if (result) {
			printf("| child of a parent that %s | cuInit = %s |\n", parent, code(result));
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
	load_library();
	child_of("loaded libcuda only");
	CHECK(cuInit(0));
	child_of("called cuInit");
}

int main(void)
{
	table("Threads, stalls and children");
	measure("children", spawner, 20);
	measure("threads", threads, 10);
	measure("blocked", blocked, 10);
	measure("flood", flood, 10);
	return 0;
}
