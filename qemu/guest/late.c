/* A CUDA program that waits: its process starts before there may be a GPU, and calls CUDA when it is told to (SIGUSR1).
 * Each first call of a process is one that the preloaded library has prepared, or could not prepare. */
#include <signal.h>
#include <string.h>
#include <time.h>

#include "cuda_calls.h"

static long milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(void)
{
    static char sent[1 << 16], received[1 << 16];
    CUcontext context;
    CUdeviceptr memory;
    CUdevice device;
    sigset_t wake;
    int woken, devices;
    long begin;

    sigemptyset(&wake);
    sigaddset(&wake, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wake, NULL);
    printf("waiting\n");
    fflush(stdout);
    sigwait(&wake, &woken);

    begin = milliseconds();
    CHECK(cuInit(0));
    printf("first call %ld ms\n", milliseconds() - begin);
    CHECK(cuDeviceGetCount(&devices));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    memset(sent, 'x', sizeof(sent));
    CHECK(cuMemAlloc_v2(&memory, sizeof(sent)));
    CHECK(cuMemcpyHtoD_v2(memory, sent, sizeof(sent)));
    CHECK(cuMemcpyDtoH_v2(received, memory, sizeof(received)));
    if (memcmp(sent, received, sizeof(sent)) != 0) {
        fprintf(stderr, "the memory's contents are wrong\n");
        return EXIT_FAILURE;
    }
    printf("right\n");
    return EXIT_SUCCESS;
}
