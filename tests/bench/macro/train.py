# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Training steps of a small CNN and a small transformer: kernel by kernel, and each step as one CUDA graph.

A step copies its batch from pinned memory, goes forward and backward, and lets AdamW move the weights. Every order starts from
the same weights, so that both sides compute the same losses; algorithms that differ from run to run are switched off.
With AMP, eager steps compute in fp16 and scale their gradients; captured ones compute in bf16, which needs no scaling.
"""

import os

# cuBLAS is the same from run to run only with a workspace of a fixed size.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import orders

DEVICE = os.environ.get("BENCH_DEVICE", "cuda")
BATCH = 32
BATCHES = 4
#: Steps of one repetition, whose losses are read at its end.
EAGER_STEPS, GRAPH_STEPS = 20, 60


def load():
    global torch, nn
    import torch
    from torch import nn

    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise FileNotFoundError("PyTorch finds no GPU")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would fill all new memory, which no training does.
    torch.utils.deterministic.fill_uninitialized_memory = False
    return f"torch {torch.__version__}"


def cnn():
    """The model, and the shape of what it takes."""

    def layer(inputs, outputs, stride):
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*layer(3, 16, 1), *layer(16, 32, 2), *layer(32, 64, 2), nn.Flatten(), nn.Linear(64 * 8 * 8, 10)]
    return nn.Sequential(*layers), (3, 32, 32)


def transformer():
    """The same of the other."""

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(64, 128)
            layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(128, 10)

        def forward(self, inputs):
            return self.head(self.encoder(self.embed(inputs)).mean(1))

    return Transformer(), (50, 64)


class Training(orders.Part):
    def __init__(self, model, amp, graph):
        self.make, self.amp, self.is_graph = model, amp, graph
        self.name = f"train/{model.__name__}/{'amp' if amp else 'fp32'}/{'graph' if graph else 'eager'}"
        precision = ("bf16" if graph else "fp16 with scaled gradients") if amp else "fp32"
        kind = "CNN" if model is cnn else "transformer"
        self.what = f"training steps per second of a small {kind}, {precision}, {'one CUDA graph' if graph else 'kernel by kernel'}"
        self.amount = GRAPH_STEPS if graph else EAGER_STEPS
        self.tolerance = 2e-2 if amp else 1e-4

    def prepare(self):
        torch.manual_seed(3)
        model, shape = self.make()
        self.model = model.to(DEVICE).train()
        pinned = DEVICE == "cuda"
        self.inputs, self.targets = torch.randn(BATCHES, BATCH, *shape), torch.randint(0, 10, (BATCHES, BATCH))
        if pinned:
            self.inputs, self.targets = self.inputs.pin_memory(), self.targets.pin_memory()
        self.input = torch.zeros(BATCH, *shape, device=DEVICE)
        self.target = torch.zeros(BATCH, dtype=torch.long, device=DEVICE)
        self.loss = torch.zeros((), device=DEVICE)
        self.losses = torch.zeros(self.amount, device=DEVICE)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3, capturable=pinned and self.is_graph)
        self.scaler = torch.amp.GradScaler(DEVICE, enabled=self.amp and not self.is_graph)
        self.initial = [tensor.detach().clone() for tensor in self.model.state_dict().values()]
        self.graph = None
        if pinned and self.is_graph:
            self.capture()
        else:
            self.steps(3)

    def capture(self):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.steps(3)
        torch.cuda.current_stream().wait_stream(stream)
        self.optimiser.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.compute()

    def compute(self):
        """A step, on what is in `input` and `target`."""
        kind = torch.bfloat16 if self.is_graph or DEVICE == "cpu" else torch.float16
        with torch.autocast(DEVICE, dtype=kind, enabled=self.amp, cache_enabled=not self.is_graph):
            loss = nn.functional.cross_entropy(self.model(self.input), self.target)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.loss.copy_(loss.detach())

    def steps(self, count):
        for step in range(count):
            self.input.copy_(self.inputs[step % BATCHES], non_blocking=True)
            self.target.copy_(self.targets[step % BATCHES], non_blocking=True)
            if self.graph:
                self.graph.replay()
            else:
                self.optimiser.zero_grad(set_to_none=True)
                self.compute()
            self.losses[step].copy_(self.loss)
        return self.losses[:count].tolist()

    def begin(self):
        """Weights, moments and the scale as they were: in place, as a graph needs them."""
        with torch.no_grad():
            for tensor, initial in zip(self.model.state_dict().values(), self.initial):
                tensor.copy_(initial)
            for state in self.optimiser.state.values():
                for value in state.values():
                    if torch.is_tensor(value):
                        value.zero_()
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(torch.amp.GradScaler(DEVICE).state_dict())

    def run(self):
        return self.steps(self.amount)

    def check(self, result):
        return result


if __name__ == "__main__":
    ways = [(model, amp, graph) for model in (cnn, transformer) for amp in (False, True) for graph in (False, True)]
    orders.serve([Training(*way) for way in ways], load)
