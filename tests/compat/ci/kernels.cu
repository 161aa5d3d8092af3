// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// Kernels for clang's NVPTX back-end, without a header of NVIDIA's: what CUDA C++ calls __global__ and so on are
// clang's own attributes. Every result is a whole number that the host computes too (kernels.h).
#include "kernels.h"

#define GLOBAL extern "C" __attribute__((global))
#define DEVICE __attribute__((device))
#define SHARED __attribute__((shared))
#define CONSTANT __attribute__((constant))

DEVICE inline unsigned lane() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE inline unsigned width() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEVICE inline unsigned group() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE inline unsigned index() { return group() * width() + lane(); }

CONSTANT int factors[4] = { 3, 5, 7, 11 };
DEVICE unsigned long long launches = 0;

GLOBAL void scale(int *values, int count, int by)
{
    unsigned i = index();
    if (i < count)
        values[i] = values[i] * by + factors[i % 4];
    if (i == 0)
        __atomic_fetch_add(&launches, 1, __ATOMIC_RELAXED);
}

GLOBAL void block_sums(const int *values, int *sums, int count)
{
    SHARED int shared[BLOCK];
    unsigned i = index();
    shared[lane()] = i < count ? values[i] : 0;
    __syncthreads();
    for (unsigned step = BLOCK / 2; step > 0; step /= 2) {
        if (lane() < step)
            shared[lane()] += shared[lane() + step];
        __syncthreads();
    }
    if (lane() == 0)
        sums[group()] = shared[0];
}

GLOBAL void count_digits(const int *values, int *bins, int count)
{
    unsigned i = index();
    if (i < count)
        __atomic_fetch_add(&bins[digit_of(values[i])], 1, __ATOMIC_RELAXED);
}

/* A structure by value, calls that are not inlined, recursion, a switch, an array of the thread's own. */
DEVICE __attribute__((noinline)) int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

GLOBAL void mix(struct settings settings, long long *results)
{
    unsigned i = index();
    results[i] = mixed(settings, i) + fibonacci(i % 12);
}

GLOBAL void multiply(const int *left, const int *right, int *product, int size)
{
    SHARED int tile_left[8][8], tile_right[8][8];
    int x = lane(), y = __nvvm_read_ptx_sreg_tid_y();
    int column = group() * 8 + x, row = __nvvm_read_ptx_sreg_ctaid_y() * 8 + y, total = 0;
    for (int tile = 0; tile < size; tile += 8) {
        tile_left[y][x] = left[row * size + tile + x];
        tile_right[y][x] = right[(tile + y) * size + column];
        __syncthreads();
        for (int inner = 0; inner < 8; inner++)
            total += tile_left[y][inner] * tile_right[inner][x];
        __syncthreads();
    }
    product[row * size + column] = total;
}
