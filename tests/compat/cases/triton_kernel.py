# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = Triton: a kernel of its own
import torch
import triton
import triton.language as tl


@triton.jit
def softmax(values, out, columns, block: tl.constexpr):
    row = tl.program_id(0)
    offsets = tl.arange(0, block)
    mask = offsets < columns
    line = tl.load(values + row * columns + offsets, mask=mask, other=-float("inf"))
    line = tl.exp(line - tl.max(line, axis=0))
    tl.store(out + row * columns + offsets, line / tl.sum(line, axis=0), mask=mask)


torch.manual_seed(2)
values = torch.randn(64, 200, device="cuda")
out = torch.empty_like(values)
softmax[(64,)](values, out, 200, block=256)
print("softmax", bool(torch.allclose(out, values.softmax(1), atol=1e-6)))
print("~1e-5 value", float((out * torch.arange(200, device="cuda")).sum()))
try:
    softmax[(64,)](torch.randn(64, 200), out, 200, block=256)
except ValueError as error:
    print("host memory:", "cpu tensor" in str(error))
