#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What calls took, by the stamps that stamps.c left: report.py FILE…

For each file and call: how many there were, and how long they took in the library, of the second half (the first has
what is done once). Two files, a client's and its worker's, give a timeline: where the parts of `cuLaunchKernel` followed by
`cuStreamSynchronize` lie, beginning with the program's call.
"""

import collections
import os
import re
import statistics
import struct
import sys

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stamps.c")
HEADER, STAMP, ROOM = struct.Struct("<5Q"), struct.Struct("<QQIIQ"), 1 << 21


def names():
    with open(SOURCE) as source:
        return ["cuLaunchKernel", *re.findall(r"each\((cu\w+)\)", source.read())]


class Stamps:
    def __init__(self, path):
        with open(path, "rb") as file:
            first, last, begin, end, count = HEADER.unpack(file.read(HEADER.size))
            self.rate = (last - first) / (end - begin) if last else None
            data = file.read(STAMP.size * min(count, ROOM))
        self.stamps = sorted(stamp for stamp in STAMP.iter_unpack(data) if stamp[0])

    def table(self, calls):
        kinds = collections.defaultdict(list)
        for begin, end, call, _, value in self.stamps:
            size = value if calls[call].startswith("cuMemcpy") else ""
            kinds[calls[call], size].append((end - begin) / self.rate)
        for (call, size), times in sorted(kinds.items(), key=lambda kind: -sum(kind[1])):
            later = sorted(times[len(times) // 2:])
            tenths = [later[len(later) * tenth // 10] for tenth in (1, 5, 9)]
            print(f"  {call:28} {size:>12} {len(times):8} calls  {sum(times) / 1e6:10.2f} ms  10/50/90 %: "
                  + " ".join(f"{time:9.0f}" for time in tenths) + " ns")


def excerpt(client, worker, calls, eighth):
    """A few calls as they followed each other, after so many eighths of all."""
    place = len(client.stamps) * eighth // 8
    shown = client.stamps[place:place + 8]
    begin, end = shown[0][0], shown[-1][1]
    rows = [(time, who, calls[call], what)
            for who, stamps in (("program", shown), ("  worker", [stamp for stamp in worker.stamps if begin <= stamp[0] <= end]))
            for first, last, call, _, _ in stamps for time, what in ((first, "begins"), (last, "ends"))]
    print()
    for time, who, call, what in sorted(rows):
        print(f"  {(time - begin) / client.rate:8.0f}  {who:8} {call} {what}")


def timeline(client, worker, calls):
    """Medians of the places of each launch and synchronisation, from the launch's beginning."""
    launch, wait = calls.index("cuLaunchKernel"), calls.index("cuStreamSynchronize")

    def pairs(stamps):
        for first, second in zip(stamps.stamps, stamps.stamps[1:]):
            if (first[2], second[2]) == (launch, wait):
                yield first[0], first[1], second[0], second[1]

    theirs, rows = list(pairs(worker)), []
    place = 0
    for mine in pairs(client):
        while place < len(theirs) and theirs[place][0] < mine[0]:
            place += 1
        if place < len(theirs) and theirs[place][3] < mine[3]:
            rows.append([time - mine[0] for time in (*mine, *theirs[place])])
    rows = rows[len(rows) // 2:]
    if len(rows) < 2:
        return
    labels = ["program: launch begins", "program: launch ends", "program: wait begins", "program: wait ends",
              "worker: driver's launch begins", "worker: driver's launch ends", "worker: driver's wait begins",
              "worker: driver's wait ends"]
    print(f"\nlaunch and wait, {len(rows)} times, ns from the beginning (medians; tenths)")
    for label, times in sorted(zip(labels, zip(*rows)), key=lambda row: statistics.median(row[1])):
        tenths = statistics.quantiles(times, n=10)
        print(f"  {statistics.median(times) / client.rate:8.0f}  {label:32} {tenths[0] / client.rate:.0f} to {tenths[-1] / client.rate:.0f}")
    durations = [statistics.median(row[b] - row[a] for row in rows) / client.rate for a, b in ((4, 5), (5, 6), (6, 7))]
    print("  driver's launch {:.0f}, between {:.0f}, driver's wait {:.0f}".format(*durations))


def main():
    calls = names()
    files = [Stamps(path) for path in sys.argv[1:]]
    for path, stamps in zip(sys.argv[1:], files):
        if not stamps.rate:
            print(f"{path}: too few calls")
            continue
        print(f"{path}: {len(stamps.stamps)} calls")
        stamps.table(calls)
    if len(files) == 2 and all(stamps.rate for stamps in files):
        for eighth in (3, 6):
            excerpt(*files, calls, eighth)
        timeline(*files, calls)


main()
