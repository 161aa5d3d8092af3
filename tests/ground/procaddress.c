// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * Which exported function cuGetProcAddress_v2 returns for each name, CUDA version and default-stream flavour.
 *
 *     procaddress symbols.txt > table.tsv
 *
 * A line is: name, flags, and `version:symbol` wherever the answer changes, with the lowest version (in steps of 10)
 * from which it holds. An answer that is no exported function is printed as its status: `-1` for "name unknown" and
 * `-2` for "version too low"; `?` is a function that is not exported.
 */
#define _GNU_SOURCE
#include "ground.h"

enum { FIRST = 1000, LAST = 13020, MAX_SYMBOLS = 2000, PER_THREAD = 2 };

/* Versions are 1000 × major + 10 × minor; no CUDA release had a minor number above 15. */
static int next_version(int version)
{
	return version % 1000 < 150 ? version + 10 : version - version % 1000 + 1000;
}

static char *symbols[MAX_SYMBOLS];
static void *addresses[MAX_SYMBOLS];
static size_t symbol_count;

static void read_symbols(const char *path)
{
	char line[200];
	FILE *file = fopen(path, "r");

	if (!file) {
		fprintf(stderr, "procaddress: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	while (fgets(line, sizeof(line), file) && symbol_count < MAX_SYMBOLS) {
		line[strcspn(line, "\r\n")] = 0;
		if (!line[0])
			continue;
		symbols[symbol_count] = strdup(line);
		addresses[symbol_count] = dlsym(library, line);
		symbol_count++;
	}
	fclose(file);
}

/* The answer as an index of the symbol list, or a negative number: -1 and -2 as above, -3 not exported, else an error. */
static int ask(const char *name, int version, uint64_t flags)
{
	void *function = NULL;
	int status = 0;
	int result = cuGetProcAddress_v2(name, &function, version, flags, &status);
	size_t i, found = symbol_count, length = strlen(name);

	if (!function)
		return result && result != 500 ? -1000 - result : status == 2 ? -2 : -1;
	/* Several names may lead to one function: prefer the one that begins as the name asked for. */
	for (i = 0; i < symbol_count; i++) {
		if (addresses[i] != function)
			continue;
		if (found == symbol_count || (strncmp(symbols[i], name, length) == 0 &&
					      strncmp(symbols[found], name, length) != 0))
			found = i;
	}
	return found == symbol_count ? -3 : (int)found;
}

static void print_answer(int version, int answer)
{
	if (answer >= 0)
		printf("\t%d:%s", version, symbols[answer]);
	else if (answer == -3)
		printf("\t%d:?", version);
	else
		printf("\t%d:%d", version, answer);
}

static void tabulate(const char *name, uint64_t flags)
{
	int version, answer, previous = ask(name, FIRST, flags);

	printf("%s\t%lu", name, flags);
	print_answer(FIRST, previous);
	for (version = next_version(FIRST); version <= LAST; version = next_version(version)) {
		answer = ask(name, version, flags);
		if (answer != previous)
			print_answer(version, answer);
		previous = answer;
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	size_t i;
	int version = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: procaddress symbols.txt\n");
		return 2;
	}
	alarm(40);
	load_library();
	read_symbols(argv[1]);
	if (!cuGetProcAddress_v2 || cuInit(0)) {
		fprintf(stderr, "procaddress: the driver does not start\n");
		return 1;
	}
	cuDriverGetVersion(&version);
	printf("# driver API %d; name, flags, then the versions at which the answer changes\n", version);
	for (i = 0; i < symbol_count; i++) {
		tabulate(symbols[i], 0);
		tabulate(symbols[i], PER_THREAD);
	}
	return 0;
}
