# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = CuPy: cuBLAS, cuFFT, cuRAND, cuSOLVER, cuSPARSE, reductions, sorting
import cupy as cp
import cupyx.scipy.sparse as sparse

generator = cp.random.default_rng(7)
matrix = generator.random((256, 256), dtype=cp.float64)
print("~1e-12 gemm", float((matrix @ matrix).sum()))
print("~1e-5 sgemm", float((matrix.astype(cp.float32) @ matrix.astype(cp.float32)).sum()))
signal = cp.sin(cp.arange(1 << 14) * 0.01)
print("~1e-10 fft", float(cp.abs(cp.fft.fft(signal)).sum()))
print("~1e-10 rfft2", float(cp.abs(cp.fft.rfft2(matrix)).sum()))
print("~1e-9 svd", float(cp.linalg.svd(matrix, compute_uv=False).sum()))
print("~1e-9 solve", float(cp.linalg.solve(matrix, cp.ones(256)).sum()))
print("~1e-9 eigenvalues", float(cp.linalg.eigvalsh(matrix + matrix.T).max()))
print("random", int(generator.integers(0, 1000, 100000).sum()))
thin = sparse.random(500, 500, density=0.02, random_state=3, format="csr")
print("~1e-12 sparse", float((thin @ cp.ones(500)).sum()))
values = generator.integers(0, 1 << 30, 200000)
print("sorted", int(cp.sort(values)[1000]), int(cp.argmax(values)), int(cp.unique(values % 1000).size))
print("~1e-12 sum", float(cp.arange(1e6).sum()))
