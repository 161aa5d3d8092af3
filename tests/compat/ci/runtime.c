// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * A program of the CUDA runtime for every version of it: `runtime LIBCUDART PTX` opens the library that is named, hands
 * it the kernels of kernels.cu as nvcc's start-up code would (registered, in a container), and checks every result.
 * Nothing of a toolkit is needed: what is called here has been the same since CUDA 11.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { COUNT = 10000, BLOCKS = (COUNT + BLOCK - 1) / BLOCK };
enum { TO_DEVICE = 1, TO_HOST = 2, DEFAULT = 4 };
enum { DEVICE_MEMORY = 2 };

typedef void *Handle;
struct dim3 {
    unsigned x, y, z;
};

/* name, parameters: the calls that are used, each with its result in cudaError_t. */
#define CALLS(_)                                                                                                        \
    _(cudaRuntimeGetVersion, (int *version))                                                                            \
    _(cudaDriverGetVersion, (int *version))                                                                             \
    _(cudaGetDeviceCount, (int *count))                                                                                 \
    _(cudaDeviceGetAttribute, (int *value, int attribute, int device))                                                  \
    _(cudaMalloc, (void **pointer, size_t bytes))                                                                       \
    _(cudaFree, (void *pointer))                                                                                        \
    _(cudaMallocHost, (void **pointer, size_t bytes))                                                                   \
    _(cudaFreeHost, (void *pointer))                                                                                    \
    _(cudaMallocAsync, (void **pointer, size_t bytes, Handle stream))                                                   \
    _(cudaFreeAsync, (void *pointer, Handle stream))                                                                    \
    _(cudaMemset, (void *pointer, int value, size_t bytes))                                                             \
    _(cudaMemcpy, (void *to, const void *from, size_t bytes, int kind))                                                 \
    _(cudaMemcpyAsync, (void *to, const void *from, size_t bytes, int kind, Handle stream))                             \
    _(cudaMemcpyToSymbol, (const void *symbol, const void *from, size_t bytes, size_t offset, int kind))                \
    _(cudaMemcpyFromSymbol, (void *to, const void *symbol, size_t bytes, size_t offset, int kind))                      \
    _(cudaStreamCreate, (Handle * stream))                                                                              \
    _(cudaStreamSynchronize, (Handle stream))                                                                           \
    _(cudaStreamDestroy, (Handle stream))                                                                               \
    _(cudaStreamBeginCapture, (Handle stream, int mode))                                                                \
    _(cudaStreamEndCapture, (Handle stream, Handle * graph))                                                            \
    _(cudaGraphInstantiateWithFlags, (Handle * executable, Handle graph, unsigned long long flags))                     \
    _(cudaGraphLaunch, (Handle executable, Handle stream))                                                              \
    _(cudaGraphExecDestroy, (Handle executable))                                                                        \
    _(cudaGraphDestroy, (Handle graph))                                                                                 \
    _(cudaEventCreate, (Handle * event))                                                                                \
    _(cudaEventRecord, (Handle event, Handle stream))                                                                   \
    _(cudaEventSynchronize, (Handle event))                                                                             \
    _(cudaEventElapsedTime, (float *milliseconds, Handle from, Handle to))                                              \
    _(cudaEventDestroy, (Handle event))                                                                                 \
    _(cudaLaunchHostFunc, (Handle stream, void (*function)(void *), void *data))                                        \
    _(cudaLaunchKernel,                                                                                                 \
      (const void *kernel, struct dim3 grid, struct dim3 block, void **parameters, size_t shared, Handle stream))       \
    _(cudaOccupancyMaxActiveBlocksPerMultiprocessor, (int *blocks, const void *kernel, int threads, size_t shared))     \
    _(cudaPointerGetAttributes, (void *attributes, const void *pointer))                                                \
    _(cudaGetLastError, (void))                                                                                         \
    _(cudaPeekAtLastError, (void))                                                                                      \
    _(cudaDeviceSynchronize, (void))                                                                                    \
    _(cudaDeviceReset, (void))

#define DECLARE(name, parameters) static int(*name) parameters;
CALLS(DECLARE)
static const char *(*cudaGetErrorName)(int error);

/* What nvcc's start-up code calls. */
static void **(*__cudaRegisterFatBinary)(void *wrapper);
static void (*__cudaRegisterFatBinaryEnd)(void **handle);
static void (*__cudaUnregisterFatBinary)(void **handle);
static void (*__cudaRegisterFunction)(void **handle, const void *host, char *device, const char *name, int limit,
                                      void *, void *, void *, void *, int *);
static void (*__cudaRegisterVar)(void **handle, void *host, char *device, const char *name, int external, size_t bytes,
                                 int constant, int global);

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        int error_ = (call);                                                                                           \
        if (error_ != 0) {                                                                                             \
            printf("FAIL %s: error %d (%s)\n", #call, error_, cudaGetErrorName(error_));                               \
            exit(EXIT_FAILURE);                                                                                        \
        }                                                                                                              \
    } while (0)

static void *symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    if (!address) {
        printf("FAIL %s\n", dlerror());
        exit(EXIT_FAILURE);
    }
    return address;
}

static void open_runtime(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("FAIL %s\n", dlerror());
        exit(EXIT_FAILURE);
    }
#define LOAD(name, parameters) *(void **)&name = symbol(library, #name);
    CALLS(LOAD)
    LOAD(cudaGetErrorName, )
    LOAD(__cudaRegisterFatBinary, )
    LOAD(__cudaRegisterFatBinaryEnd, )
    LOAD(__cudaUnregisterFatBinary, )
    LOAD(__cudaRegisterFunction, )
    LOAD(__cudaRegisterVar, )
}

/* A container with one entry, and what points to it. */
struct container {
    uint32_t magic;
    uint16_t version, header_bytes;
    uint64_t bytes;
    uint16_t kind, entry_version;
    uint32_t entry_header_bytes;
    uint64_t payload_bytes;
    uint32_t compressed_bytes, options;
    uint16_t minor, major;
    uint32_t architecture, name_offset, name_bytes;
    uint64_t flags, reserved, uncompressed_bytes;
    char text[];
};
_Static_assert(offsetof(struct container, text) == 16 + 64, "two headers");

struct wrapper {
    uint32_t magic, version;
    struct container *container;
    void *file_name;
};

static struct wrapper contain(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    size_t padded = size < 0 ? 0 : ((size_t)size + 8) / 8 * 8;
    struct container *container = size < 0 ? NULL : calloc(1, sizeof(*container) + padded);
    if (!container || fseek(file, 0, SEEK_SET) || fread(container->text, 1, (size_t)size, file) != (size_t)size) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fclose(file);
    container->magic = 0xBA55ED50;
    container->version = 1;
    container->header_bytes = 16;
    container->bytes = 64 + padded;
    container->kind = 1; /* PTX */
    container->entry_version = 0x101;
    container->entry_header_bytes = 64;
    container->payload_bytes = padded;
    container->major = 6;
    container->architecture = 70;
    container->flags = 0x11; /* 64 bits, Linux */
    return (struct wrapper){ .magic = 0x466243B1, .version = 1, .container = container };
}

/* The host's names for kernels and variables: only the addresses matter. */
static const char kernel_scale, kernel_block_sums;
static int factors[4];
static unsigned long long launches;
static int values[COUNT], results[COUNT];

static void register_all(struct wrapper *wrapper)
{
    void **handle = __cudaRegisterFatBinary(wrapper);
    __cudaRegisterFunction(handle, &kernel_scale, "scale", "scale", -1, NULL, NULL, NULL, NULL, NULL);
    __cudaRegisterFunction(handle, &kernel_block_sums, "block_sums", "block_sums", -1, NULL, NULL, NULL, NULL, NULL);
    __cudaRegisterVar(handle, factors, "factors", "factors", 0, sizeof(factors), 1, 0);
    __cudaRegisterVar(handle, &launches, "launches", "launches", 0, sizeof(launches), 0, 0);
    __cudaRegisterFatBinaryEnd(handle);
}

static int launch(const void *kernel, Handle stream, void **parameters)
{
    return cudaLaunchKernel(kernel, (struct dim3){ BLOCKS, 1, 1 }, (struct dim3){ BLOCK, 1, 1 }, parameters, 0, stream);
}

static bool devices_and_versions(void)
{
    int count = 0, major = 0, driver = 0, runtime = 0;
    CHECK(cudaRuntimeGetVersion(&runtime));
    CHECK(cudaDriverGetVersion(&driver));
    CHECK(cudaGetDeviceCount(&count));
    CHECK(cudaDeviceGetAttribute(&major, 75, 0));
    printf("# runtime %d, driver %d, %d devices\n", runtime, driver, count);
    return count >= 1 && major >= 5 && driver >= 12000 && runtime >= 11000;
}

static bool copies_and_fills(void)
{
    void *device;
    CHECK(cudaMalloc(&device, sizeof(values)));
    CHECK(cudaMemset(device, 0x5A, sizeof(values)));
    CHECK(cudaMemcpy(device, values, sizeof(values) / 2, TO_DEVICE));
    CHECK(cudaMemcpy(results, device, sizeof(values), DEFAULT));
    CHECK(cudaFree(device));
    for (int i = 0; i < COUNT; i++)
        if (results[i] != (i < COUNT / 2 ? values[i] : 0x5A5A5A5A))
            return false;
    return true;
}

static bool kernels(void)
{
    void *device, *sums;
    int count = COUNT, found[BLOCKS] = { 0 };
    CHECK(cudaMalloc(&device, sizeof(values)));
    CHECK(cudaMalloc(&sums, sizeof(found)));
    CHECK(cudaMemcpy(device, values, sizeof(values), TO_DEVICE));
    CHECK(launch(&kernel_block_sums, NULL, (void *[]){ &device, &sums, &count }));
    CHECK(cudaMemcpy(found, sums, sizeof(found), TO_HOST));
    CHECK(cudaFree(sums));
    CHECK(cudaFree(device));
    for (int i = 0; i < COUNT; i++)
        found[i / BLOCK] -= values[i];
    for (int block = 0; block < BLOCKS; block++)
        if (found[block] != 0)
            return false;
    return true;
}

static void increase(void *counter)
{
    ++*(int *)counter;
}

static bool streams_events_and_host_functions(void)
{
    Handle stream, before, after;
    int *pinned, count = COUNT, by = 3, called = 0;
    void *device;
    float milliseconds = -1;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaEventCreate(&before));
    CHECK(cudaEventCreate(&after));
    CHECK(cudaMallocHost((void **)&pinned, sizeof(values)));
    CHECK(cudaMallocAsync(&device, sizeof(values), stream));
    memcpy(pinned, values, sizeof(values));
    CHECK(cudaMemcpyAsync(device, pinned, sizeof(values), TO_DEVICE, stream));
    CHECK(cudaEventRecord(before, stream));
    CHECK(launch(&kernel_scale, stream, (void *[]){ &device, &count, &by }));
    CHECK(cudaEventRecord(after, stream));
    CHECK(cudaMemcpyAsync(pinned, device, sizeof(values), TO_HOST, stream));
    CHECK(cudaLaunchHostFunc(stream, increase, &called));
    CHECK(cudaFreeAsync(device, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaEventSynchronize(after));
    CHECK(cudaEventElapsedTime(&milliseconds, before, after));
    memcpy(results, pinned, sizeof(results));
    CHECK(cudaFreeHost(pinned));
    CHECK(cudaEventDestroy(before));
    CHECK(cudaEventDestroy(after));
    CHECK(cudaStreamDestroy(stream));
    for (int i = 0; i < COUNT; i++)
        if (results[i] != values[i] * by + (int[]){ 3, 5, 7, 11 }[i % 4])
            return false;
    return called == 1 && milliseconds >= 0;
}

static bool symbols(void)
{
    int given[4] = { 100, 200, 300, 400 }, count = COUNT, by = 1;
    unsigned long long before = 0, after = 0;
    void *device;
    CHECK(cudaMemcpyToSymbol(factors, given, sizeof(given), 0, TO_DEVICE));
    CHECK(cudaMemcpyFromSymbol(&before, &launches, sizeof(before), 0, TO_HOST));
    CHECK(cudaMalloc(&device, sizeof(values)));
    CHECK(cudaMemcpy(device, values, sizeof(values), TO_DEVICE));
    CHECK(launch(&kernel_scale, NULL, (void *[]){ &device, &count, &by }));
    CHECK(cudaMemcpyFromSymbol(&after, &launches, sizeof(after), 0, TO_HOST));
    CHECK(cudaMemcpy(results, device, sizeof(results), TO_HOST));
    CHECK(cudaFree(device));
    for (int i = 0; i < COUNT; i++)
        if (results[i] != values[i] + given[i % 4])
            return false;
    return after == before + 1;
}

static bool graphs(void)
{
    Handle stream, graph, executable;
    int count = COUNT, by = 2, zeros[4] = { 0 }, rounds = 5;
    void *device;
    CHECK(cudaMemcpyToSymbol(factors, zeros, sizeof(zeros), 0, TO_DEVICE));
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMalloc(&device, sizeof(values)));
    CHECK(cudaMemcpy(device, values, sizeof(values), TO_DEVICE));
    CHECK(cudaStreamBeginCapture(stream, 0));
    CHECK(launch(&kernel_scale, stream, (void *[]){ &device, &count, &by }));
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiateWithFlags(&executable, graph, 0));
    for (int round = 0; round < rounds; round++)
        CHECK(cudaGraphLaunch(executable, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaMemcpy(results, device, sizeof(results), TO_HOST));
    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaFree(device));
    CHECK(cudaStreamDestroy(stream));
    for (int i = 0; i < COUNT; i++)
        if (results[i] != values[i] << rounds)
            return false;
    return true;
}

static bool queries(void)
{
    int blocks = 0;
    void *device;
    /* The structure has grown: its first two words have not changed. */
    int attributes[64] = { 0 };
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, &kernel_scale, BLOCK, 0));
    CHECK(cudaMalloc(&device, 4096));
    CHECK(cudaPointerGetAttributes(attributes, (char *)device + 100));
    CHECK(cudaFree(device));
    return blocks >= 1 && attributes[0] == DEVICE_MEMORY && attributes[1] == 0;
}

static bool errors_are_told_once(void)
{
    int count = 0, by = 1;
    void *device = NULL;
    int told = cudaLaunchKernel(&kernel_scale, (struct dim3){ 1, 1, 1 }, (struct dim3){ 4096, 1, 1 },
                                (void *[]){ &device, &count, &by }, 0, NULL);
    int seen = cudaPeekAtLastError(), taken = cudaGetLastError();
    CHECK(cudaDeviceSynchronize());
    return told != 0 && seen == told && taken == told && cudaGetLastError() == 0;
}

static const struct {
    const char *name;
    bool (*body)(void);
} programs[] = {
    { "devices and versions", devices_and_versions },
    { "copies and fills", copies_and_fills },
    { "kernels", kernels },
    { "streams, events and host functions", streams_events_and_host_functions },
    { "symbols", symbols },
    { "graphs", graphs },
    { "queries", queries },
    { "errors are told once", errors_are_told_once },
};

int main(int count, char **arguments)
{
    unsigned passed = 0, failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count != 3) {
        fprintf(stderr, "usage: runtime LIBCUDART PTX\n");
        return 2;
    }
    for (int i = 0; i < COUNT; i++)
        values[i] = (int)((unsigned)i * 2654435761u >> 20) - 2000;
    open_runtime(arguments[1]);
    struct wrapper wrapper = contain(arguments[2]);
    register_all(&wrapper);
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        bool right = programs[i].body();
        right ? passed++ : failed++;
        printf("%s %s\n", right ? "ok  " : "FAIL", programs[i].name);
    }
    CHECK(cudaDeviceReset());
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
