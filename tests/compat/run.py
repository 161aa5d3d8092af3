#!/usr/bin/env python3
"""Runs real CUDA programs natively and through the device's local socket, and compares what they say.

Usage: run.py --bin DIR [--out DIR] [--only NAME,...] [--timeout SECONDS] [--native-only] [--driver WHICH]

DIR has vhost-user-compute and the guest's libraries, as `cargo xtask compat` puts them side by side. Each file in cases/
is one case: a Python program, or a CUDA program that nvcc compiles. What a case writes to standard output is compared:

    name value              must be the same
    ~TOLERANCE name value   numbers that may differ by TOLERANCE of the larger one
    # anything              is not compared
    # note anything         is not compared and shown in the table, of both runs

A case that cannot run on this machine even natively is skipped, with its reason. Prints a Markdown table, writes it to
OUT/compatibility.md and everything that the cases said to OUT. Exits with 1 if a row is not equal.
"""

import argparse
import datetime
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SETTINGS = re.compile(r"^(?:#|//) compat: *(\w+) *= *(.*)$", re.MULTILINE)


class Case:
    """A program, and how it is started."""

    def __init__(self, path, work):
        self.path = path
        self.name = path.stem
        self.settings = dict(SETTINGS.findall(path.read_text()))
        self.work = work

    @property
    def about(self):
        """What the case is, in a few words."""
        return self.settings.get("about", self.name)

    def command(self):
        """The command line; compiles what has to be compiled."""
        if self.path.suffix == ".py":
            return [sys.executable, str(self.path)]
        program = self.work / self.name
        if not program.exists():
            flags = self.settings.get("flags", "").split()
            subprocess.run(["nvcc", "-arch=native", "-std=c++17", "-o", program, self.path, *flags], check=True)
        return [str(program)]


def run(case, command, environment, log, timeout):
    """Returns (exit status, standard output, seconds)."""
    start = time.monotonic()
    with open(log, "w") as errors:
        try:
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=timeout)
            status, output = done.returncode, done.stdout
        except subprocess.TimeoutExpired as expired:
            status, output = "timeout", (expired.stdout or b"").decode()
    seconds = time.monotonic() - start
    pathlib.Path(f"{log}.out").write_text(output)
    return status, output, seconds


def numbers_close(tolerance, left, right):
    """Whether two lists of numbers differ by no more than a part of the larger ones."""
    left, right = ([float(word) for word in text.replace(",", " ").split()] for text in (left, right))
    return len(left) == len(right) and all(
        a == b or abs(a - b) <= tolerance * max(abs(a), abs(b)) for a, b in zip(left, right)
    )


def differences(native, remoted):
    """The lines that are not as they should be."""
    lines = [[line for line in text.splitlines() if line and not line.startswith("#")] for text in (native, remoted)]
    found = []
    for index in range(max(map(len, lines))):
        left, right = (side[index] if index < len(side) else "(nothing)" for side in lines)
        if left == right:
            continue
        if left.startswith("~"):
            tolerance, name, value = left[1:].split(maxsplit=2)
            start = f"~{tolerance} {name} "
            if right.startswith(start) and numbers_close(float(tolerance), value, right[len(start) :]):
                continue
        found.append(f"`{left[:60]}` / `{right[:60]}`")
    return found


def notes(*outputs):
    """What the runs want to have shown, side by side."""
    found = [" ".join(re.findall(r"^# note (.*)$", text, re.MULTILINE)) for text in outputs]
    return f" ({' / '.join(found)})" if any(found) else ""


def counts(path):
    """Calls, requests and private calls that a program's processes made."""
    calls = requests = private = crossed = 0
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("#"):
                continue
            name, made, sent, _ = line.split("\t")
            calls += int(made)
            requests += int(sent)
            if "[" in name:
                private += int(made)
                crossed += int(sent)
    return calls, requests, private, crossed


def versions():
    """What the results depend on."""
    found = []
    for name, code in [
        ("driver", "import pynvml as n; n.nvmlInit(); print(n.nvmlSystemGetDriverVersion())"),
        ("Python", "import platform; print(platform.python_version())"),
        ("torch", "import torch; print(torch.__version__)"),
        ("CuPy", "import cupy; print(cupy.__version__)"),
        ("JAX", "import jax; print(jax.__version__)"),
        ("numba", "import numba; print(numba.__version__)"),
        ("Triton", "import triton; print(triton.__version__)"),
        ("transformers", "import transformers; print(transformers.__version__)"),
        ("onnxruntime", "import onnxruntime; print(onnxruntime.__version__)"),
    ]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if done.returncode == 0:
            found.append(f"{name} {done.stdout.split()[-1]}")
    return ", ".join(found)


def device():
    """The name of the device that natively is there."""
    code = "import torch; print(torch.cuda.get_device_name())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or "unknown device"


class Backend:
    """The backend, serving its local socket."""

    def __init__(self, programs, work, driver):
        self.socket = work / "compute.sock"
        self.log = open(work / "backend.log", "w")
        command = [programs / "vhost-user-compute", "--local-socket", self.socket, "--driver", driver]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the backend does not start: see {work / 'backend.log'}")
            time.sleep(0.05)

    def stop(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait(10)


def environments(programs, work, socket):
    """The environment of a native run and of a remoted one."""
    native = dict(os.environ, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="2")
    native.pop("VCOMPUTE_SOCKET", None)
    remoted = dict(native, VCOMPUTE_SOCKET=str(socket), VCOMPUTE_LOG="warn")
    remoted["LD_LIBRARY_PATH"] = f"{programs}:{native.get('LD_LIBRARY_PATH', '')}"
    remoted["TRITON_LIBCUDA_PATH"] = str(programs)
    return native, remoted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("compat"))
    parser.add_argument("--only", default="")
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--native-only", action="store_true")
    parser.add_argument("--driver", default="auto", help="the backend's: auto, soft or a path")
    arguments = parser.parse_args()
    programs, work = arguments.bin.resolve(), arguments.out.resolve()
    work.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in arguments.only.split(",") if name]
    cases = [Case(path, work) for path in sorted((HERE / "cases").iterdir()) if path.suffix in (".py", ".cu")]
    cases = [case for case in cases if not wanted or case.name in wanted]

    head = "| case | what | result | native s | remoted s | driver calls | requests | private calls (crossed) |"
    rows = [head, "|---" * 8 + "|"]
    print("\n".join(rows), flush=True)
    backend = None if arguments.native_only else Backend(programs, work, arguments.driver)
    native, remoted = environments(programs, work, backend.socket if backend else "")
    passed = failed = skipped = 0
    for case in cases:
        try:
            command = case.command()
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            status, first, native_seconds = f"not compiled: {error}", "", 0
        else:
            status, first, native_seconds = run(case, command, native, work / f"{case.name}.native", arguments.timeout)
        seconds, calls, requests, private, crossed = 0, "", "", "", ""
        if status != 0:
            result = f"skipped: natively {status}"
            skipped += 1
        elif arguments.native_only:
            result = "native only"
            skipped += 1
        else:
            trace = work / f"{case.name}.counts"
            trace.unlink(missing_ok=True)
            environment = dict(remoted, VCOMPUTE_TRACE=f"counts:{trace}")
            status, second, seconds = run(case, command, environment, work / f"{case.name}.remoted", arguments.timeout)
            calls, requests, private, crossed = counts(trace)
            found = differences(first, second)
            if status != 0:
                found.insert(0, f"exit status {status}")
            result = "equal" if not found else "**differs**: " + "; ".join(found[:3])
            result += notes(first, second)
            passed += not found
            failed += bool(found)
        rows.append(
            f"| {case.name} | {case.about} | {result} | {native_seconds:.1f} | {seconds:.1f} | {calls} | {requests} "
            f"| {private} ({crossed}) |"
        )
        print(rows[-1], flush=True)
    if backend:
        backend.stop()
    about = f"{datetime.date.today()}, {device()}, {versions()}"
    (work / "compatibility.md").write_text(about + "\n\n" + "\n".join(rows) + "\n")
    print(f"# {about}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
