// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API: captured and built graphs, update, host nodes, host functions
#include "check.h"

__global__ void add(int *value, int amount) { *value += amount; }

static void CUDART_CB count(void *data) { ++*static_cast<int *>(data); }

int main()
{
    int *value, host = 0, calls = 0;
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMalloc(&value, sizeof(int)));
    CHECK(cudaMemset(value, 0, sizeof(int)));

    cudaGraph_t graph;
    cudaGraphExec_t exec;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int step = 1; step <= 5; step++)
        add<<<1, 1, 0, stream>>>(value, step);
    CHECK(cudaLaunchHostFunc(stream, count, &calls));
    CHECK(cudaMemcpyAsync(&host, value, sizeof(int), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamEndCapture(stream, &graph));
    size_t nodes = 0;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    for (int run = 0; run < 10; run++)
        CHECK(cudaGraphLaunch(exec, stream));
    CHECK(cudaStreamSynchronize(stream));
    printf("captured: %zu nodes, value %d, %d host calls\n", nodes, host, calls);

    cudaGraph_t other;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    for (int step = 1; step <= 5; step++)
        add<<<1, 1, 0, stream>>>(value, -step);
    CHECK(cudaLaunchHostFunc(stream, count, &calls));
    CHECK(cudaMemcpyAsync(&host, value, sizeof(int), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamEndCapture(stream, &other));
    cudaGraphExecUpdateResultInfo info;
    CHECK(cudaGraphExecUpdate(exec, other, &info));
    for (int run = 0; run < 10; run++)
        CHECK(cudaGraphLaunch(exec, stream));
    CHECK(cudaStreamSynchronize(stream));
    printf("updated: value %d, %d host calls\n", host, calls);

    cudaGraph_t built;
    cudaGraphNode_t first, second;
    CHECK(cudaGraphCreate(&built, 0));
    int amount = 7;
    void *arguments[] = { &value, &amount };
    cudaKernelNodeParams kernel = {};
    kernel.func = reinterpret_cast<void *>(add);
    kernel.gridDim = kernel.blockDim = dim3(1);
    kernel.kernelParams = arguments;
    CHECK(cudaGraphAddKernelNode(&first, built, nullptr, 0, &kernel));
    CHECK(cudaGraphAddMemcpyNode1D(&second, built, &first, 1, &host, value, sizeof(int), cudaMemcpyDeviceToHost));
    cudaGraphExec_t run;
    CHECK(cudaGraphInstantiate(&run, built, 0));
    CHECK(cudaGraphLaunch(run, stream));
    CHECK(cudaStreamSynchronize(stream));
    printf("built: value %d\n", host);
    amount = 100;
    CHECK(cudaGraphExecKernelNodeSetParams(run, first, &kernel));
    CHECK(cudaGraphLaunch(run, stream));
    CHECK(cudaStreamSynchronize(stream));
    printf("changed: value %d\n", host);

    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    printf("synchronising in a capture: %s\n", cudaGetErrorName(cudaStreamSynchronize(stream)));
    cudaGraph_t broken = nullptr;
    printf("its end: %s\n", cudaGetErrorName(cudaStreamEndCapture(stream, &broken)));
    cudaGetLastError();
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaFree(value));
    return 0;
}
