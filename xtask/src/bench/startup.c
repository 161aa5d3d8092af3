// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * How long a process takes from its start to its end, with a library preloaded and without.
 *
 * startup ROUNDS environment|file {PROGRAM LIBRARY}...    LIBRARY is "-" for none
 *
 * Each round measures every variant once, in an order that rotates, so that whatever else the machine does meets all of
 * them alike; a start that is not measured goes before, so that caches have what this variant needs. A line for each start: variant, nanoseconds, microseconds of processor time, page faults.
 * "file" has the library in /etc/ld.so.preload, "environment" in LD_PRELOAD.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIST "/etc/ld.so.preload"

struct sample {
	long long nanoseconds;
	long processor;
	long faults;
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void preload(const char *library)
{
	int list;

	if (strcmp(library, "-") == 0) {
		unlink(LIST);
		return;
	}
	list = open(LIST, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (list < 0 || dprintf(list, "%s\n", library) < 0 || close(list) != 0)
		fail(LIST);
}

static struct sample start(const char *program, const char *library, int by_file)
{
	char variable[4096];
	char *environment[] = {"LC_ALL=C", NULL, NULL};
	char *arguments[] = {(char *)program, NULL};
	struct rusage used;
	struct sample sample;
	long long begin;
	int error, status;
	pid_t child;

	if (!by_file && strcmp(library, "-") != 0) {
		snprintf(variable, sizeof(variable), "LD_PRELOAD=%s", library);
		environment[1] = variable;
	}
	begin = now();
	error = posix_spawn(&child, program, NULL, NULL, arguments, environment);
	if (error) {
		fprintf(stderr, "%s: %s\n", program, strerror(error));
		exit(1);
	}
	if (wait4(child, &status, 0, &used) != child)
		fail("wait4");
	sample.nanoseconds = now() - begin;
	if (status != 0) {
		fprintf(stderr, "%s with %s ended with status %d\n", program, library, status);
		exit(1);
	}
	sample.processor = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000L + used.ru_utime.tv_usec +
			   used.ru_stime.tv_usec;
	sample.faults = used.ru_minflt + used.ru_majflt;
	return sample;
}

int main(int count, char **arguments)
{
	int rounds, variants, round, step, by_file;

	if (count < 5 || count % 2 == 0) {
		fprintf(stderr, "usage: startup ROUNDS environment|file {PROGRAM LIBRARY}...\n");
		return 2;
	}
	rounds = atoi(arguments[1]);
	by_file = strcmp(arguments[2], "file") == 0;
	variants = (count - 3) / 2;
	for (round = -5; round < rounds; round++) {
		for (step = 0; step < variants; step++) {
			int variant = (round + 5 + step) % variants;
			const char *program = arguments[3 + 2 * variant], *library = arguments[4 + 2 * variant];
			struct sample sample;

			if (by_file)
				preload(library);
			start(program, library, by_file);
			sample = start(program, library, by_file);
			/* The first rounds fill caches. */
			if (round >= 0)
				printf("%d %lld %ld %ld\n", variant, sample.nanoseconds, sample.processor, sample.faults);
		}
	}
	if (by_file)
		unlink(LIST);
	return 0;
}
