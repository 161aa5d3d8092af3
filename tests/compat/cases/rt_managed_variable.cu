// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API: a __managed__ variable that host and kernel change
#include "check.h"

__managed__ int value = 5;

__global__ void change() { value += 37; }

int main()
{
    setvbuf(stdout, nullptr, _IOLBF, 0);
    change<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    printf("after the kernel: %d\n", value);
    value *= 2;
    change<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    printf("after both: %d\n", value);
    return 0;
}
