// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * What a context costs in time and GPU memory: the first process, further ones beside it, and how soon the memory of a
 * process that was killed is free again.
 */
#define _GNU_SOURCE
#include "ground.h"

static size_t free_memory(void)
{
	size_t unused, total;

	CHECK(cuMemGetInfo_v2(&unused, &total));
	return unused;
}

static double mebibytes(size_t before, size_t after)
{
	return ((double)before - (double)after) / (1 << 20);
}

/* Starts a process with a context; it stays until it is sent a byte (by `release`) or killed. */
static pid_t hold_context(const char *what, int *keep)
{
	int ready[2], stay[2];
	pid_t child;
	char byte;

	if (pipe(ready) || pipe(stay))
		return -1;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		double begin = now(), initialised, created, loaded;

		alarm(15);
		close(stay[1]);
		/* Works only because the parent never called cuInit. */
		start_driver();
		initialised = now();
		start_context();
		created = now();
		load_kernels();
		loaded = now();
		CHECK(launch(empty_kernel, NULL, 0));
		CHECK(cuCtxSynchronize());
		printf("| %s | cuInit %.0f ms, context %.0f ms, module %.0f ms, first launch %.1f ms |\n", what,
		       (initialised - begin) * 1e3, (created - initialised) * 1e3, (loaded - created) * 1e3,
		       (now() - loaded) * 1e3);
		fflush(stdout);
		if (write(ready[1], "r", 1) < 0 || read(stay[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(ready[1]);
	close(stay[0]);
	if (read(ready[0], &byte, 1) != 1)
		printf("| %s | did not start |\n", what);
	close(ready[0]);
	*keep = stay[1];
	return child;
}

static void release(pid_t child, int keep)
{
	/* A byte, for closing is not enough: processes started later hold the pipe too. */
	if (write(keep, "x", 1) != 1)
		kill(child, SIGKILL);
	close(keep);
	waitpid(child, NULL, 0);
}

/* The times of processes that start one after the other; this process stays without CUDA. */
static void processes(void)
{
	pid_t child[3];
	int keep[3], i;
	double begin;

	child[0] = hold_context("the first process", &keep[0]);
	child[1] = hold_context("a second one beside it", &keep[1]);
	child[2] = hold_context("a third one beside them", &keep[2]);
	for (i = 0; i < 3; i++) {
		begin = now();
		if (i == 2)
			kill(child[i], SIGKILL);
		release(child[i], keep[i]);
		printf("| process %d ends%s | after %.0f ms |\n", i + 1, i == 2 ? " by SIGKILL" : "", (now() - begin) * 1e3);
	}
	child[0] = hold_context("a process after all have ended", &keep[0]);
	release(child[0], keep[0]);
}

/* Asks an observing process (which has a context) for the free memory. */
static size_t observed(int to, int from)
{
	size_t bytes = 0;

	if (write(to, "?", 1) != 1 || read(from, &bytes, sizeof(bytes)) != sizeof(bytes))
		printf("| observer | %s |\n", strerror(errno));
	return bytes;
}

static void observe(int from, int to)
{
	char byte;

	alarm(25);
	start_context();
	while (read(from, &byte, 1) == 1) {
		size_t bytes = free_memory();

		if (write(to, &bytes, sizeof(bytes)) != sizeof(bytes))
			break;
	}
	_exit(0);
}

/* The memory that a process takes, seen by another one. */
static void memory(void)
{
	int questions[2], answers[2], keep, i;
	size_t before, with, after;
	pid_t observer, child;
	double begin;

	if (pipe(questions) || pipe(answers))
		return;
	fflush(stdout);
	observer = fork();
	if (observer == 0) {
		close(questions[1]);
		observe(questions[0], answers[1]);
	}
	close(questions[0]);
	close(answers[1]);
	before = observed(questions[1], answers[0]);
	child = hold_context("a process beside the observer", &keep);
	with = observed(questions[1], answers[0]);
	begin = now();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	printf("| GPU memory of a process with a context and a module | %.0f MiB; killed and reaped after %.0f ms;",
	       mebibytes(before, with), (now() - begin) * 1e3);
	after = observed(questions[1], answers[0]);
	for (i = 0; i < 100 && after + (1 << 20) < before; i++) {
		usleep(10000);
		after = observed(questions[1], answers[0]);
	}
	printf(" memory back (but %.0f MiB) after %.0f ms |\n", mebibytes(before, after), (now() - begin) * 1e3);
	close(questions[1]);
	close(keep);
	waitpid(observer, NULL, 0);
}

/* Further contexts of one process, and what allocations take. */
static void within(void)
{
	size_t level, next;
	device_pointer pointer;
	double begin;
	void *second, *stream;

	start_context();
	level = free_memory();
	load_kernels();
	CHECK(launch(empty_kernel, NULL, 0));
	CHECK(cuCtxSynchronize());
	next = free_memory();
	printf("| a small module and its first launch | %.1f MiB |\n", mebibytes(level, next));
	CHECK(cuStreamCreate(&stream, 1));
	level = free_memory();
	printf("| a stream | %.1f MiB |\n", mebibytes(next, level));
	CHECK(cuMemAlloc_v2(&pointer, 1));
	next = free_memory();
	printf("| cuMemAlloc of 1 byte | %.1f MiB |\n", mebibytes(level, next));
	begin = now();
	CHECK(cuCtxCreate_v2(&second, 0, 0));
	printf("| a second context of the process | %.0f ms,", (now() - begin) * 1e3);
	level = free_memory();
	printf(" %.0f MiB |\n", mebibytes(next, level));
	begin = now();
	CHECK(cuCtxDestroy_v2(second));
	printf("| destroying it | %.0f ms |\n", (now() - begin) * 1e3);
}

int main(void)
{
	/* A process that failed to start shows as a row, not as a signal to who writes to it. */
	signal(SIGPIPE, SIG_IGN);
	table("Cost of a context");
	measure("processes", processes, 20);
	measure("memory", memory, 15);
	measure("within one process", within, 10);
	return 0;
}
