# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = CuPy: a raw kernel, cuBLAS, cuFFT
import cupy

kernel = cupy.RawKernel(
    'extern "C" __global__ void scale(float *v, float by, int n)'
    "{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) v[i] *= by; }",
    "scale",
)
values = cupy.asarray([index % 100 for index in range(100_000)], dtype=cupy.float32)
kernel((391,), (256,), (values, cupy.float32(3), values.size))
print("scaled", float(values[99]), float(values[12345]))
square = values[:65536].reshape(256, 256)
print("~1e-6 matmul", float((square @ square)[17, 170]))
print("~1e-5 spectrum", abs(complex(cupy.fft.fft(values)[1000])))
