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


def main():
    pointer, text, i32, flag = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_bool
    toolkit()
    ggml, base, llama = library("libggml"), library("libggml-base"), library("libllama")

    function(llama, "llama_log_set", None, type(log), pointer)(log, None)
    function(ggml, "ggml_backend_load_all_from_path", None, text)(str(FILES).encode())
    function(llama, "llama_backend_init", None)()
    device_get = function(ggml, "ggml_backend_dev_get", pointer, ctypes.c_size_t)
    device_name = function(base, "ggml_backend_dev_name", text, pointer)
    device_about = function(base, "ggml_backend_dev_description", text, pointer)
    for index in range(function(ggml, "ggml_backend_dev_count", ctypes.c_size_t)()):
        device = device_get(index)
        print(f"device {device_name(device).decode()}: {device_about(device).decode()}")

    parameters = function(llama, "llama_model_default_params", ModelParameters)()
    parameters.n_gpu_layers = LAYERS
    load = function(llama, "llama_model_load_from_file", pointer, text, ModelParameters)
    model = load(str(next(FILES.glob("*.gguf"))).encode(), parameters)
    if not model:
        sys.exit("the model cannot be loaded")
    options = function(llama, "llama_context_default_params", ContextParameters)()
    options.n_ctx = options.n_batch = CONTEXT
    context = function(llama, "llama_init_from_model", pointer, pointer, ContextParameters)(model, options)
    if not context:
        sys.exit("no context")
    threads = os.cpu_count() if LAYERS == 0 else 1
    function(llama, "llama_set_n_threads", None, pointer, i32, i32)(context, threads, threads)

    vocabulary = function(llama, "llama_model_get_vocab", pointer, pointer)(model)
    tokenize = function(llama, "llama_tokenize", i32, pointer, text, i32, pointer, i32, flag, flag)
    piece = function(llama, "llama_token_to_piece", i32, pointer, i32, pointer, i32, i32, flag)
    is_end = function(llama, "llama_vocab_is_eog", flag, pointer, i32)
    one = function(llama, "llama_batch_get_one", Batch, pointer, i32)
    decode = function(llama, "llama_decode", i32, pointer, Batch)
    sample = function(llama, "llama_sampler_sample", i32, pointer, pointer, i32)
    greedy = function(llama, "llama_sampler_init_greedy", pointer)()

    prompt = (i32 * CONTEXT)()
    given = tokenize(vocabulary, PROMPT.encode(), len(PROMPT.encode()), prompt, CONTEXT, True, True)
    print("prompt", json.dumps(prompt[:given]))

    def step(tokens, count):
        if decode(context, one(tokens, count)) != 0:
            sys.exit("decoding failed")
        return sample(greedy, context, -1)

    # Kernels are loaded, and buffers made, before anything is timed.
    step(prompt, given)
    memory = function(llama, "llama_get_memory", pointer, pointer)(context)
    function(llama, "llama_memory_clear", None, pointer, flag)(memory, True)

    begin = time.monotonic()
    token, tokens = step(prompt, given), []
    between = time.monotonic()
    while not is_end(vocabulary, token) and len(tokens) < TOKENS:
        tokens.append(token)
        token = step((i32 * 1)(token), 1)
    end = time.monotonic()

    said, buffer = b"", ctypes.create_string_buffer(256)
    for token in tokens:
        length = piece(vocabulary, token, buffer, 256, 0, True)
        said += buffer.raw[: max(0, length)]
    print("tokens", json.dumps(tokens))
    print("text", json.dumps(said.decode(errors="replace")))
    speeds = {"prompt": round(given / (between - begin), 1), "generation": round(len(tokens) / (end - between), 1)}
    print("#", json.dumps({"tokens_per_second": speeds}))
    print(f"# note {speeds['generation']} tokens/s")

    function(llama, "llama_free", None, pointer)(context)
    function(llama, "llama_model_free", None, pointer)(model)


main()
