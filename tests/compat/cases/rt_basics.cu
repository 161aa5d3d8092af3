// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API, static runtime: printf, symbols, dynamic shared memory, streams, events
// compat: flags = -cudart static
// compat: guest = yes
#include "check.h"

__device__ int counter;
__constant__ float factors[4];

__global__ void scale(float *values, int count)
{
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) {
        values[index] *= factors[index % 4];
        atomicAdd(&counter, 1);
    }
    if (index == 0)
        printf("kernel with %d values\n", count);
}

__global__ void sum_of_block(const float *values, float *sums)
{
    extern __shared__ float shared[];
    shared[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    for (int step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step)
            shared[threadIdx.x] += shared[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        sums[blockIdx.x] = shared[0];
}

int main()
{
    const int count = 1 << 16, block = 256;
    std::vector<float> values(count);
    for (int index = 0; index < count; index++)
        values[index] = index % 17;
    float given[4] = { 1, 2, 3, 4 };
    CHECK(cudaMemcpyToSymbol(factors, given, sizeof(given)));
    float *device, *sums;
    cudaStream_t stream;
    cudaEvent_t before, after;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaEventCreate(&before));
    CHECK(cudaEventCreate(&after));
    CHECK(cudaMallocAsync(&device, count * sizeof(float), stream));
    CHECK(cudaMalloc(&sums, count / block * sizeof(float)));
    CHECK(cudaMemcpyAsync(device, values.data(), count * sizeof(float), cudaMemcpyDefault, stream));
    CHECK(cudaEventRecord(before, stream));
    scale<<<count / block, block, 0, stream>>>(device, count);
    sum_of_block<<<count / block, block, block * sizeof(float), stream>>>(device, sums);
    CHECK(cudaGetLastError());
    CHECK(cudaEventRecord(after, stream));
    std::vector<float> results(count / block);
    CHECK(cudaMemcpyAsync(results.data(), sums, results.size() * sizeof(float), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    float milliseconds;
    CHECK(cudaEventElapsedTime(&milliseconds, before, after));
    int calls;
    CHECK(cudaMemcpyFromSymbol(&calls, counter, sizeof(calls)));
    double total = 0;
    for (float result : results)
        total += result;
    printf("sum %.1f calls %d time %s\n", total, calls, milliseconds >= 0 ? "positive" : "negative");
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, sums));
    printf("pointer type %d device %d\n", attributes.type, attributes.device);
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    printf("%s %d.%d, %d processors\n", properties.name, properties.major, properties.minor,
           properties.multiProcessorCount);
    scale<<<1, 4096>>>(device, 1);
    printf("too large a block: %s\n", cudaGetErrorName(cudaGetLastError()));
    CHECK(cudaFree(sums));
    CHECK(cudaFreeAsync(device, stream));
    CHECK(cudaDeviceReset());
    return 0;
}
