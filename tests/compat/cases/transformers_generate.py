# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = transformers: generate, a GPT-2 of 124 million random weights, fp16, 64 tokens
import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(11)
model = GPT2LMHeadModel(GPT2Config()).half().cuda().eval()
prompt = torch.arange(10, 26, device="cuda").unsqueeze(0)
with torch.no_grad():
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, do_sample=False, pad_token_id=0)
print("tokens", out[0].tolist())
