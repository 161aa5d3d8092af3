#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""When calls begin and end, in the program and in the driver: what is the driver's time, and what the way's.

    timeline.py --library LIBRARY --backend BACKEND [--driver DRIVER] [--quick] CASE…     cases of `cuda-bench`
    timeline.py … --program 'python3 script.py'                                           any program

Both run twice: natively with the driver, and through the device, with stamps.c between the program and its library and between
the worker and the driver. It needs a C compiler, and tells for each side what the driver's calls took (of the later half: the
first has what is done once), and for both together a few calls as they followed each other, and where the parts of
`cuLaunchKernel` followed by `cuStreamSynchronize` lie. A stamp costs some 40 ns.
"""

import argparse
import collections
import os
import pathlib
import re
import shlex
import statistics
import struct
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent / "stamps.c"
HEADER, STAMP, ROOM = struct.Struct("<5Q"), struct.Struct("<QQIIQ"), 1 << 21
#: Lines of a table; what took longest comes first.
LINES = 16


class Stamps:
    """What one process left."""

    def __init__(self, path):
        with open(path, "rb") as file:
            first, last, begin, end, count = HEADER.unpack(file.read(HEADER.size))
            data = file.read(STAMP.size * min(count, ROOM))
        #: Ticks of the counter in a nanosecond.
        self.rate = (last - first) / (end - begin) if last else 1.0
        self.stamps = sorted(stamp for stamp in STAMP.iter_unpack(data) if stamp[0])

    def table(self, names):
        kinds = collections.defaultdict(list)
        for begin, end, call, _, value in self.stamps:
            size = value if names[call].startswith("cuMemcpy") else ""
            kinds[names[call], size].append((end - begin) / self.rate)
        print(f"  {'call':28} {'bytes':>10} {'calls':>8} {'together':>11}    10 %, 50 %, 90 % of the later half")
        for (call, size), times in sorted(kinds.items(), key=lambda kind: -sum(kind[1]))[:LINES]:
            later = sorted(times[len(times) // 2:])
            tenths = " ".join(f"{later[len(later) * tenth // 10]:9.0f}" for tenth in (1, 5, 9))
            print(f"  {call:28} {size:>10} {len(times):8} {sum(times) / 1e6:8.2f} ms {tenths} ns")

    def between(self, call):
        """Nanoseconds from the end of a call to the beginning of the same, where nothing else came between."""
        pairs = zip(self.stamps, self.stamps[1:])
        return [(second[0] - first[1]) / self.rate for first, second in pairs if first[2] == second[2] == call]


def names():
    """The calls' names, by the numbers that stamps.c gives them."""
    return ["cuLaunchKernel", *re.findall(r"each\((cu\w+)\)", SOURCE.read_text())]


def gaps(who, stamps, names):
    times = sorted(stamps.between(names.index("cuLaunchKernel")))
    if len(times) > 1000:
        print(f"\n{who}: {statistics.median(times):.0f} ns between two launches that follow each other (median of {len(times)})")


def excerpt(program, worker, names, part):
    """A few calls as they followed each other, after this part of all."""
    shown = program.stamps[int(len(program.stamps) * part):][:8]
    begin, end = shown[0][0], shown[-1][1]
    sides = [("program", shown), ("  worker", [stamp for stamp in worker.stamps if begin <= stamp[0] <= end])]
    rows = [(moment, who, names[call], what)
            for who, stamps in sides for first, last, call, _, _ in stamps
            for moment, what in ((first, "begins"), (last, "ends"))]
    print()
    for moment, who, call, what in sorted(rows):
        print(f"  {(moment - begin) / program.rate:8.0f} ns  {who:8} {call} {what}")


def launch_and_wait(program, worker, names):
    """Where the parts of each launch and wait lie: medians of the later half, from the launch's beginning."""
    wanted = (names.index("cuLaunchKernel"), names.index("cuStreamSynchronize"))

    def pairs(stamps):
        for first, second in zip(stamps, stamps[1:]):
            if (first[2], second[2]) == wanted:
                yield first[0], first[1], second[0], second[1]

    theirs, rows, place = list(pairs(worker.stamps)), [], 0
    for mine in pairs(program.stamps):
        while place < len(theirs) and theirs[place][0] < mine[0]:
            place += 1
        if place < len(theirs) and theirs[place][3] < mine[3]:
            rows.append([moment - mine[0] for moment in (*mine, *theirs[place])])
    rows = rows[len(rows) // 2:]
    if len(rows) < 10:
        return 0
    labels = ["program: launch begins", "program: launch ends", "program: wait begins", "program: wait ends",
              "worker:  driver's launch begins", "worker:  driver's launch ends", "worker:  driver's wait begins",
              "worker:  driver's wait ends"]
    print(f"\nlaunch and wait, medians of {len(rows)} (and tenths)")
    for label, times in sorted(zip(labels, zip(*rows)), key=lambda row: statistics.median(row[1])):
        low, middle, high = (statistics.quantiles(times, n=10)[tenth] / program.rate for tenth in (0, 4, 8))
        print(f"  {middle:8.0f} ns  {label:32} ({low:.0f} to {high:.0f})")
    return len(rows)


class Stamped:
    """Libraries that write stamps, in a folder of their own."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def build(self, name, real):
        """One for the library `real`, by the name that everybody looks for."""
        place = self.folder / name
        place.mkdir()
        # The other one needs another name: both are libcuda.so.1 to the dynamic linker.
        other = place / "libcuda_real.so.1"
        compile = ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda_real.so.1", "-x", "c", os.devnull, "-o", other]
        subprocess.run(compile, check=True)
        compile = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", f'-DREAL="{real}"',
                   f'-DSTAMPS="{self.folder / name}.stamps"', SOURCE, "-o", place / "libcuda.so.1",
                   "-Wl,--no-as-needed", f"-L{place}", "-l:libcuda_real.so.1", f"-Wl,-rpath,{place}"]
        subprocess.run(compile, check=True)
        other.unlink()
        other.symlink_to(real)
        return place / "libcuda.so.1"

    def largest(self, name):
        """The stamps of the process that made the most calls."""
        files = sorted(self.folder.glob(f"{name}.stamps.*"), key=lambda path: struct.unpack_from("<Q", path.open("rb").read(40), 32))
        if not files:
            sys.exit(f"no process has used {name}")
        return Stamps(files[-1])


def host_driver():
    """The driver that programs find."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libcuda\.so\.1 .*=> (\S+)", listed)
    return found and os.path.realpath(found.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="cuda-bench", help="the program whose cases are run")
    parser.add_argument("--library", required=True, help="the guest's libcuda.so.1")
    parser.add_argument("--backend", required=True, help="vhost-user-compute")
    parser.add_argument("--driver", default=host_driver(), help="the driver's library (this host's otherwise)")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--program", help="a command to run instead of cases")
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    if not arguments.driver:
        sys.exit("there is no driver here: --driver")
    if not arguments.cases and not arguments.program:
        parser.error("a case of cuda-bench, or --program")
    paths = [os.path.realpath(path) for path in (arguments.library, arguments.backend, arguments.driver)]
    with tempfile.TemporaryDirectory() as folder:
        show(arguments, *paths, Stamped(folder))


def show(arguments, library, backend, driver, stamped):
    socket = stamped.folder / "socket"
    sides = {"native": stamped.build("native", driver), "program": stamped.build("program", library)}
    backend = subprocess.Popen([backend, "--local-socket", socket, "--driver", stamped.build("worker", driver)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not socket.exists():
            if backend.poll() is not None:
                sys.exit("the backend has ended")
            time.sleep(0.05)
        for side, stand_in in sides.items():
            places = f"{stand_in.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"
            environment = dict(os.environ, VCOMPUTE_SOCKET=str(socket), LD_LIBRARY_PATH=places)
            command = shlex.split(arguments.program) if arguments.program else [
                arguments.bench, "measure", "--library", stand_in, *(["--quick"] if arguments.quick else []),
                *(part for case in arguments.cases for part in ("--case", case))]
            # What it prints has the stamps' time in it.
            output = None if arguments.program else subprocess.DEVNULL
            subprocess.run(command, check=True, env=environment, stdout=output)
    finally:
        backend.terminate()
        backend.wait()
    known = names()
    native, program, worker = (stamped.largest(name) for name in ("native", "program", "worker"))
    for title, stamps in (("natively", native), ("through the device, the program", program), ("its worker", worker)):
        print(f"\n{title}")
        stamps.table(known)
    gaps("natively", native, known)
    gaps("its worker", worker, known)
    for part in (0.4, 0.75):
        excerpt(program, worker, known, part)
    matched = launch_and_wait(program, worker, known)
    if not matched and any("launch/synchronized".startswith(case) for case in arguments.cases):
        sys.exit("no launch of the program was found in the worker")


if __name__ == "__main__":
    main()
