# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""llama.cpp with a small model, by the program of the compatibility suite: its prompt, and the tokens that follow."""

import importlib.util
import os
import pathlib

import orders

#: In the workspace, and in the archive that `cargo xtask bench pack` makes.
HERE = pathlib.Path(__file__).resolve()
PLACES = [HERE.parents[2] / "compat", HERE.parents[1] / "compat"]

model = None


def load():
    global model
    path = next(place for place in PLACES if place.exists()) / "cases" / "llama_cpp.py"
    found = importlib.util.spec_from_file_location("llama_cpp", path)
    llama_cpp = importlib.util.module_from_spec(found)
    found.loader.exec_module(llama_cpp)
    if not any(llama_cpp.FILES.glob("*.gguf")):
        raise FileNotFoundError(f"nothing in {llama_cpp.FILES}: tests/compat/llama/pack.py fetches it")
    model = llama_cpp.Model()
    return f"llama.cpp, {model.file.stem}"


class Prompt(orders.Part):
    name = "llama/prompt"
    what = "llama.cpp, SmolLM2-135M: tokens per second of a prompt, eight times in a row"
    TIMES = 8

    def prepare(self):
        self.amount = self.TIMES * len(model.prompt)
        self.run()

    def run(self):
        tokens = []
        for _ in range(self.TIMES):
            model.forget()
            tokens.append(model.read_prompt())
        return tokens

    def check(self, result):
        return result


class Decode(orders.Part):
    name = "llama/decode"
    what = "llama.cpp, SmolLM2-135M: tokens per second of its answer, greedily, one after the other"

    def prepare(self):
        self.before()
        self.amount = len(self.run())

    def before(self):
        model.forget()
        self.first = model.read_prompt()

    def run(self):
        return list(model.answer(self.first, int(os.environ.get("LLAMA_TOKENS", "96"))))

    def check(self, result):
        if len(result) != self.amount:
            raise ValueError(f"{len(result)} tokens after {self.amount} of the same prompt")
        return result


if __name__ == "__main__":
    orders.serve([Prompt(), Decode()], load)
