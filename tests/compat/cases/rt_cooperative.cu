// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API: cooperative groups, clusters, occupancy, large dynamic shared memory
#include "check.h"
#include <cooperative_groups.h>
namespace cg = cooperative_groups;

__global__ void grid_sum(int *values, int *sum)
{
    cg::grid_group grid = cg::this_grid();
    for (int step = 0; step < 3; step++) {
        values[grid.thread_rank()] += step + 1;
        grid.sync();
        if (grid.thread_rank() == 0)
            *sum += values[grid.size() - 1];
        grid.sync();
    }
}

__global__ void __cluster_dims__(4, 1, 1) cluster_ranks(int *out)
{
    __shared__ int mine;
    cg::cluster_group cluster = cg::this_cluster();
    if (threadIdx.x == 0)
        mine = cluster.block_rank() * 10;
    cluster.sync();
    int *other = cluster.map_shared_rank(&mine, (cluster.block_rank() + 1) % cluster.num_blocks());
    if (threadIdx.x == 0)
        out[blockIdx.x] = *other;
    cluster.sync();
}

__global__ void large_shared(int *out)
{
    extern __shared__ int shared[];
    shared[threadIdx.x * 64] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = shared[(blockDim.x - 1 - threadIdx.x) * 64];
}

int main()
{
    int blocks, *values, *sum, result, ranks[8], shared[512];
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, grid_sum, 128, 0));
    printf("occupancy %d\n", blocks);
    CHECK(cudaMalloc(&values, 1 << 20));
    CHECK(cudaMemset(values, 0, 1 << 20));
    CHECK(cudaMalloc(&sum, sizeof(int)));
    CHECK(cudaMemset(sum, 0, sizeof(int)));
    void *arguments[] = { &values, &sum };
    CHECK(cudaLaunchCooperativeKernel(reinterpret_cast<void *>(grid_sum), dim3(64), dim3(128), arguments));
    CHECK(cudaMemcpy(&result, sum, sizeof(int), cudaMemcpyDeviceToHost));
    printf("grid: %d\n", result);
    printf("too large a grid: %s\n", cudaGetErrorName(cudaLaunchCooperativeKernel(
                                         reinterpret_cast<void *>(grid_sum), dim3(1 << 20), dim3(128), arguments)));
    cudaGetLastError();
    cluster_ranks<<<8, 32>>>(values);
    CHECK(cudaMemcpy(ranks, values, sizeof(ranks), cudaMemcpyDeviceToHost));
    for (int rank : ranks)
        printf("cluster: %d\n", rank);
    CHECK(cudaFuncSetAttribute(large_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 512 * 64 * 4));
    large_shared<<<1, 512, 512 * 64 * 4>>>(values);
    CHECK(cudaMemcpy(shared, values, sizeof(shared), cudaMemcpyDeviceToHost));
    printf("shared: %d %d\n", shared[0], shared[511]);
    return 0;
}
