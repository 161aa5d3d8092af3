#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Kernels that CuPy generates and NVRTC compiles, to PTX, with results that are known. Ends with 0 if all are right.

Not here: what CuPy has as machine code (sorting) or leaves to libraries (matrix products, FFT).
"""

import os
import sys

# The driver compiles, as for a device that this CuPy is older than; what is compiled is kept nowhere.
os.environ["CUPY_COMPILE_WITH_PTX"] = "1"
os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
# CuPy's own kernels instead of CUB's, which it has as machine code.
os.environ["CUPY_ACCELERATORS"] = ""

import cupy as cp
import numpy as np

VALUES = np.arange(10_000, dtype=np.float64) % 128 - 64


def raw_kernel():
    kernel = cp.RawKernel(
        'extern "C" __global__ void scale(float *values, float by, int count) {'
        "    int index = blockIdx.x * blockDim.x + threadIdx.x;"
        "    if (index < count) values[index] *= by; }",
        "scale",
    )
    values = cp.asarray(VALUES, dtype=cp.float32)
    kernel((79,), (128,), (values, cp.float32(0.5), values.size))
    return np.array_equal(values.get(), VALUES.astype(np.float32) * 0.5)


def raw_module_with_constant_and_shared_memory():
    module = cp.RawModule(
        code="""
        __constant__ int factors[4];
        template <typename T> __global__ void sums(const T *values, T *out) {
            extern __shared__ char memory[];
            T *shared = (T *)memory;
            shared[threadIdx.x] = values[blockIdx.x * blockDim.x + threadIdx.x] * factors[threadIdx.x % 4];
            __syncthreads();
            for (int step = blockDim.x / 2; step > 0; step /= 2) {
                if (threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
                __syncthreads();
            }
            if (threadIdx.x == 0) out[blockIdx.x] = shared[0];
        }""",
        options=("-std=c++17",),
        name_expressions=["sums<int>", "sums<long long>"],
    )
    factors = np.array([1, -2, 3, 5], np.int32)
    right = True
    for name, kind in (("sums<int>", np.int32), ("sums<long long>", np.int64)):
        kernel = module.get_function(name)
        pointer = module.get_global("factors")
        cp.ndarray(4, cp.int32, pointer)[...] = cp.asarray(factors)
        values = np.arange(1024, dtype=kind)
        out = cp.zeros(8, kind)
        kernel((8,), (128,), (cp.asarray(values), out), shared_mem=128 * values.itemsize)
        right &= np.array_equal(out.get(), (values * np.tile(factors, 256)).reshape(8, 128).sum(axis=1))
    return right


def elementwise_and_broadcasting():
    left, right = cp.asarray(VALUES[:100]).reshape(100, 1), cp.asarray(VALUES[:50])
    found = cp.where(left > right, left * right + 1, left // 3 - right)
    left, right = left.get(), right.get()
    return np.array_equal(found.get(), np.where(left > right, left * right + 1, left // 3 - right))


def functions():
    values = cp.asarray(VALUES)
    found = cp.sin(values) ** 2 + cp.cos(values) ** 2 + cp.log1p(cp.abs(values)) + cp.exp(values / 64)
    expected = 1 + np.log1p(np.abs(VALUES)) + np.exp(VALUES / 64)
    return np.allclose(found.get(), expected, rtol=1e-12, atol=0)


def kinds_of_numbers():
    right = True
    for kind in (np.int8, np.uint16, np.int32, np.uint64, np.float16, np.float32, np.complex64, np.complex128):
        values = np.abs(VALUES).astype(kind)
        right &= np.array_equal((cp.asarray(values) * 2 + 1).get(), values * 2 + 1)
    return right


def reductions():
    values = cp.asarray(VALUES).reshape(100, 100)
    host = VALUES.reshape(100, 100)
    pairs = [
        (values.sum(), host.sum()),
        (values.sum(axis=0), host.sum(axis=0)),
        (values.max(axis=1), host.max(axis=1)),
        (values.argmin(axis=1), host.argmin(axis=1)),
        (cp.count_nonzero(values > 10), np.count_nonzero(host > 10)),
        (values.mean(axis=0), host.mean(axis=0)),
        (cp.any(values > 62), np.any(host > 62)),
    ]
    return all(np.array_equal(found.get(), expected) for found, expected in pairs)


def own_reduction_and_fusion():
    length = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "length_of")

    @cp.fuse()
    def fused(x, y):
        return cp.maximum(x * y, x + y) - 1

    values = cp.asarray(VALUES)
    well = float(length(values)) == float(np.sqrt((VALUES * VALUES).sum()))
    return well and np.array_equal(fused(values, values + 3).get(), np.maximum(VALUES * (VALUES + 3), 2 * VALUES + 3) - 1)


def indexing():
    values = cp.asarray(VALUES)
    places = cp.asarray([5, 1, 9999, 1])
    well = np.array_equal(values[places].get(), VALUES[[5, 1, 9999, 1]])
    well &= np.array_equal(values[values > 60].get(), VALUES[VALUES > 60])
    well &= np.array_equal(values[::-7].get(), VALUES[::-7])
    sums = cp.zeros(10)
    cp.add.at(sums, cp.arange(1000) % 10, 1.0)
    return well and np.array_equal(sums.get(), np.full(10, 100.0))


def scans():
    return np.array_equal(cp.cumsum(cp.asarray(VALUES)).get(), np.cumsum(VALUES))


def streams_events_and_pinned_memory():
    streams, results = [cp.cuda.Stream(non_blocking=True) for _ in range(3)], []
    for index, stream in enumerate(streams):
        with stream:
            values = cp.asarray(VALUES) + index
            event = stream.record()
            results.append((values, event))
    for _, event in results:
        event.synchronize()
    pinned = np.frombuffer(cp.cuda.alloc_pinned_memory(VALUES.nbytes), VALUES.dtype, VALUES.size)
    results[1][0].get(stream=streams[1], out=pinned)
    streams[1].synchronize()
    return np.array_equal(pinned, VALUES + 1)


def graphs():
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        values = cp.zeros(1000, cp.int32)
        values += 1  # its kernel is compiled before the capture
        stream.begin_capture()
        values += 1
        values *= 2
        graph = stream.end_capture()
        for _ in range(3):
            graph.launch(stream)
        stream.synchronize()
    return bool((values.get() == 22).all())


PROGRAMS = [
    raw_kernel,
    raw_module_with_constant_and_shared_memory,
    elementwise_and_broadcasting,
    functions,
    kinds_of_numbers,
    reductions,
    own_reduction_and_fusion,
    indexing,
    scans,
    streams_events_and_pinned_memory,
    graphs,
]

failed = 0
for program in PROGRAMS:
    try:
        right = bool(program())
    except Exception as error:
        print(f"FAIL {program.__name__}: {type(error).__name__}: {error}", flush=True)
        failed += 1
        continue
    failed += not right
    print("ok  " if right else "FAIL", program.__name__, flush=True)
print(f"{len(PROGRAMS) - failed} passed, {failed} failed, 0 skipped", flush=True)
sys.exit(failed > 0)
