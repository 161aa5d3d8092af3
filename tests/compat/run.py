#!/usr/bin/env python3
"""Runs real CUDA programs natively and through the device, and compares what they say.

Usage: run.py --kit DIR [--guest] [--only NAME,...] [--out DIR] [--timeout SECONDS] [--native-only] [--driver WHICH]

DIR is what `cargo xtask compat` makes: the backend, the guest's libraries, a guest. Without --guest the programs reach
the device through its local socket; with --guest a shorter list of them runs in a guest that sees this machine's files.
Each file in cases/ is one case, in guest/ one for guests: a Python program, or a CUDA program that nvcc compiles. What
a case writes to standard output is compared:

    name value              must be the same
    ~TOLERANCE name value   numbers that may differ by TOLERANCE of the larger one
    # anything              is not compared
    # note anything         is not compared and shown in the table, of both runs

A case that cannot run on this machine even natively is skipped, with its reason. Prints a Markdown table, writes it to
OUT/compatibility.md and everything that the cases said to OUT. Exits with 1 if a row is not equal.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SETTINGS = re.compile(r"^(?:#|//) compat: *(\w+) *= *(.*)$", re.MULTILINE)


class Case:
    """A program, and how it is started."""

    def __init__(self, path):
        self.path = path
        self.name = path.stem
        self.settings = dict(SETTINGS.findall(path.read_text()))
        self.work = None

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


def natively(case, work, timeout):
    """A run with this machine's own driver."""
    try:
        command = case.command()
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        return {"status": f"not compiled: {error}", "output": "", "seconds": 0}
    status, output, seconds = run(case, command, native_environment(), work / f"{case.name}.native", timeout)
    return {"status": status, "output": output, "seconds": seconds}


def numbers_close(tolerance, left, right):
    """Whether two lists of numbers differ by no more than a part of the larger ones."""
    try:
        left, right = ([float(word) for word in text.replace(",", " ").split()] for text in (left, right))
    except ValueError:
        return False
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
    code = (
        "import ctypes; cuda, name = ctypes.CDLL('libcuda.so.1'), ctypes.create_string_buffer(100); "
        "print('' if cuda.cuInit(0) or cuda.cuDeviceGetName(name, 100, 0) else name.value.decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or "unknown device"


class Backend:
    """The backend, serving its local socket."""

    def __init__(self, kit, work, driver):
        self.socket = work / "compute.sock"
        self.socket.unlink(missing_ok=True)
        self.log = open(work / "backend.log", "w")
        command = [kit / "bin" / "vhost-user-compute", "--local-socket", self.socket, "--driver", driver]
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


def native_environment():
    """Of this machine's own driver."""
    found = dict(os.environ, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="2", PYTHONUNBUFFERED="1")
    found.pop("VCOMPUTE_SOCKET", None)
    return found


def remoted_environment(kit):
    """Of a program whose CUDA library is ours."""
    found = dict(native_environment(), VCOMPUTE_LOG="warn", TRITON_LIBCUDA_PATH=str(kit / "lib"))
    found["LD_LIBRARY_PATH"] = f"{kit / 'lib'}:{found.get('LD_LIBRARY_PATH', '')}"
    return found


def remoted(case, environment, work, timeout, backend):
    """A run through the device: status, output, seconds, and the record of its calls."""
    trace = work / f"{case.name}.counts"
    trace.unlink(missing_ok=True)
    environment = dict(environment, VCOMPUTE_TRACE=f"counts:{trace}")
    if backend:
        environment["VCOMPUTE_SOCKET"] = str(backend.socket)
    status, output, seconds = run(case, case.command(), environment, work / f"{case.name}.remoted", timeout)
    return {"status": status, "output": output, "seconds": seconds, "counts": counts(trace)}


#: What begins the line that tells a guest's result.
MARK = "@compat "


def here(cases, kit, work, timeout):
    """In a guest: runs the cases, and tells each result in a line."""
    for case in cases:
        print(f"# {case.name} …", flush=True)
        try:
            result = remoted(case, remoted_environment(kit), work, timeout, None)
        except FileNotFoundError as error:
            result = {"status": f"not compiled: {error}", "output": "", "seconds": 0, "counts": (0, 0, 0, 0)}
        if result["status"] != 0:
            log = work / f"{case.name}.remoted"
            result["log"] = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
        print(MARK + json.dumps(dict(result, case=case.name)), flush=True)


def in_guest(cases, kit, work, arguments):
    """The results of cases in a guest, by name; what the guest says goes to a log."""
    inside = [sys.executable, kit / "compat" / "run.py", "--kit", kit, "--out", work, "--here"]
    inside += ["--timeout", arguments.timeout, "--only", ",".join(case.name for case in cases)]
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": "/tmp", "TMPDIR": "/tmp"}
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    variables = [f"{name}={value}" for name, value in {**kept, **quiet}.items()]
    command = ["exec", "env", *variables, *inside]
    guest = [kit / "bin" / "xtask", "compat-guest", "--kit", kit, "--logs", work / "guest", "--driver", arguments.driver]
    guest += ["--memory", arguments.memory, shlex.join(map(str, command))]
    results = {}
    with open(work / "guest.log", "w") as log:
        process = subprocess.Popen([str(word) for word in guest], stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.startswith(MARK):
                result = json.loads(line[len(MARK) :])
                results[result["case"]] = result
            elif line.startswith("# "):
                print("  in the guest:", line[2:].strip(), file=sys.stderr, flush=True)
        if process.wait() != 0:
            print(f"the guest ended with {process.returncode}: see {work / 'guest.log'}", file=sys.stderr)
    return results


def gather(only, short):
    """The cases, of all or of those that guests run, that are asked for."""
    paths = sorted((HERE / "cases").iterdir())
    if short:
        paths = sorted((HERE / "guest").iterdir()) + paths
    wanted = [name for name in only.split(",") if name]
    for path in paths:
        if path.suffix not in (".py", ".cu") or (wanted and path.stem not in wanted):
            continue
        case = Case(path)
        if not short or path.parent.name == "guest" or case.settings.get("guest") == "yes":
            yield case


def arguments_given():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kit", type=pathlib.Path, required=True, help="what `cargo xtask compat` made")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("compat-results"))
    parser.add_argument("--only", default="", help="names of cases, with commas")
    parser.add_argument("--timeout", type=float, help="seconds for one case (120; in a guest 600)")
    parser.add_argument("--native-only", action="store_true")
    parser.add_argument("--driver", default="auto", help="the backend's: auto, soft or a path")
    parser.add_argument("--guest", action="store_true", help="in a guest instead of through the local socket")
    parser.add_argument("--memory", type=int, default=12 << 10, help="the guest's, in MiB")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    found = parser.parse_args()
    found.timeout = found.timeout or (600 if found.guest or found.here else 120)
    return found


def row(case, native, other):
    """A row of the table, and whether the case passed (None: skipped)."""
    seconds, record, passed = "", ("", "", "", ""), None
    if native["status"] != 0:
        result = f"skipped: natively {native['status']}"
    elif other is None:
        result = "native only"
    else:
        found = differences(native["output"], other["output"])
        if other["status"] != 0:
            found.insert(0, f"exit status {other['status']}")
        passed, seconds, record = not found, f"{other['seconds']:.1f}", other["counts"]
        result = "equal" if passed else "**differs**: " + "; ".join(found[:3])
        result += notes(native["output"], other["output"])
    calls, requests, private, crossed = record
    text = f"| {case.name} | {case.about} | {result} | {native['seconds']:.1f} | {seconds} | {calls} | {requests} "
    return text + f"| {private} ({crossed}) |", passed


def main():
    arguments = arguments_given()
    kit, work = arguments.kit.resolve(), arguments.out.resolve()
    work.mkdir(parents=True, exist_ok=True)
    cases = list(gather(arguments.only, arguments.guest or arguments.here))
    for case in cases:
        case.work = work
    if arguments.here:
        return here(cases, kit, work, arguments.timeout)

    rows = ["| case | what | result | native s | remoted s | driver calls | requests | private calls (crossed) |"]
    rows.append("|---" * 8 + "|")
    backend = None
    if not (arguments.native_only or arguments.guest):
        backend = Backend(kit, work, arguments.driver)
    native, others = {}, {}
    if arguments.guest:
        # All of them first: what runs in the guest is compiled here.
        native = {case.name: natively(case, work, arguments.timeout) for case in cases}
        runnable = [case for case in cases if native[case.name]["status"] == 0]
        if runnable:
            others = in_guest(runnable, kit, work, arguments)
    print("\n".join(rows), flush=True)
    passed = failed = skipped = 0
    for case in cases:
        first = native.get(case.name) or natively(case, work, arguments.timeout)
        other = None
        if first["status"] == 0 and arguments.guest:
            lost = {"status": "no result", "output": "", "seconds": 0, "counts": ("", "", "", "")}
            other = others.get(case.name, lost)
        elif first["status"] == 0 and backend:
            other = remoted(case, remoted_environment(kit), work, arguments.timeout, backend)
        text, well = row(case, first, other)
        passed, failed, skipped = passed + (well is True), failed + (well is False), skipped + (well is None)
        rows.append(text)
        print(text, flush=True)
    if backend:
        backend.stop()
    about = f"{datetime.date.today()}, {device()}, {versions()}"
    (work / "compatibility.md").write_text(about + "\n\n" + "\n".join(rows) + "\n")
    print(f"# {about}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
