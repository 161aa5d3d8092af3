# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = PyTorch: CUDA graphs by hand and make_graphed_callables
import copy

import torch

torch.manual_seed(5)
model = torch.nn.Sequential(torch.nn.Linear(128, 256), torch.nn.GELU(), torch.nn.Linear(256, 16)).cuda()
static = torch.randn(32, 128, device="cuda")
warm = torch.cuda.Stream()
warm.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(warm), torch.no_grad():
    for _ in range(3):
        model(static)
torch.cuda.current_stream().wait_stream(warm)
graph = torch.cuda.CUDAGraph()
with torch.no_grad(), torch.cuda.graph(graph):
    out = model(static)
for seed in range(3):
    torch.manual_seed(seed)
    static.copy_(torch.randn(32, 128, device="cuda"))
    graph.replay()
    with torch.no_grad():
        expected = model(static)
    print("replay", bool(torch.allclose(out, expected, atol=1e-5)))
    print("~1e-5 value", float(out.abs().sum()))
sample = torch.randn(32, 128, device="cuda", requires_grad=True)
fresh = copy.deepcopy(model)
graphed = torch.cuda.make_graphed_callables(fresh, (sample,))
loss = graphed(torch.randn(32, 128, device="cuda")).square().mean()
loss.backward()
print("~1e-4 graphed", float(fresh[0].weight.grad.abs().sum()))
