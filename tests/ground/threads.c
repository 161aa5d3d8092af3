// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * Whether a call of one thread holds up the calls of another in the same context (the driver's locks): the latencies of
 * small calls while another thread keeps the driver busy; and whether copies of several threads scale.
 */
#define _GNU_SOURCE
#include "ground.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { SAMPLES = 200000, BUFFER = 64 << 20 };

static const uint64_t spin_cycles = 90000000; /* about 50 ms */
static atomic_int stop, started;
static char *buffer;
static device_pointer large;

/* What the other thread does: one round, repeated until the probe ends. */
static void rest(void *stream)
{
	(void)stream;
	usleep(1000);
}

static void wait_for_kernel(void *stream)
{
	CHECK(launch(spin_kernel, stream, spin_cycles));
	CHECK(cuStreamSynchronize(stream));
}

static void allocate(void *stream)
{
	device_pointer memory;

	(void)stream;
	CHECK(cuMemAlloc_v2(&memory, 16 << 20));
	CHECK(cuMemFree_v2(memory));
}

static void load_module(void *stream)
{
	static unsigned int round;
	char text[sizeof(ground_ptx) + 40];
	void *loaded;

	(void)stream;
	/* A comment that differs makes the driver compile each time instead of finding the result in its cache. */
	snprintf(text, sizeof(text), "%s// %d.%u\n", ground_ptx, getpid(), round++);
	CHECK(cuModuleLoadData(&loaded, text));
	CHECK(cuModuleUnload(loaded));
}

static void register_memory(void *stream)
{
	(void)stream;
	CHECK(cuMemHostRegister_v2(buffer, BUFFER, 3));
	CHECK(cuMemHostUnregister(buffer));
}

static void copy_pageable(void *stream)
{
	(void)stream;
	CHECK(cuMemcpyHtoD_v2(large, buffer, BUFFER));
}

/* What is timed. */
static void probe_launch(void *stream, device_pointer memory)
{
	(void)memory;
	CHECK(launch(empty_kernel, stream, 0));
}

static void probe_launch_and_wait(void *stream, device_pointer memory)
{
	(void)memory;
	CHECK(launch(empty_kernel, stream, 0));
	CHECK(cuStreamSynchronize(stream));
}

static void probe_copy(void *stream, device_pointer memory)
{
	int value;

	(void)stream;
	CHECK(cuMemcpyDtoH_v2(&value, memory, 4));
}

static void probe_allocation(void *stream, device_pointer memory)
{
	(void)stream;
	CHECK(cuMemAlloc_v2(&memory, 4096));
	CHECK(cuMemFree_v2(memory));
}

static void probe_query(void *stream, device_pointer memory)
{
	(void)memory;
	CHECK(cuStreamQuery(stream));
}

static const struct { const char *name; void (*round)(void *); } disturbances[] = {
	{ "nothing", rest }, { "cuStreamSynchronize of a kernel of 50 ms", wait_for_kernel },
	{ "cuMemAlloc + cuMemFree of 16 MiB", allocate }, { "cuModuleLoadData of PTX", load_module },
	{ "cuMemHostRegister of 64 MiB", register_memory }, { "cuMemcpyHtoD of 64 MiB, pageable", copy_pageable },
};

static const struct { const char *name; void (*call)(void *, device_pointer); } probes[] = {
	{ "cuLaunchKernel", probe_launch }, { "launch and wait", probe_launch_and_wait },
	{ "cuMemcpyDtoH of 4 bytes", probe_copy }, { "cuMemAlloc + cuMemFree of 4 KiB", probe_allocation },
	{ "cuStreamQuery", probe_query },
};

static void *disturb(void *round)
{
	void (*const *body)(void *) = round;
	void *stream;

	CHECK(cuCtxSetCurrent(context));
	CHECK(cuStreamCreate(&stream, 1));
	do {
		atomic_store(&started, 1);
		(*body)(stream);
	} while (!atomic_load(&stop));
	return NULL;
}

static int by_size(const void *left, const void *right)
{
	const float a = *(const float *)left, b = *(const float *)right;

	return a < b ? -1 : a > b;
}

static void latency(unsigned int disturbance, unsigned int probe, void *stream, device_pointer memory)
{
	static float samples[SAMPLES];
	void (*round)(void *) = disturbances[disturbance].round;
	double end, begin;
	pthread_t thread;
	int count = 0;

	atomic_store(&stop, 0);
	atomic_store(&started, 0);
	if (pthread_create(&thread, NULL, disturb, &round))
		return;
	while (!atomic_load(&started))
		usleep(100);
	for (end = now() + 0.12; count < SAMPLES && (begin = now()) < end; count++) {
		probes[probe].call(stream, memory);
		samples[count] = (float)((now() - begin) * 1e6);
		/* Launches are kept from filling the stream, whose stall is another question. */
		if (count % 64 == 63)
			CHECK(cuStreamSynchronize(stream));
	}
	atomic_store(&stop, 1);
	pthread_join(thread, NULL);
	qsort(samples, (size_t)count, sizeof(samples[0]), by_size);
	printf("| other thread: %s; this one: %s | %d calls; median %.1f µs, 99 %% %.1f µs, longest %.1f µs |\n",
	       disturbances[disturbance].name, probes[probe].name, count, (double)samples[count / 2],
	       (double)samples[count * 99L / 100], (double)samples[count - 1]);
}

static void latencies(void)
{
	unsigned int disturbance, probe;
	device_pointer memory;
	void *stream;

	start();
	buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	CHECK(buffer == MAP_FAILED);
	CHECK(cuMemAlloc_v2(&memory, 4096));
	CHECK(cuMemAlloc_v2(&large, BUFFER));
	CHECK(cuStreamCreate(&stream, 1));
	for (disturbance = 0; disturbance < sizeof(disturbances) / sizeof(disturbances[0]); disturbance++)
		for (probe = 0; probe < sizeof(probes) / sizeof(probes[0]); probe++)
			latency(disturbance, probe, stream, memory);
}

static pthread_barrier_t ready;

static void *copier(void *unused)
{
	device_pointer memory;
	int i, value;

	(void)unused;
	CHECK(cuCtxSetCurrent(context));
	CHECK(cuMemAlloc_v2(&memory, 4096));
	pthread_barrier_wait(&ready);
	for (i = 0; i < 5000; i++)
		CHECK(cuMemcpyDtoH_v2(&value, memory, 4));
	return NULL;
}

static void copies(void)
{
	static const unsigned int counts[] = { 1, 2, 4, 8 };
	pthread_t thread[8];
	unsigned int c, i;

	start_context();
	for (c = 0; c < 4; c++) {
		double begin;

		pthread_barrier_init(&ready, NULL, counts[c] + 1);
		for (i = 0; i < counts[c]; i++)
			if (pthread_create(&thread[i], NULL, copier, NULL))
				return;
		pthread_barrier_wait(&ready);
		begin = now();
		for (i = 0; i < counts[c]; i++)
			pthread_join(thread[i], NULL);
		printf("| %u threads copy 4 bytes from the device (one default stream) | %.0f copies/s in all, %.1f µs each |\n",
		       counts[c], 5000 * counts[c] / (now() - begin), (now() - begin) / 5000 * 1e6);
		pthread_barrier_destroy(&ready);
	}
}

/* Waits until a word is not 0, for about two seconds at most. */
static const char wait_ptx[] =
	".version 7.0\n.target sm_52\n.address_size 64\n"
	".visible .entry wait(.param .u64 flag)\n{\n"
	" .reg .u64 %rd<5>;\n .reg .u32 %r<2>;\n .reg .pred %p<3>;\n"
	" ld.param.u64 %rd1, [flag];\n mov.u64 %rd2, %clock64;\n"
	"again:\n ld.volatile.global.u32 %r1, [%rd1];\n setp.ne.u32 %p1, %r1, 0;\n @%p1 bra over;\n"
	" mov.u64 %rd3, %clock64;\n sub.u64 %rd4, %rd3, %rd2;\n"
	" setp.lt.u64 %p2, %rd4, 3500000000;\n @%p2 bra again;\n"
	"over:\n ret;\n}\n";

static atomic_int queued;

static void *flooder(void *stream)
{
	int i;

	CHECK(cuCtxSetCurrent(context));
	for (i = 0; i < 4000; i++) {
		CHECK(launch(empty_kernel, stream, 0));
		atomic_store(&queued, i + 1);
	}
	return NULL;
}

static void flood(void)
{
	void *waiting, *other, *kernel, *waiter_module, *flag;
	device_pointer memory;
	pthread_t thread;
	double begin, launched, copied;
	int before, value;

	start();
	CHECK(cuModuleLoadData(&waiter_module, wait_ptx));
	CHECK(cuModuleGetFunction(&kernel, waiter_module, "wait"));
	CHECK(cuMemHostAlloc(&flag, 4096, 3));
	*(atomic_int *)flag = 0;
	CHECK(cuMemAlloc_v2(&memory, 4096));
	CHECK(cuStreamCreate(&waiting, 1));
	CHECK(cuStreamCreate(&other, 1));
	CHECK(launch(kernel, waiting, (uintptr_t)flag));
	if (pthread_create(&thread, NULL, flooder, waiting))
		return;
	usleep(300000);
	before = atomic_load(&queued);
	begin = now();
	CHECK(launch(empty_kernel, other, 0));
	CHECK(cuStreamSynchronize(other));
	launched = now();
	CHECK(cuMemcpyDtoHAsync_v2(&value, memory, 4, other));
	CHECK(cuStreamSynchronize(other));
	copied = now();
	atomic_store((atomic_int *)flag, 1);
	pthread_join(thread, NULL);
	CHECK(cuCtxSynchronize());
	printf("| launches behind a kernel that waits for mapped memory | stall at %d of 4000; meanwhile launch and wait on another stream %.0f µs, copy and wait %.0f µs; all over %.0f µs after the store |\n",
	       before, (launched - begin) * 1e6, (copied - launched) * 1e6, (now() - copied) * 1e6);
}

int main(void)
{
	table("Threads of one context");
	measure("latencies", latencies, 20);
	measure("copies", copies, 10);
	measure("flood", flood, 10);
	return 0;
}
