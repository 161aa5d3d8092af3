# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Launches through CUDA's runtime library, as PyTorch makes them: an operation in place, on four bytes, over and over."""

import os

import orders

DEVICE = os.environ.get("BENCH_DEVICE", "cuda")
LAUNCHES = 20_000


def load():
    global torch
    import torch

    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise FileNotFoundError("PyTorch finds no GPU")
    return f"torch {torch.__version__}"


class Add(orders.Part):
    name = "launch/torch"
    what = f"PyTorch's x.add_(1) on one number: operations per second of {LAUNCHES:,}, waited for at the end"
    amount = LAUNCHES

    def prepare(self):
        self.number = torch.zeros(1, dtype=torch.int32, device=DEVICE)
        self.run()

    def before(self):
        self.number.zero_()

    def run(self):
        add = self.number.add_
        for _ in range(LAUNCHES):
            add(1)
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    def check(self, _):
        count = self.number.item()
        if count != LAUNCHES:
            raise ValueError(f"{LAUNCHES} additions came to {count}")
        return [count]


if __name__ == "__main__":
    orders.serve([Add()], load)
