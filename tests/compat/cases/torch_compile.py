# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = PyTorch: torch.compile (Inductor and Triton)
import torch

torch.manual_seed(9)


@torch.compile
def step(values, weights):
    return torch.nn.functional.gelu(values @ weights).softmax(-1).sum(0)


values, weights = torch.randn(64, 128, device="cuda"), torch.randn(128, 32, device="cuda")
for _ in range(3):
    out = step(values, weights)
print("~1e-4 compiled", float((out * torch.arange(32, device="cuda")).sum()))
