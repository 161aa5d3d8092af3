# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How a program of the benchmark and `cuda-bench` talk: a line of JSON for each order, and one for each answer.

A program calls `serve` with its parts. With --list it says what they are and leaves, without importing anything large.
Otherwise it says {"ready": what it is built on}, or {"skip": why it cannot run here}, and then answers each order
{"part": name, "repetitions": n} with {"done": samples and what has to be the same on both sides}, or {"failure": what}.
"""

import json
import math
import os
import resource
import sys
import time
import traceback


class Part:
    """Something that is measured. A program's own parts say how.

    `prepare` runs once, before the first order; `begin` before each order; `before` before each repetition. None of them is
    timed. `run` is, and returns when all that it started is done. `check` turns what it returned into numbers.
    """

    #: What the name of its series begins with, and what it is, in the manner of the report.
    name = what = ""
    #: How many of what is counted (tokens, steps, launches) one repetition is.
    amount = 1
    #: By which part of the larger one a number may differ between the two sides; 0: not at all.
    tolerance = 0.0

    def prepare(self):
        """Makes what every repetition uses, and calls all of it once: first calls are not samples."""

    def begin(self):
        """Puts everything back to where each order starts from."""

    def before(self):
        """Puts back what each repetition starts from."""

    def run(self):
        raise NotImplementedError

    def check(self, result):
        """Of a repetition's result, the numbers that must be the same on both sides."""
        raise NotImplementedError


def processor_seconds():
    """Of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def carry_out(part, repetitions):
    """One repetition that warms up, and those that are timed; all are checked."""
    samples, values = [], []
    part.begin()
    busy = processor_seconds()
    for index in range(repetitions + 1):
        part.before()
        begin = time.perf_counter()
        result = part.run()
        took = time.perf_counter() - begin
        numbers = [float(number) for number in part.check(result)]
        if not numbers or not all(map(math.isfinite, numbers)):
            raise ValueError(f"a result is not a list of numbers: {numbers[:10]}")
        values += numbers
        if index:
            samples.append(part.amount / took)
    return {
        "series": {"name": part.name, "unit": "1/s", "samples": samples},
        "values": values,
        "tolerance": part.tolerance,
        "amount": part.amount * (repetitions + 1),
        "processor": processor_seconds() - busy,
    }


def listing(parts, start=False):
    """Says what the parts are."""
    for part in parts:
        print(json.dumps({"name": part.name, "what": part.what, "start": start}))


class Channel:
    """Where answers go. What libraries print goes to standard error from here on."""

    def __init__(self):
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **message):
        self.out.write(json.dumps(message) + "\n")
        self.out.flush()


def serve(parts, load):
    """Answers orders until there are no more. `load` imports what is large and returns what it is, in words."""
    if "--list" in sys.argv:
        return listing(parts)
    channel = Channel()
    try:
        about = load()
    except (ImportError, FileNotFoundError) as error:
        return channel.say(skip=f"{type(error).__name__}: {error}")
    channel.say(ready=about)
    parts, prepared = {part.name: part for part in parts}, set()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            part = parts[order["part"]]
            if part.name not in prepared:
                part.prepare()
                prepared.add(part.name)
            channel.say(done=carry_out(part, order["repetitions"]))
        except Exception as error:
            traceback.print_exc()
            channel.say(failure=f"{type(error).__name__}: {error}")
