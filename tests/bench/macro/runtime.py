# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Launches through CUDA's runtime library by a compiled program: `cuda-bench runtime`, told where the library is."""

import ctypes
import importlib.util
import os
import pathlib
import re
import sys

import orders

#: The oldest that loads a kernel from PTX by itself (cudaLibraryLoadData).
OLDEST = (12, 8)


class Launch(orders.Part):
    name = "launch/runtime"
    what = "cudaLaunchKernel by a compiled program: launches per second of 20,000 on one stream, waited for at the end"


def candidates():
    """Files that may be it: where the caller says, where pip puts them, where the toolkit lies, where the loader looks."""
    if "BENCH_CUDART" in os.environ:
        yield os.environ["BENCH_CUDART"]
        return
    package = importlib.util.find_spec("nvidia")
    folders = [pathlib.Path(path) for path in package.submodule_search_locations] if package else []
    folders.append(pathlib.Path("/usr/local/cuda/lib64"))
    for folder in folders:
        yield from sorted(map(str, folder.glob("**/libcudart.so.*")), key=version_of_name, reverse=True)
    yield from ("libcudart.so.13", "libcudart.so.12")


def version_of_name(path):
    return [int(number) for number in re.findall(r"\d+", path.rpartition(".so.")[2])]


def find():
    """The first that is new enough."""
    for path in candidates():
        try:
            library, version = ctypes.CDLL(path), ctypes.c_int()
        except OSError:
            continue
        if library.cudaRuntimeGetVersion(ctypes.byref(version)) == 0:
            if (version.value // 1000, version.value % 1000 // 10) >= OLDEST:
                return path
    return None


if __name__ == "__main__":
    if "--list" in sys.argv:
        orders.listing([Launch()])
        sys.exit()
    found = find()
    if found is None:
        orders.Channel().say(skip="no libcudart of CUDA 12.8 or newer")
        sys.exit()
    program = os.environ["BENCH_PROGRAM"]
    os.execv(program, [program, "runtime", "--library", found])
