# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = onnxruntime: the CUDA provider
import sys

import numpy as np
import onnxruntime
import torch

if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
    sys.exit("this onnxruntime has no CUDA provider")
import tempfile

torch.manual_seed(4)
model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 14 * 14, 5))
sample = torch.randn(2, 3, 16, 16)
with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
    torch.onnx.export(model, (sample,), file.name, dynamo=False)
    session = onnxruntime.InferenceSession(file.name, providers=["CUDAExecutionProvider"])
    name = session.get_inputs()[0].name
    print(session.get_providers()[0])
    out = session.run(None, {name: sample.numpy()})[0]
print("~1e-3 out", float(np.abs(out).sum()))
