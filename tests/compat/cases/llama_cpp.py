# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# compat: about = llama.cpp: its prebuilt CUDA back-end, SmolLM2-135M-Instruct, all layers on the GPU, greedy tokens
"""Generates text with llama.cpp through the ABI of llama.h, greedily: the same tokens wherever it computes alike.

The libraries and the model are those that llama/pack.py fetches; LLAMA_FILES may say where they are.
LLAMA_LAYERS says how many layers go to the GPU (all of them otherwise; 0 computes on the CPU), LLAMA_TOKENS how many
tokens are generated.
"""

import ctypes
import importlib.util
import json
import os
import pathlib
import re
import sys
import time

ABOVE = pathlib.Path(__file__).resolve().parents
#: Where the caller says, in the folder that `cargo xtask compat` made or beside it, or where llama/pack.py leaves them.
PLACES = [ABOVE[2] / "llama", ABOVE[3] / "llama", ABOVE[3] / "target" / "compat" / "llama"]
if "LLAMA_FILES" in os.environ:
    PLACES = [pathlib.Path(os.environ["LLAMA_FILES"])]
FILES = next((place for place in PLACES if any(place.glob("*.gguf"))), PLACES[-1])
LAYERS = int(os.environ.get("LLAMA_LAYERS", "999"))
TOKENS = int(os.environ.get("LLAMA_TOKENS", "96"))
PROMPT = "<|im_start|>user\nWhy is the sky blue? Answer in a few sentences.<|im_end|>\n<|im_start|>assistant\n"
CONTEXT = 1024
#: What libggml-cuda.so is linked with, besides libcuda.so.1; the wheels of PyPI keep them here.
TOOLKIT = ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"]


class ModelParameters(ctypes.Structure):
    """llama_model_params: what is set here, and room for the rest, which the library fills in."""

    _fields_ = [("pointers", ctypes.c_void_p * 2), ("n_gpu_layers", ctypes.c_int32), ("rest", ctypes.c_byte * 492)]


class ContextParameters(ctypes.Structure):
    """llama_context_params, likewise."""

    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("rest", ctypes.c_byte * 504)]


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [("n_tokens", ctypes.c_int32), ("pointers", ctypes.c_void_p * 6)]


def toolkit():
    """Loads the toolkit's libraries from where pip put them, unless the loader finds them itself."""
    package = importlib.util.find_spec("nvidia")
    folders = [pathlib.Path(path) / "cu13" / "lib" for path in package.submodule_search_locations] if package else []
    for name in TOOLKIT:
        places = [folder / name for folder in folders if (folder / name).exists()]
        ctypes.CDLL(str(places[0]) if places else name, mode=ctypes.RTLD_GLOBAL)


def library(name):
    """A library of llama.cpp's, whose name has a version in it, as the other ones look for it."""
    names = re.compile(re.escape(name) + r"(\.\w+)*\.so(\.\d+)?$")
    found = sorted(path for path in FILES.glob("*.so*") if names.match(path.name))
    if not found:
        sys.exit(f"no {name} in {FILES}: llama/pack.py fetches it")
    return ctypes.CDLL(str(found[-1]), mode=ctypes.RTLD_GLOBAL)


def function(of, name, result, *parameters):
    """A function with its types."""
    found = getattr(of, name)
    found.restype, found.argtypes = result, list(parameters)
    return found


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def log(level, line, _):
    """Where the layers went is a result; the rest is for the log, without what is said for debugging."""
    line = line.decode(errors="replace")
    offloaded = re.search(r"offloaded \d+/\d+ layers", line)
    if offloaded:
        print(offloaded.group(), flush=True)
    elif level > 1:
        sys.stderr.write(line)


class Model:
    """The model, loaded, with a context. Tokens are chosen greedily."""

    def __init__(self):
        toolkit()
        ggml, base, self.library = library("libggml"), library("libggml-base"), library("libllama")
        self.has("llama_log_set", None, type(log), ctypes.c_void_p)(log, None)
        function(ggml, "ggml_backend_load_all_from_path", None, ctypes.c_char_p)(str(FILES).encode())
        self.has("llama_backend_init", None)()
        self.devices = list(devices(ggml, base))
        self.file = next(FILES.glob("*.gguf"))
        self.load()

        pointer, text, i32, flag = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_bool
        self.vocabulary = self.has("llama_model_get_vocab", pointer, pointer)(self.model)
        self.piece = self.has("llama_token_to_piece", i32, pointer, i32, pointer, i32, i32, flag)
        self.is_end = self.has("llama_vocab_is_eog", flag, pointer, i32)
        self.one = self.has("llama_batch_get_one", Batch, pointer, i32)
        self.decode = self.has("llama_decode", i32, pointer, Batch)
        self.sample = self.has("llama_sampler_sample", i32, pointer, pointer, i32)
        self.greedy = self.has("llama_sampler_init_greedy", pointer)()
        self.memory = self.has("llama_get_memory", pointer, pointer)(self.context)
        self.clear = self.has("llama_memory_clear", None, pointer, flag)

        tokenize = self.has("llama_tokenize", i32, pointer, text, i32, pointer, i32, flag, flag)
        self.tokens = (i32 * CONTEXT)()
        count = tokenize(self.vocabulary, PROMPT.encode(), len(PROMPT.encode()), self.tokens, CONTEXT, True, True)
        self.prompt = self.tokens[:count]

    def has(self, name, result, *parameters):
        """A function of libllama."""
        return function(self.library, name, result, *parameters)

    def load(self):
        """The model's weights and its context."""
        pointer = ctypes.c_void_p
        parameters = self.has("llama_model_default_params", ModelParameters)()
        parameters.n_gpu_layers = LAYERS
        load = self.has("llama_model_load_from_file", pointer, ctypes.c_char_p, ModelParameters)
        self.model = load(str(self.file).encode(), parameters)
        if not self.model:
            sys.exit("the model cannot be loaded")
        options = self.has("llama_context_default_params", ContextParameters)()
        options.n_ctx = options.n_batch = CONTEXT
        self.context = self.has("llama_init_from_model", pointer, pointer, ContextParameters)(self.model, options)
        if not self.context:
            sys.exit("no context")
        threads = os.cpu_count() if LAYERS == 0 else 1
        self.has("llama_set_n_threads", None, pointer, ctypes.c_int32, ctypes.c_int32)(self.context, threads, threads)

    def step(self, tokens, count):
        """The token that follows so many."""
        if self.decode(self.context, self.one(tokens, count)) != 0:
            sys.exit("decoding failed")
        return self.sample(self.greedy, self.context, -1)

    def forget(self):
        """Lets the context be empty again."""
        self.clear(self.memory, True)

    def read_prompt(self):
        """The token that follows the prompt."""
        return self.step(self.tokens, len(self.prompt))

    def answer(self, token, most):
        """From a first token on, what follows one by one, up to the text's end or so many."""
        for _ in range(most):
            if self.is_end(self.vocabulary, token):
                return
            yield token
            token = self.step((ctypes.c_int32 * 1)(token), 1)

    def text(self, tokens):
        """What they say."""
        said, buffer = b"", ctypes.create_string_buffer(256)
        for token in tokens:
            length = self.piece(self.vocabulary, token, buffer, 256, 0, True)
            said += buffer.raw[: max(0, length)]
        return said.decode(errors="replace")

    def free(self):
        self.has("llama_free", None, ctypes.c_void_p)(self.context)
        self.has("llama_model_free", None, ctypes.c_void_p)(self.model)


def devices(ggml, base):
    """Name and description of each device."""
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    get = function(ggml, "ggml_backend_dev_get", pointer, ctypes.c_size_t)
    name = function(base, "ggml_backend_dev_name", text, pointer)
    about = function(base, "ggml_backend_dev_description", text, pointer)
    for index in range(function(ggml, "ggml_backend_dev_count", ctypes.c_size_t)()):
        device = get(index)
        yield name(device).decode(), about(device).decode()


def main():
    model = Model()
    for name, about in model.devices:
        print(f"device {name}: {about}")
    print("prompt", json.dumps(model.prompt))

    # Kernels are loaded, and buffers made, before anything is timed.
    model.read_prompt()
    model.forget()

    begin = time.monotonic()
    first = model.read_prompt()
    between = time.monotonic()
    tokens = list(model.answer(first, TOKENS))
    end = time.monotonic()

    print("tokens", json.dumps(tokens))
    print("text", json.dumps(model.text(tokens)))
    speeds = {"prompt": round(len(model.prompt) / (between - begin), 1), "generation": round(len(tokens) / (end - between), 1)}
    print("#", json.dumps({"tokens_per_second": speeds}))
    print(f"# note {speeds['generation']} tokens/s")
    model.free()


if __name__ == "__main__":
    main()
