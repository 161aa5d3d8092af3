# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Parts with which the benchmark of programs is tested: they need a driver and no framework, and one is wrong on one side."""

import ctypes
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "macro"))
import orders

WORDS = 1024


def load():
    global cuda
    cuda = ctypes.CDLL("libcuda.so.1")
    return "the driver"


def ok(code):
    if code != 0:
        raise RuntimeError(f"CUDA error {code}")


class Memset(orders.Part):
    name = "driver/memset"
    what = "cuMemsetD32 of 4 KiB, over and over"
    amount = 100

    def prepare(self):
        context, self.pointer = ctypes.c_void_p(), ctypes.c_uint64()
        ok(cuda.cuInit(0))
        ok(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
        ok(cuda.cuCtxSetCurrent(context))
        ok(cuda.cuMemAlloc_v2(ctypes.byref(self.pointer), ctypes.c_size_t(4 * WORDS)))

    def run(self):
        for number in range(self.amount):
            ok(cuda.cuMemsetD32_v2(self.pointer, ctypes.c_uint(number), ctypes.c_size_t(WORDS)))
        ok(cuda.cuCtxSynchronize())

    def check(self, _):
        words = (ctypes.c_uint * WORDS)()
        ok(cuda.cuMemcpyDtoH_v2(words, self.pointer, ctypes.c_size_t(4 * WORDS)))
        return words[:]


class Differs(Memset):
    name = "driver/differs"
    what = "the same, and one word is wrong through the device"

    def check(self, result):
        words = super().check(result)
        words[7] += "VCOMPUTE_SOCKET" in os.environ
        return words


class Fails(Memset):
    name = "driver/fails"
    what = "the same, and it fails through the device"

    def run(self):
        if "VCOMPUTE_SOCKET" in os.environ:
            raise RuntimeError("as it was told")
        super().run()


if __name__ == "__main__":
    orders.serve([Memset(), Differs(), Fails()], load)
