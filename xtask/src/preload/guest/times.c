/* How long a program takes from its start to its end: prints the median and the longest of many, in microseconds. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 60 };

static int later(const void *one, const void *other)
{
    const long a = *(const long *)one, b = *(const long *)other;

    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    long took[ROUNDS];

    if (argc < 2)
        return 2;
    for (int round = 0; round < ROUNDS; round++) {
        struct timespec begin, end;
        pid_t child;
        int status;

        clock_gettime(CLOCK_MONOTONIC, &begin);
        if (posix_spawn(&child, argv[1], NULL, NULL, argv + 1, environ) != 0 || waitpid(child, &status, 0) != child
            || status != 0)
            return 1;
        clock_gettime(CLOCK_MONOTONIC, &end);
        took[round] = (end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000;
    }
    qsort(took, ROUNDS, sizeof(took[0]), later);
    printf("%ld %ld\n", took[ROUNDS / 2], took[ROUNDS - 1]);
    return 0;
}
