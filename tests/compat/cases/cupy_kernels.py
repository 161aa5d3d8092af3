# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = CuPy: raw kernels and modules, streams, events, pinned memory, fused and reduction kernels
import cupy as cp
import numpy as np

source = r"""
extern "C" __global__ void scale(const float* in, float* out, float factor, int count)
{
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count)
        out[index] = in[index] * factor + index % 3;
}
"""
kernel = cp.RawKernel(source, "scale")
values = cp.arange(100000, dtype=cp.float32)
out = cp.empty_like(values)
kernel((391,), (256,), (values, out, cp.float32(0.5), cp.int32(values.size)))
print("raw", float(out.sum(dtype=cp.float64)))
module = cp.RawModule(code=source, backend="nvcc" if False else "nvrtc")
module.get_function("scale")((391,), (256,), (values, out, cp.float32(2), cp.int32(values.size)))
print("module", float(out.sum(dtype=cp.float64)))
squares = cp.ElementwiseKernel("T x", "T y", "y = x * x", "squares")
print("elementwise", int(squares(cp.arange(1000, dtype=cp.int64)).sum()))
norm = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = a", "0", "norm")
print("reduction", int(norm(cp.arange(1000, dtype=cp.int64))))
with cp.cuda.Stream(non_blocking=True) as stream:
    started, ended = cp.cuda.Event(), cp.cuda.Event()
    started.record()
    pinned = cp.cuda.alloc_pinned_memory(4096)
    host = np.frombuffer(pinned, np.int32, 1024)
    host[:] = np.arange(1024)
    device = cp.empty(1024, cp.int32)
    device.set(host, stream=stream)
    device += 1
    ended.record()
    stream.synchronize()
    print("stream", int(device.sum()), cp.cuda.get_elapsed_time(started, ended) >= 0)
free, total = cp.cuda.runtime.memGetInfo()
print("memory", 0 < free <= total, total)
print("name", cp.cuda.runtime.getDeviceProperties(0)["name"].decode())
