// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API: eight threads, per-thread default streams, four processes
// compat: flags = -default-stream per-thread
#include "check.h"
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

__global__ void fill(int *values, int count, int seed)
{
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count)
        values[index] = index * seed;
}

static long long work(int seed)
{
    const int count = 50000;
    int *device;
    std::vector<int> values(count);
    long long total = 0;
    CHECK(cudaMalloc(&device, count * sizeof(int)));
    for (int round = 1; round <= 20; round++) {
        fill<<<(count + 255) / 256, 256>>>(device, count, seed + round);
        CHECK(cudaMemcpyAsync(values.data(), device, count * sizeof(int), cudaMemcpyDeviceToHost, cudaStreamPerThread));
        CHECK(cudaStreamSynchronize(cudaStreamPerThread));
        for (int value : values)
            total += value;
    }
    CHECK(cudaFree(device));
    return total;
}

int main()
{
    int pipes[2];
    if (pipe(pipes))
        return 1;
    for (int child = 0; child < 4; child++)
        if (fork() == 0) {
            long long total = work(child);
            return write(pipes[1], &total, sizeof(total)) != sizeof(total);
        }
    long long all = 0, one;
    for (int child = 0; child < 4; child++)
        if (read(pipes[0], &one, sizeof(one)) == sizeof(one))
            all += one;
    while (wait(nullptr) > 0)
        ;
    printf("processes: %lld\n", all);
    long long totals[8];
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 8; thread++)
        threads.emplace_back([&totals, thread] { totals[thread] = work(thread); });
    for (auto &thread : threads)
        thread.join();
    for (long long total : totals)
        printf("thread: %lld\n", total);
    return 0;
}
