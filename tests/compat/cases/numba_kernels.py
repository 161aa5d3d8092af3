# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = numba: kernels, shared memory, atomics, streams, mapped arrays
import numpy

numpy.row_stack = numpy.vstack
import math

import numpy as np
from numba import cuda, float32


@cuda.jit
def waves(values):
    index = cuda.grid(1)
    if index < values.size:
        values[index] = math.sin(values[index]) * 2


@cuda.jit
def histogram(values, bins):
    index = cuda.grid(1)
    if index < values.size:
        cuda.atomic.add(bins, values[index], 1)


@cuda.jit
def reverse(values):
    shared = cuda.shared.array(256, float32)
    shared[cuda.threadIdx.x] = values[cuda.grid(1)]
    cuda.syncthreads()
    values[cuda.grid(1)] = shared[255 - cuda.threadIdx.x]


values = np.linspace(0, 10, 65536, dtype=np.float32)
device = cuda.to_device(values)
waves[256, 256](device)
print("~1e-6 waves", float(device.copy_to_host().astype(np.float64).sum()))
numbers = cuda.to_device(np.arange(100000) % 10)
bins = cuda.to_device(np.zeros(10, np.int32))
histogram[391, 256](numbers, bins)
print("histogram", bins.copy_to_host().tolist())
stream = cuda.stream()
with stream.auto_synchronize():
    other = cuda.to_device(values, stream=stream)
    reverse[256, 256, stream](other)
    back = other.copy_to_host(stream=stream)
print("reversed", float(back[0]), float(back[-1]))
mapped = cuda.mapped_array(1024, np.float32)
mapped[:] = 1
reverse[4, 256](mapped)
waves[4, 256](mapped)
cuda.synchronize()
print("~1e-6 mapped", float(mapped.sum()))
print(cuda.get_current_device().name)
