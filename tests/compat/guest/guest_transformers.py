# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = transformers: generate, a small GPT-2 of random weights, fp16, 24 tokens
import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(11)
# Made on the device, so that the guest's processor has no part in the numbers.
with torch.device("cuda"):
    model = GPT2LMHeadModel(GPT2Config(n_layer=4, n_embd=256, n_head=4, vocab_size=4096)).half().eval()
prompt = torch.arange(10, 26, device="cuda").unsqueeze(0)
with torch.no_grad():
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False, pad_token_id=0)
print("tokens", out[0].tolist())
