/* How long a program takes from its start to its end: prints the median and the longest of many, and the median of its
 * processor time, in microseconds. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 40 };

static int later(const void *one, const void *other)
{
    const long a = *(const long *)one, b = *(const long *)other;

    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    long took[ROUNDS], worked[ROUNDS];

    if (argc < 2)
        return 2;
    for (int round = 0; round < ROUNDS; round++) {
        struct timespec begin, end;
        struct rusage usage;
        pid_t child;
        int status;

        clock_gettime(CLOCK_MONOTONIC, &begin);
        if (posix_spawn(&child, argv[1], NULL, NULL, argv + 1, environ) != 0 || wait4(child, &status, 0, &usage) != child
            || status != 0)
            return 1;
        clock_gettime(CLOCK_MONOTONIC, &end);
        took[round] = (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000;
        worked[round] = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec
                        + usage.ru_stime.tv_usec;
    }
    qsort(took, ROUNDS, sizeof(took[0]), later);
    qsort(worked, ROUNDS, sizeof(worked[0]), later);
    printf("%ld %ld %ld\n", took[ROUNDS / 2], took[ROUNDS - 1], worked[ROUNDS / 2]);
    return 0;
}
