// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// What the CUDA programs share.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <vector>

#define CHECK(call)                                                                                  \
    do {                                                                                             \
        cudaError_t error_ = (call);                                                                 \
        if (error_ != cudaSuccess) {                                                                 \
            printf("%s: %s\n", #call, cudaGetErrorName(error_));                                     \
            exit(1);                                                                                 \
        }                                                                                            \
    } while (0)
