# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = PyTorch: matmul, fft, svd, sort, streams, events, pinned memory, errors
import torch

torch.manual_seed(1)
print(torch.cuda.is_available(), torch.cuda.device_count(), torch.cuda.get_device_name())
print(torch.cuda.get_device_capability(), torch.cuda.get_device_properties(0).total_memory)
matrix = torch.randn(512, 512, device="cuda")
print("~1e-5 matmul", float((matrix @ matrix).abs().sum()))
print("~1e-5 fft", float(torch.fft.fft(matrix).abs().sum()))
print("~1e-4 svd", float(torch.linalg.svdvals(matrix[:64, :64]).sum()))
print("sort", float(torch.sort(matrix.flatten())[0][100]))
print("integers", int(torch.arange(100000, device="cuda").cumsum(0)[-1]))
stream = torch.cuda.Stream()
started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
with torch.cuda.stream(stream):
    started.record()
    doubled = matrix * 2
    ended.record()
stream.synchronize()
print("event", started.elapsed_time(ended) >= 0)
pinned = torch.arange(1 << 20, dtype=torch.int32).pin_memory()
print("pinned", pinned.is_pinned(), int(pinned.cuda(non_blocking=True).sum()))
print("half", float((matrix[:8, :8].half() @ matrix[:8, :8].half()).float().abs().sum()))
attention = torch.nn.functional.scaled_dot_product_attention(*(torch.randn(2, 4, 128, 64, device="cuda", dtype=torch.float16) for _ in range(3)))
print("~1e-3 attention", float(attention.float().abs().sum()))
free, total = torch.cuda.mem_get_info()
print("memory", 0 < free <= total, total)
try:
    torch.empty(1 << 50, device="cuda")
except torch.OutOfMemoryError as error:
    print("out of memory", "CUDA out of memory" in str(error))
