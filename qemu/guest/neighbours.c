/* Three processes use the GPU at once: one dies by an illegal address, one is killed, and the third must not notice.
 * In the end the GPU has as much free memory as before. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cuda_calls.h"

enum { SUCCESS = 0, ILLEGAL_ADDRESS = 700, COUNT = 65536, BLOCK = 256, ROUNDS = 20 };
static const size_t KILLED_ONES_MEMORY = (size_t)64 << 20;
static const int PATIENCE_S = 20;

static const char kernels[] =
    ".version 7.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    ".visible .entry triple(.param .u64 values)\n"
    "{\n"
    "    .reg .b32 %block, %size, %thread, %i, %x;\n"
    "    .reg .b64 %values, %offset;\n"
    "    ld.param.u64 %values, [values];\n"
    "    mov.u32 %block, %ctaid.x;\n"
    "    mov.u32 %size, %ntid.x;\n"
    "    mov.u32 %thread, %tid.x;\n"
    "    mad.lo.s32 %i, %block, %size, %thread;\n"
    "    mul.wide.u32 %offset, %i, 4;\n"
    "    add.u64 %values, %values, %offset;\n"
    "    ld.global.u32 %x, [%values];\n"
    "    mul.lo.u32 %x, %x, 3;\n"
    "    st.global.u32 [%values], %x;\n"
    "    ret;\n"
    "}\n"
    ".visible .entry wild()\n"
    "{\n"
    "    .reg .b64 %nowhere;\n"
    "    mov.u64 %nowhere, 16;\n"
    "    st.global.u32 [%nowhere], 1;\n"
    "    ret;\n"
    "}\n";

static CUfunction prepare(const char *name)
{
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction function;

    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, kernels));
    CHECK(cuModuleGetFunction(&function, module, name));
    return function;
}

/* Tells the parent that this process is in the midst of its work. */
static void say_busy(void)
{
    if (write(STDOUT_FILENO, "+", 1) != 1)
        exit(EXIT_FAILURE);
}

/* Triples numbers again and again, and checks each of them; for ever if there are no rounds. */
static int work(int rounds, size_t more_memory)
{
    static uint32_t values[COUNT];
    CUfunction triple = prepare("triple");
    CUdeviceptr device_values, more;
    void *parameters[] = { &device_values };

    CHECK(cuMemAlloc_v2(&device_values, sizeof(values)));
    if (more_memory)
        CHECK(cuMemAlloc_v2(&more, more_memory));
    for (int round = 0; rounds == 0 || round < rounds; round++) {
        for (uint32_t i = 0; i < COUNT; i++)
            values[i] = i + (uint32_t)round;
        CHECK(cuMemcpyHtoD_v2(device_values, values, sizeof(values)));
        CHECK(cuLaunchKernel(triple, COUNT / BLOCK, 1, 1, BLOCK, 1, 1, 0, NULL, parameters, NULL));
        CHECK(cuMemcpyDtoH_v2(values, device_values, sizeof(values)));
        for (uint32_t i = 0; i < COUNT; i++) {
            if (values[i] != 3 * (i + (uint32_t)round)) {
                fprintf(stderr, "round %d: element %u is %u\n", round, i, values[i]);
                return EXIT_FAILURE;
            }
        }
        if (round == 0)
            say_busy();
    }
    return EXIT_SUCCESS;
}

static int go_astray(void)
{
    CUfunction wild = prepare("wild");
    CUdeviceptr pointer;
    CUresult result;

    CHECK(cuLaunchKernel(wild, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
    result = cuCtxSynchronize();
    if (result != ILLEGAL_ADDRESS) {
        fprintf(stderr, "a wild store is answered with %d\n", result);
        return EXIT_FAILURE;
    }
    /* The error stays. */
    result = cuMemAlloc_v2(&pointer, 4096);
    if (result != ILLEGAL_ADDRESS) {
        fprintf(stderr, "after a wild store an allocation is answered with %d\n", result);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

struct child {
    pid_t pid;
    int busy;
};

static struct child start(const char *role)
{
    extern char **environ;
    char *arguments[] = { "neighbours", (char *)role, NULL };
    posix_spawn_file_actions_t actions;
    struct child child;
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0 || posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) != 0 ||
        posix_spawn(&child.pid, "/proc/self/exe", &actions, NULL, arguments, environ) != 0) {
        perror("start a process");
        exit(EXIT_FAILURE);
    }
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    child.busy = ends[0];
    return child;
}

static void await_busy(struct child child, const char *role)
{
    char byte;

    if (read(child.busy, &byte, 1) != 1) {
        fprintf(stderr, "%s ended before its work began\n", role);
        exit(EXIT_FAILURE);
    }
}

/* The exit status, or minus the signal. */
static int result_of(struct child child)
{
    int status;

    if (waitpid(child.pid, &status, 0) != child.pid)
        return EXIT_FAILURE;
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static size_t free_memory(void)
{
    size_t available, total;

    CHECK(cuMemGetInfo_v2(&available, &total));
    return available;
}

static void expect(const char *what, int expected, int found)
{
    printf("%s: %d\n", what, found);
    if (found != expected)
        exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    struct child steady, killed, astray;
    size_t before, during, after;

    /* A child does not outlive its parent. */
    if (argc > 1)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc > 1 && strcmp(argv[1], "steady") == 0)
        return work(ROUNDS, 0);
    if (argc > 1 && strcmp(argv[1], "killed") == 0)
        return work(0, KILLED_ONES_MEMORY);
    if (argc > 1 && strcmp(argv[1], "astray") == 0)
        return go_astray();

    prepare("triple");
    before = free_memory();
    steady = start("steady");
    killed = start("killed");
    await_busy(steady, "the steady one");
    await_busy(killed, "the one to be killed");
    during = free_memory();

    astray = start("astray");
    expect("the one with an illegal address ends with", EXIT_SUCCESS, result_of(astray));
    kill(killed.pid, SIGKILL);
    expect("the killed one ends with", -SIGKILL, result_of(killed));
    expect("the steady one ends with", EXIT_SUCCESS, result_of(steady));

    /* A killed process's memory is freed when its worker is gone, which takes a moment. */
    after = free_memory();
    for (time_t begin = time(NULL); after < before && time(NULL) - begin < PATIENCE_S; after = free_memory())
        usleep(50000);
    printf("free memory in MiB: %zu before, %zu during, %zu after\n", before >> 20, during >> 20, after >> 20);
    return after >= before ? EXIT_SUCCESS : EXIT_FAILURE;
}
