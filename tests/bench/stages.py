#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Says in which stage of a call's path how many instructions are: stages.py FILE

FILE is what `cuda-bench path --addresses FILE` wrote. The libraries have to be there with their symbols, and `nm` and
`readelf` (binutils). `cargo xtask bench stages` does all of it.
"""

import bisect
import collections
import subprocess
import sys

#: A stage, and parts of the names of functions that belong to it; the first that fits counts. A libc without symbols has only
#: those of its interface: what is not one of them has the name of the one before.
STAGES = [
    ("lane: ring and order", ["worker::lanes", "vhost_user_compute::spin"]),
    ("lane: call and handles", ["worker::calls"]),
    ("the caller", ["cuda_bench", "cuda-bench"]),
    ("copies by libc", ["nss_database_lookup", "memcpy", "memmove", "memset"]),
    ("memory of requests", ["malloc", "calloc", "free@", "morecore", "RawVec", "realloc"]),
    ("hashing of handles", ["hash", "Hasher"]),
    ("publication", ["lane::Traffic::send", "Session::lane", "Queue::push", "Queue::room", "Request::post", "kick"]),
    ("answer", ["take_back", "receive", "Traffic::wait", "Traffic::sleep", "Session::wait", "exchange", "[vdso]"]),
    ("checks", ["context", "handles", "function::find", "with_parameters", "memory::find", "BTreeMap", "reach"]),
    ("packing", ["calls::", "launch::", "copy::", "wire::", "code::", "memory::insert", "memory::remove"]),
    ("after the call", ["output::deliver", "note_work"]),
    ("entry", ["cu", "entry::", "exports::", "tls_get_addr", "session::get", "process::", "trace::"]),
]


class Symbols:
    """The functions of a file."""

    def __init__(self, path):
        names = set()
        for flags in ("-C", "-CD"):
            listed = subprocess.run(["nm", flags, "--defined-only", path], capture_output=True, text=True).stdout
            for line in listed.splitlines():
                address, kind, name = line.split(maxsplit=2)
                if kind in "tTwWiI":
                    names.add((int(address, 16), name))
        self.names = sorted(names)
        headers = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True).stdout
        parts = [line.split() for line in headers.splitlines() if line.split()[:1] == ["LOAD"]]
        self.segments = [(int(part[1], 16), int(part[2], 16), int(part[4], 16)) for part in parts]

    def at(self, offset):
        """The function at an offset in the file."""
        for start, address, length in self.segments:
            if start <= offset < start + length:
                offset += address - start
                break
        index = bisect.bisect_right(self.names, offset, key=lambda symbol: symbol[0]) - 1
        return self.names[index][1] if index >= 0 else "unknown"


def stage(function):
    """The one that a function belongs to."""
    return next((name for name, parts in STAGES if any(part in function for part in parts)), "other")


def main():
    symbols, paths = {}, collections.defaultdict(collections.Counter)
    with open(sys.argv[1]) as lines:
        for line in lines:
            path, file, offset, times = line.rstrip("\n").split("\t")
            function = file.rpartition("/")[2]
            if file.startswith("/"):
                if file not in symbols:
                    symbols[file] = Symbols(file)
                function += " " + symbols[file].at(int(offset, 16))
            paths[path][function] += float(times)
    for path, functions in paths.items():
        print(f"\n{path}: {sum(functions.values()):.0f} instructions")
        stages = collections.Counter()
        for function, times in functions.items():
            stages[stage(function)] += times
        for name, times in stages.most_common():
            most = [f"{each} {times:.0f}" for each, times in functions.most_common() if stage(each) == name][:4]
            print(f"  {times:6.0f}  {name:20} {', '.join(most)[:150]}")


main()
