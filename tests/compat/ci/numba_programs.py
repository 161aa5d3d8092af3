#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Kernels that numba compiles, with results that are known without a GPU. Ends with 0 if all are right."""

import sys
import warnings

import numpy as np
from numba import cuda, float32, int32

# The kernels are small and the linker is the driver's, on purpose.
warnings.simplefilter("ignore")

BLOCK = 128


@cuda.jit
def add(left, right, sums):
    index = cuda.grid(1)
    if index < sums.size:
        sums[index] = left[index] + right[index]


@cuda.jit
def block_sums(values, sums):
    """Each block's sum, by halves, in shared memory."""
    shared = cuda.shared.array(BLOCK, float32)
    lane = cuda.threadIdx.x
    index = cuda.grid(1)
    shared[lane] = values[index] if index < values.size else 0
    cuda.syncthreads()
    step = BLOCK // 2
    while step > 0:
        if lane < step:
            shared[lane] += shared[lane + step]
        cuda.syncthreads()
        step //= 2
    if lane == 0:
        sums[cuda.blockIdx.x] = shared[0]


@cuda.jit
def count(values, bins, largest):
    index = cuda.grid(1)
    if index < values.size:
        cuda.atomic.add(bins, values[index], 1)
        cuda.atomic.max(largest, 0, values[index])


@cuda.jit
def warp_sums(sums):
    """A sum over each warp by shuffles."""
    value = cuda.grid(1)
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if cuda.threadIdx.x % 32 == 0:
        sums[cuda.grid(1) // 32] = value


@cuda.jit
def multiply(left, right, product):
    """A product of matrices by tiles."""
    tile_left = cuda.shared.array((8, 8), int32)
    tile_right = cuda.shared.array((8, 8), int32)
    column, row = cuda.grid(2)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    total = 0
    for tile in range(left.shape[1] // 8):
        tile_left[y, x] = left[row, tile * 8 + x]
        tile_right[y, x] = right[tile * 8 + y, column]
        cuda.syncthreads()
        for inner in range(8):
            total += tile_left[y, inner] * tile_right[inner, x]
        cuda.syncthreads()
    product[row, column] = total


def blocks(values):
    return (values.size + BLOCK - 1) // BLOCK


def vector_add():
    left, right = np.arange(10_000, dtype=np.float32), np.full(10_000, 0.5, np.float32)
    sums = np.zeros_like(left)
    add[blocks(left), BLOCK](left, right, sums)
    return np.array_equal(sums, left + right)


def shared_reduction():
    # Small whole numbers: every order of adding them gives the same sum.
    values = (np.arange(9_999) % 64).astype(np.float32)
    sums = cuda.device_array(blocks(values), np.float32)
    block_sums[blocks(values), BLOCK](cuda.to_device(values), sums)
    padded = np.pad(values, (0, -values.size % BLOCK)).reshape(-1, BLOCK)
    return np.array_equal(sums.copy_to_host(), padded.sum(axis=1))


def atomics():
    values = np.arange(12_345, dtype=np.int32) * 7 % 10
    bins, largest = np.zeros(10, np.int32), np.zeros(1, np.int32)
    count[blocks(values), BLOCK](values, bins, largest)
    return np.array_equal(bins, np.bincount(values, minlength=10)) and largest[0] == 9


def shuffles():
    sums = np.zeros(16, np.int64)
    warp_sums[4, BLOCK](sums)
    return np.array_equal(sums, np.arange(512).reshape(16, 32).sum(axis=1))


def matrices():
    random = np.random.default_rng(1)
    left, right = random.integers(-99, 99, (2, 32, 32), dtype=np.int32)
    product = np.zeros((32, 32), np.int32)
    multiply[(4, 4), (8, 8)](left, right, product)
    return np.array_equal(product, left @ right)


def streams_and_pinned_memory():
    stream = cuda.stream()
    pinned = cuda.pinned_array(4096, np.float32)
    pinned[:] = 3
    with stream.auto_synchronize():
        device = cuda.to_device(pinned, stream=stream)
        add[blocks(pinned), BLOCK, stream](device, device, device)
        device.copy_to_host(pinned, stream=stream)
    return bool((pinned == 6).all())


def too_large_a_block():
    values = cuda.device_array(16, np.float32)
    try:
        add[1, 4096](values, values, values)
        cuda.synchronize()
    except Exception as error:  # its class depends on the binding that numba uses
        return "INVALID_VALUE" in str(error)
    return False


PROGRAMS = [vector_add, shared_reduction, atomics, shuffles, matrices, streams_and_pinned_memory, too_large_a_block]

failed = 0
for program in PROGRAMS:
    right = program()
    failed += not right
    print("ok  " if right else "FAIL", program.__name__, flush=True)
print(f"{len(PROGRAMS) - failed} passed, {failed} failed, 0 skipped", flush=True)
sys.exit(failed > 0)
