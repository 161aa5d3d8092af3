/* A CUDA driver-API program as anyone would write it: it knows nothing of virtual machines.
 * Adds two vectors on the GPU with a kernel in PTX, and checks every element. */
#include "cuda_calls.h"

static const char vector_add[] =
    ".version 7.0\n"
    ".target sm_50\n"
    ".address_size 64\n"
    ".visible .entry vector_add(.param .u64 a, .param .u64 b, .param .u64 sum, .param .u32 count)\n"
    "{\n"
    "    .reg .pred %p;\n"
    "    .reg .b32 %i, %n, %block, %size, %thread;\n"
    "    .reg .b64 %a, %b, %sum, %offset;\n"
    "    .reg .f32 %x, %y;\n"
    "    ld.param.u64 %a, [a];\n"
    "    ld.param.u64 %b, [b];\n"
    "    ld.param.u64 %sum, [sum];\n"
    "    ld.param.u32 %n, [count];\n"
    "    mov.u32 %block, %ctaid.x;\n"
    "    mov.u32 %size, %ntid.x;\n"
    "    mov.u32 %thread, %tid.x;\n"
    "    mad.lo.s32 %i, %block, %size, %thread;\n"
    "    setp.ge.u32 %p, %i, %n;\n"
    "    @%p bra done;\n"
    "    mul.wide.u32 %offset, %i, 4;\n"
    "    add.u64 %a, %a, %offset;\n"
    "    add.u64 %b, %b, %offset;\n"
    "    add.u64 %sum, %sum, %offset;\n"
    "    ld.global.f32 %x, [%a];\n"
    "    ld.global.f32 %y, [%b];\n"
    "    add.f32 %x, %x, %y;\n"
    "    st.global.f32 [%sum], %x;\n"
    "done:\n"
    "    ret;\n"
    "}\n";

/* Runs once, or as many times as the argument says. */
int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 1;
    enum { COUNT = 100000, BLOCK = 256 };
    static float a[COUNT], b[COUNT], sum[COUNT];
    const size_t bytes = sizeof(a);
    unsigned int count = COUNT;
    int version, devices;
    CUdevice device;
    char name[256];
    size_t memory;
    CUcontext context;
    CUmodule module;
    CUfunction function;
    CUdeviceptr device_a, device_b, device_sum;
    void *parameters[] = { &device_a, &device_b, &device_sum, &count };

    CHECK(cuInit(0));
    CHECK(cuDriverGetVersion(&version));
    CHECK(cuDeviceGetCount(&devices));
    printf("CUDA %d.%d, %d device(s)\n", version / 1000, version % 1000 / 10, devices);
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDeviceGetName(name, sizeof(name), device));
    CHECK(cuDeviceTotalMem_v2(&memory, device));
    printf("device 0: %s, %zu MiB\n", name, memory >> 20);

    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, vector_add));
    CHECK(cuModuleGetFunction(&function, module, "vector_add"));
    printf("PTX loaded\n");

    for (int i = 0; i < COUNT; i++) {
        a[i] = (float)i;
        b[i] = 0.5f * (float)i;
    }
    CHECK(cuMemAlloc_v2(&device_a, bytes));
    CHECK(cuMemAlloc_v2(&device_b, bytes));
    CHECK(cuMemAlloc_v2(&device_sum, bytes));
    for (int round = 1; round <= rounds; round++) {
        if (rounds > 1)
            printf("round %d\n", round);
        a[0] = (float)round;
        CHECK(cuMemcpyHtoD_v2(device_a, a, bytes));
        CHECK(cuMemcpyHtoD_v2(device_b, b, bytes));
        CHECK(cuLaunchKernel(function, (COUNT + BLOCK - 1) / BLOCK, 1, 1, BLOCK, 1, 1, 0, NULL, parameters, NULL));
        CHECK(cuCtxSynchronize());
        CHECK(cuMemcpyDtoH_v2(sum, device_sum, bytes));
        for (int i = 0; i < COUNT; i++) {
            if (sum[i] != a[i] + b[i]) {
                fprintf(stderr, "element %d is %g instead of %g\n", i, (double)sum[i], (double)(a[i] + b[i]));
                return EXIT_FAILURE;
            }
        }
    }
    printf("%d sums computed on the GPU, all of them right\n", COUNT);

    CHECK(cuMemFree_v2(device_a));
    CHECK(cuMemFree_v2(device_b));
    CHECK(cuMemFree_v2(device_sum));
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease_v2(device));
    return EXIT_SUCCESS;
}
