# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""GPT-2 small (GPT2Config as it is, random weights, half precision) generates tokens greedily, one sequence.

Once as transformers does it, kernel by kernel, and once with a decoding step that is captured in a CUDA graph: the same
weights with a static cache for keys and values. The graph's tokens are read one by one, as a server reads them.
"""

import os

import orders

PROMPT = range(10, 26)
DEVICE = os.environ.get("BENCH_DEVICE", "cuda")
#: Tokens of one repetition. Small enough that a sample of the slow way takes about half a second.
TOKENS = 96

model = None


def load():
    global torch, functional
    import torch
    import transformers
    from torch.nn import functional

    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise FileNotFoundError("PyTorch finds no GPU")
    transformers.logging.set_verbosity_error()
    return f"torch {torch.__version__}, transformers {transformers.__version__}"


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def weights():
    """The model, which both parts share."""
    global model
    if model is None:
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(11)
        model = GPT2LMHeadModel(GPT2Config()).half().to(DEVICE).eval()
        model.requires_grad_(False)
    return model


class Generate(orders.Part):
    name = "gpt2/eager"
    what = f"transformers' generate: GPT-2 small, random weights, fp16, one sequence, greedy; tokens per second of {TOKENS}"
    amount = TOKENS

    def prepare(self):
        self.model = weights()
        self.prompt = torch.tensor([list(PROMPT)], device=DEVICE)
        self.mask = torch.ones_like(self.prompt)
        self.run()

    def run(self):
        with torch.no_grad():
            # Exactly so many tokens: none of them ends the text.
            found = self.model.generate(
                self.prompt,
                attention_mask=self.mask,
                min_new_tokens=TOKENS,
                max_new_tokens=TOKENS,
                do_sample=False,
                pad_token_id=0,
            )
        synchronize()
        return found

    def check(self, result):
        return result[0].tolist()


class Graph(orders.Part):
    name = "gpt2/graph"
    what = f"the same model, each token one CUDA graph (static cache), read as it comes; tokens per second of {TOKENS}"
    amount = TOKENS

    def prepare(self):
        self.model = weights()
        config = self.model.config
        self.heads, self.room = config.n_head, len(PROMPT) + TOKENS
        shape = (1, config.n_head, self.room, config.n_embd // config.n_head)
        kind = {"device": DEVICE, "dtype": torch.float16}
        self.caches = [(torch.zeros(shape, **kind), torch.zeros(shape, **kind)) for _ in range(config.n_layer)]
        self.positions = torch.arange(self.room, device=DEVICE)
        self.token = torch.zeros(1, dtype=torch.long, device=DEVICE)
        self.place = torch.zeros(1, dtype=torch.long, device=DEVICE)
        self.graph = None
        # The same steps without a graph must find the same tokens. They also warm up what a capture must not do first.
        stream = torch.cuda.Stream() if DEVICE == "cuda" else None
        with torch.no_grad():
            if stream is None:
                self.expected = self.generate(self.step)
                return
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self.expected = self.generate(self.step)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step()

    def step(self):
        """One token: from `token` at `place` to the next ones, in place."""
        transformer = self.model.transformer
        hidden = transformer.wte(self.token) + transformer.wpe(self.place)
        visible = (self.positions <= self.place).view(1, 1, 1, self.room)
        for block, (keys, values) in zip(transformer.h, self.caches):
            parts = block.attn.c_attn(block.ln_1(hidden)).view(1, 1, 3, self.heads, -1)
            query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))
            keys.index_copy_(2, self.place, key)
            values.index_copy_(2, self.place, value)
            mixed = functional.scaled_dot_product_attention(query, keys, values, attn_mask=visible)
            hidden = hidden + block.attn.c_proj(mixed.transpose(1, 2).reshape(1, -1))
            hidden = hidden + block.mlp(block.ln_2(hidden))
        self.token.copy_(self.model.lm_head(transformer.ln_f(hidden)).argmax(-1))
        self.place.add_(1)

    def generate(self, step):
        """Runs the prompt through it, token by token, and reads what follows."""
        for keys, values in self.caches:
            keys.zero_()
            values.zero_()
        self.place.zero_()
        for token in PROMPT:
            self.token.fill_(token)
            step()
        found = [self.token.item()]
        while len(found) < TOKENS:
            step()
            found.append(self.token.item())
        return found

    def run(self):
        with torch.no_grad():
            return self.generate(self.graph.replay if self.graph else self.step)

    def check(self, result):
        if result != self.expected:
            raise ValueError("the graph finds other tokens than its kernels one by one")
        return result


if __name__ == "__main__":
    orders.serve([Generate(), Graph()], load)
