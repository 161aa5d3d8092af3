// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/* Runs the kernels of kernels.cu from the PTX files named on the command line, and checks every result. */
#include <stdbool.h>
#include <string.h>

#include "cuda_calls.h"
#include "kernels.h"

enum { COUNT = 10000, BLOCKS = (COUNT + BLOCK - 1) / BLOCK, SIZE = 32 };

static int values[COUNT];

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    char *text = size >= 0 ? calloc((size_t)size + 1, 1) : NULL;
    if (!text || fseek(file, 0, SEEK_SET) || fread(text, 1, (size_t)size, file) != (size_t)size) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fclose(file);
    return text;
}

static CUdeviceptr upload(const void *data, size_t bytes)
{
    CUdeviceptr device;
    CHECK(cuMemAlloc_v2(&device, bytes));
    CHECK(cuMemcpyHtoD_v2(device, data, bytes));
    return device;
}

static void download(void *data, CUdeviceptr device, size_t bytes)
{
    CHECK(cuMemcpyDtoH_v2(data, device, bytes));
    CHECK(cuMemFree_v2(device));
}

static void launch(CUmodule module, const char *name, unsigned grid, unsigned block, void **parameters)
{
    CUfunction kernel;
    CHECK(cuModuleGetFunction(&kernel, module, name));
    CHECK(cuLaunchKernel(kernel, grid, 1, 1, block, 1, 1, 0, NULL, parameters, NULL));
}

static bool scale(CUmodule module)
{
    static const int factors[4] = { 3, 5, 7, 11 };
    static int results[COUNT];
    CUdeviceptr device = upload(values, sizeof(values));
    int count = COUNT, by = -7;
    launch(module, "scale", BLOCKS, BLOCK, (void *[]){ &device, &count, &by });
    download(results, device, sizeof(results));
    for (int i = 0; i < COUNT; i++)
        if (results[i] != values[i] * by + factors[i % 4])
            return false;
    return true;
}

static bool block_sums(CUmodule module)
{
    int sums[BLOCKS] = { 0 }, count = COUNT;
    CUdeviceptr device = upload(values, sizeof(values)), out = upload(sums, sizeof(sums));
    launch(module, "block_sums", BLOCKS, BLOCK, (void *[]){ &device, &out, &count });
    download(sums, out, sizeof(sums));
    CHECK(cuMemFree_v2(device));
    for (int i = 0; i < COUNT; i++)
        sums[i / BLOCK] -= values[i];
    for (int block = 0; block < BLOCKS; block++)
        if (sums[block] != 0)
            return false;
    return true;
}

static bool count_digits(CUmodule module)
{
    int bins[10] = { 0 }, count = COUNT;
    CUdeviceptr device = upload(values, sizeof(values)), out = upload(bins, sizeof(bins));
    launch(module, "count_digits", BLOCKS, BLOCK, (void *[]){ &device, &out, &count });
    download(bins, out, sizeof(bins));
    CHECK(cuMemFree_v2(device));
    for (int i = 0; i < COUNT; i++)
        bins[digit_of(values[i])]--;
    for (int digit = 0; digit < 10; digit++)
        if (bins[digit] != 0)
            return false;
    return true;
}

static int fibonacci(int n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static bool mix(CUmodule module)
{
    struct settings settings = { .factor = 77, .half = 2.5, .letters = "abcdefghijkl", .small = -321 };
    long long results[2 * BLOCK] = { 0 };
    CUdeviceptr out = upload(results, sizeof(results));
    launch(module, "mix", 2, BLOCK, (void *[]){ &settings, &out });
    download(results, out, sizeof(results));
    for (unsigned i = 0; i < 2 * BLOCK; i++)
        if (results[i] != mixed(settings, i) + fibonacci(i % 12))
            return false;
    return true;
}

static bool multiply(CUmodule module)
{
    int product[SIZE * SIZE] = { 0 }, size = SIZE;
    CUdeviceptr left = upload(values, sizeof(product)), right = upload(values + 1000, sizeof(product));
    CUdeviceptr out = upload(product, sizeof(product));
    CUfunction kernel;
    CHECK(cuModuleGetFunction(&kernel, module, "multiply"));
    void *parameters[] = { &left, &right, &out, &size };
    CHECK(cuLaunchKernel(kernel, SIZE / 8, SIZE / 8, 1, 8, 8, 1, 0, NULL, parameters, NULL));
    download(product, out, sizeof(product));
    CHECK(cuMemFree_v2(left));
    CHECK(cuMemFree_v2(right));
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            int total = 0;
            for (int inner = 0; inner < SIZE; inner++)
                total += values[row * SIZE + inner] * values[1000 + inner * SIZE + column];
            if (product[row * SIZE + column] != total)
                return false;
        }
    return true;
}

/* A variable of the module, which `scale` has written once by now. */
static bool launches(CUmodule module)
{
    CUdeviceptr address;
    size_t bytes = 0;
    unsigned long long count = 0;
    CHECK(cuModuleGetGlobal_v2(&address, &bytes, module, "launches"));
    CHECK(cuMemcpyDtoH_v2(&count, address, sizeof(count)));
    return bytes == sizeof(count) && count == 1;
}

static const struct {
    const char *name;
    bool (*body)(CUmodule module);
} programs[] = {
    { "scale", scale }, { "block_sums", block_sums }, { "count_digits", count_digits },
    { "mix", mix },     { "multiply", multiply },     { "launches", launches },
};

int main(int count, char **paths)
{
    CUdevice device;
    CUcontext context;
    unsigned passed = 0, failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < COUNT; i++)
        values[i] = (int)((unsigned)i * 2654435761u >> 20) - 2000;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    for (int path = 1; path < count; path++) {
        char *text = read_text(paths[path]);
        CUmodule module;
        CHECK(cuModuleLoadData(&module, text));
        free(text);
        for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
            bool right = programs[i].body(module);
            right ? passed++ : failed++;
            printf("%s %s: %s\n", right ? "ok  " : "FAIL", paths[path], programs[i].name);
        }
        CHECK(cuModuleUnload(module));
    }
    CHECK(cuDevicePrimaryCtxRelease_v2(device));
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
