// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API: managed, mapped and registered memory, pitched and 3D copies
#include "check.h"
#include <sys/mman.h>

__global__ void twice(int *values, int count)
{
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count)
        values[index] *= 2;
}

static long long sum(const int *values, int count)
{
    long long total = 0;
    for (int index = 0; index < count; index++)
        total += values[index];
    return total;
}

int main()
{
    const int count = 100000, block = 256, blocks = (count + block - 1) / block;
    int *values, *device;

    CHECK(cudaHostAlloc(&values, count * sizeof(int), cudaHostAllocMapped));
    for (int index = 0; index < count; index++)
        values[index] = index;
    CHECK(cudaHostGetDevicePointer(&device, values, 0));
    twice<<<blocks, block>>>(device, count);
    CHECK(cudaDeviceSynchronize());
    printf("mapped: %lld, same address: %d\n", sum(values, count), device == values);
    CHECK(cudaFreeHost(values));

    size_t bytes = (count * sizeof(int) + 4095) & ~4095UL;
    values = static_cast<int *>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (int index = 0; index < count; index++)
        values[index] = index;
    CHECK(cudaHostRegister(values, bytes, cudaHostRegisterDefault));
    twice<<<blocks, block>>>(values, count);
    CHECK(cudaDeviceSynchronize());
    printf("registered: %lld\n", sum(values, count));
    CHECK(cudaHostUnregister(values));

    int pitched[20][30], back[20][30] = {};
    for (int row = 0; row < 20; row++)
        for (int column = 0; column < 30; column++)
            pitched[row][column] = row * 100 + column;
    size_t pitch;
    CHECK(cudaMallocPitch(&device, &pitch, 30 * sizeof(int), 20));
    CHECK(cudaMemcpy2D(device, pitch, pitched, sizeof(pitched[0]), 30 * sizeof(int), 20, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy2D(back, sizeof(back[0]), device, pitch, 30 * sizeof(int), 20, cudaMemcpyDeviceToHost));
    printf("pitched: pitch %zu, %lld\n", pitch, sum(back[0], 600));
    CHECK(cudaFree(device));

    CHECK(cudaMallocManaged(&values, count * sizeof(int)));
    for (int index = 0; index < count; index++)
        values[index] = index;
    twice<<<blocks, block>>>(values, count);
    CHECK(cudaDeviceSynchronize());
    printf("managed: %lld\n", sum(values, count));
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, values));
    printf("managed type: %d\n", attributes.type);
    CHECK(cudaFree(values));
    return 0;
}
