/* Holds a kernel on the GPU for a stated time and says what becomes of it, so that somebody else can pause or reset the
 * machine in the meantime.
 *
 *   strike poll MS              the program asks again and again whether the kernel has ended
 *   strike wait MS              a thread waits for the kernel, another one asks
 *   strike registered MS [N]    the program has pinned memory that the kernel writes to; N times
 *   strike free [MIB]           prints the free memory of the GPU, as soon as it is at least so much
 *
 * It says "kernel running" only when a store of the kernel has been seen. */
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cuda_calls.h"

enum { SUCCESS = 0, NOT_READY = 600, THREADS = 32, FACTOR = 7 };
/* The exit status of a program that a CUDA call has refused. */
enum { CUDA_ERROR = 3 };
enum { NON_BLOCKING = 1, PORTABLE_AND_MAPPED = 3 };
/* Enough to be seen missing in the GPU's free memory. */
static const size_t BALLAST = (size_t)256 << 20;
static const int PATIENCE_S = 20;
static const useconds_t TICK_US = 50000;

/* Thread 0 stores a one to `started`; all of them wait for so many nanoseconds, then store multiples of their index. */
static const char kernel[] =
    ".version 7.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    ".visible .entry hold(.param .u64 started, .param .u64 results, .param .u64 nanoseconds)\n"
    "{\n"
    "    .reg .pred %waits, %other;\n"
    "    .reg .b32 %thread, %result;\n"
    "    .reg .b64 %started, %results, %length, %begin, %now, %offset;\n"
    "    ld.param.u64 %started, [started];\n"
    "    ld.param.u64 %results, [results];\n"
    "    ld.param.u64 %length, [nanoseconds];\n"
    "    mov.u32 %thread, %tid.x;\n"
    "    mov.u64 %begin, %globaltimer;\n"
    "    setp.ne.u32 %other, %thread, 0;\n"
    "    @%other bra wait;\n"
    "    st.volatile.global.u32 [%started], 1;\n"
    "    membar.sys;\n"
    "wait:\n"
    "    mov.u64 %now, %globaltimer;\n"
    "    sub.u64 %now, %now, %begin;\n"
    "    setp.lt.u64 %waits, %now, %length;\n"
    "    @%waits bra wait;\n"
    "    mul.lo.u32 %result, %thread, 7;\n"
    "    mul.wide.u32 %offset, %thread, 4;\n"
    "    add.u64 %results, %results, %offset;\n"
    "    st.volatile.global.u32 [%results], %result;\n"
    "    ret;\n"
    "}\n";

/* What the kernel writes to. */
struct shared {
    volatile uint32_t started;
    volatile uint32_t results[THREADS];
};

static CUcontext context;
static CUstream work, aside;

/* An error of CUDA is an answer that the program is made to report: nothing else is wrong. */
static void give_up(const char *call, CUresult result)
{
    const char *name = NULL;

    cuGetErrorName(result, &name);
    printf("CUDA error %d (%s) from %s\n", result, name ? name : "unknown", call);
    exit(CUDA_ERROR);
}

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        CUresult answer = (call);                                                                                      \
        if (answer != SUCCESS)                                                                                         \
            give_up(#call, answer);                                                                                    \
    } while (0)

static void prepare(void)
{
    CUdevice device;

    setvbuf(stdout, NULL, _IOLBF, 0);
    TRY(cuInit(0));
    TRY(cuDeviceGet(&device, 0));
    TRY(cuDevicePrimaryCtxRetain(&context, device));
    TRY(cuCtxSetCurrent(context));
}

static size_t free_mebibytes(void)
{
    size_t available, total;

    TRY(cuMemGetInfo_v2(&available, &total));
    return available >> 20;
}

/* A killed process's memory is freed when its worker is gone, which takes a moment. */
static int print_free_memory(size_t expected)
{
    size_t available = free_mebibytes();

    for (time_t begin = time(NULL); available < expected && time(NULL) - begin < PATIENCE_S;) {
        usleep(TICK_US);
        available = free_mebibytes();
    }
    printf("free memory %zu\n", available);
    return EXIT_SUCCESS;
}

/* Whether the kernel's first store has arrived; reads device memory past the kernel, in another stream. */
static uint32_t has_started(const struct shared *pinned, CUdeviceptr memory)
{
    uint32_t started;

    if (pinned)
        return pinned->started;
    TRY(cuMemcpyDtoHAsync_v2(&started, memory, sizeof(started), aside));
    TRY(cuStreamSynchronize(aside));
    return started;
}

/* Returns when the kernel has ended, and says until then that it has not. */
static void *ask_until_end(void *unused)
{
    CUresult result;

    (void)unused;
    TRY(cuCtxSetCurrent(context));
    while ((result = cuStreamQuery(work)) == NOT_READY) {
        printf("still running\n");
        usleep(TICK_US);
    }
    if (result != SUCCESS)
        give_up("cuStreamQuery", result);
    return NULL;
}

static void hold(CUfunction function, struct shared *pinned, CUdeviceptr memory, uint64_t nanoseconds, int wait)
{
    static const struct shared zeros;
    struct shared found;
    CUdeviceptr results = memory + offsetof(struct shared, results);
    void *parameters[] = { &memory, &results, &nanoseconds };
    pthread_t asker;

    if (pinned)
        memcpy((void *)pinned, (const void *)&zeros, sizeof(zeros));
    else
        TRY(cuMemcpyHtoD_v2(memory, (const void *)&zeros, sizeof(zeros)));
    TRY(cuLaunchKernel(function, 1, 1, 1, THREADS, 1, 1, 0, work, parameters, NULL));
    while (!has_started(pinned, memory))
        ;
    if (cuStreamQuery(work) == NOT_READY)
        printf("kernel running\n");
    else
        printf("kernel too short\n");

    if (wait && pthread_create(&asker, NULL, ask_until_end, NULL) == 0) {
        TRY(cuStreamSynchronize(work));
        pthread_join(asker, NULL);
    } else {
        ask_until_end(NULL);
    }

    if (pinned)
        memcpy((void *)&found, (const void *)pinned, sizeof(found));
    else
        TRY(cuMemcpyDtoH_v2((void *)&found, memory, sizeof(found)));
    for (uint32_t i = 0; i < THREADS; i++) {
        if (found.results[i] != FACTOR * i) {
            printf("result %u is %u\n", i, found.results[i]);
            exit(EXIT_FAILURE);
        }
    }
    printf("kernel done, results right\n");
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "poll";
    unsigned long number = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    int rounds = argc > 3 ? atoi(argv[3]) : 1;
    struct shared *pinned = NULL;
    CUdeviceptr memory, ballast;
    CUmodule module;
    CUfunction function;

    prepare();
    if (strcmp(way, "free") == 0)
        return print_free_memory(number);

    TRY(cuModuleLoadData(&module, kernel));
    TRY(cuModuleGetFunction(&function, module, "hold"));
    TRY(cuStreamCreate(&work, NON_BLOCKING));
    TRY(cuStreamCreate(&aside, NON_BLOCKING));
    TRY(cuMemAlloc_v2(&ballast, BALLAST));
    if (strcmp(way, "registered") == 0) {
        TRY(cuMemHostAlloc((void **)&pinned, sizeof(*pinned), PORTABLE_AND_MAPPED));
        TRY(cuMemHostGetDevicePointer_v2(&memory, pinned, 0));
    } else {
        TRY(cuMemAlloc_v2(&memory, sizeof(struct shared)));
    }
    for (int round = 0; round < rounds; round++)
        hold(function, pinned, memory, number * 1000000ull, strcmp(way, "wait") == 0);
    return EXIT_SUCCESS;
}
