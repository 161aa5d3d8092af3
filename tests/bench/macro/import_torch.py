# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""From the start of a process to PyTorch's first result. It is timed from outside, up to the line with the result."""

import sys

import orders


class Start(orders.Part):
    name = "import/torch"
    what = "from the start of python3 to the first result of PyTorch on the GPU, seen from outside"


if __name__ == "__main__":
    if "--list" in sys.argv:
        orders.listing([Start()], start=True)
        sys.exit()
    channel = orders.Channel()
    try:
        import torch
    except ImportError as error:
        channel.say(skip=f"{type(error).__name__}: {error}")
        sys.exit()
    if not torch.cuda.is_available():
        channel.say(skip="PyTorch finds no GPU")
        sys.exit()
    numbers = torch.arange(1000, dtype=torch.float32, device="cuda")
    values = [(numbers * 2).sum().item()]
    series = {"name": Start.name, "unit": "ns", "samples": []}
    busy = orders.processor_seconds()
    about = f"torch {torch.__version__}"
    done = {"series": series, "values": values, "tolerance": 0, "amount": 1, "processor": busy, "about": about}
    channel.say(done=done)
    # Until it has been looked at.
    sys.stdin.read()
