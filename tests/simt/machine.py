"""Builds a kernel's own source with g++ and runs it on fibers; arrays lie before pages that nobody may touch."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from simt.mutants import Mutant, plant
from torch import Tensor

from metaniche.ops.cuda import compile
from metaniche.ops.cuda.specs import SCALARS, Argument, Array, Defines, Kernel

HERE = Path(__file__).parent
PAGE = mmap.PAGESIZE
CLOSED = 64 * PAGE
BASE = "-std=c++20 -O1 -fPIC -shared -ffp-contract=off -fno-strict-aliasing -w"
# Undefined behaviour ends the kernel with a signal, in the process of the tests.
FLAGS = f"{BASE} -fsanitize=undefined,bounds-strict -fno-sanitize=vptr -fsanitize-undefined-trap-on-error".split()
ADDRESS_FLAGS = f"{BASE} -g -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all".split()


class SimtError(AssertionError):
    """A kernel broke a rule of the machine."""


@dataclass
class Machine:
    """Runs launches on fibers, in the order that `seed` draws (0: last come, first served)."""

    folder: Path
    seed: int = 0
    mutant: Mutant | None = None
    seconds: float = 60.0
    most_switches: int = 50_000_000
    sanitize: bool = False
    launched: set[str] = field(default_factory=set)

    def run(self, kernel: Kernel, defines: Defines, blocks: tuple[int, int], arguments: Sequence[Argument]) -> None:
        self.launched.add(kernel.name)
        library, mutants = build(kernel.source, tuple(sorted(defines.items())), self.folder, self.sanitize)
        mutant = self.mutant if self.mutant in mutants else None
        library.simt_configure(
            *((mutant.number, mutant.shift) if mutant else (-1, 0)), ctypes.c_int64(self.most_switches)
        )
        held = [
            Guarded(spec, getattr(x, "here", x), self.seed % 2 == 1) if isinstance(spec, Array) else None
            for spec, x in zip(kernel.arguments, arguments)
        ]
        values = [
            ctypes.c_void_p(guard.address) if guard else SCALARS[spec.ctype](x)
            for guard, spec, x in zip(held, kernel.arguments, arguments)
        ]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        guards = [guard for guard in held if guard]
        ranges = (Range * len(guards))(*(guard.range for guard in guards))
        run = getattr(library, f"simt_{kernel.name}")
        run.restype = ctypes.c_char_p
        said = run(
            pointers, *blocks, kernel.threads, self.seed, ctypes.c_double(self.seconds), ranges, len(guards)
        ).decode()
        if said:
            raise SimtError(f"{kernel.name}: {said}")
        for guard in guards:
            guard.take_back(kernel.name)


class Range(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("first", ctypes.c_void_p),
        ("last", ctypes.c_void_p),
        ("item", ctypes.c_int64),
    ]


class Guarded:
    """A tensor's values between closed pages: these begin right behind the last element or, `front`, end right before the
    first; on the other side stands a canary.
    """

    CANARY = 0xA5

    def __init__(self, spec: Array, tensor: Tensor, front: bool = False) -> None:
        self.spec, self.tensor = spec, tensor
        self.size = size = tensor.numel() * tensor.element_size()
        pages = -(-(size + 64) // PAGE)
        self.memory = mmap.mmap(-1, pages * PAGE + 2 * CLOSED)
        base = np.frombuffer(self.memory, np.uint8).ctypes.data
        self.bytes = np.frombuffer(self.memory, np.uint8)[CLOSED : CLOSED + pages * PAGE]
        self.bytes[:] = self.CANARY
        self.start = 0 if front else pages * PAGE - size - (-size % 16 if spec.vector else 0)
        self.address = base + CLOSED + self.start
        self.bytes[self.start : self.start + size] = _bytes(tensor)
        for closed in (base, base + CLOSED + pages * PAGE):
            _protect(closed, CLOSED)
        self.range = Range(spec.name.encode(), self.address, self.address + size, tensor.element_size())

    def take_back(self, kernel: str) -> None:
        """Copy the results to the tensor."""
        around = np.concatenate((self.bytes[: self.start], self.bytes[self.start + self.size :]))
        if (around != self.CANARY).any():
            raise SimtError(f"{kernel}: a write beside `{self.spec.name}`")
        if self.size:
            _bytes(self.tensor)[:] = self.bytes[self.start : self.start + self.size]


def build(source: str, defines: tuple, folder: Path, sanitize: bool) -> tuple[ctypes.CDLL, frozenset[Mutant]]:
    """The kernels of one source as a shared library, built once a session, and the mutants it can turn into."""
    path, mutants = _build(source, defines, folder, sanitize)
    return _open(path), mutants


@cache
def _build(source: str, defines: tuple, folder: Path, sanitize: bool) -> tuple[Path, frozenset[Mutant]]:
    texts, mutants = plant(compile.texts(source))
    main = texts.pop(f"cuda/{source}.cu")
    kernels = re.findall(r"__launch_bounds__\([^)]*\)\s*(\w+)\(", main)
    text = "\n".join(
        (
            '#include "simt.h"',
            *(f"#define {key} {value}" for key, value in defines),
            _shared(main),
            *(f"SIMT_ENTRY({name})" for name in kernels),
        )
    )
    flags = ADDRESS_FLAGS if sanitize else FLAGS
    shim = "".join((HERE / name).read_text() for name in ("simt.h", "builtins.h"))
    key = hashlib.sha256("\0".join((text, *flags, shim, *texts.values())).encode()).hexdigest()[:16]
    built = folder / f"{source}-{key}.so"
    if not built.exists():
        work = folder / f"{source}-{key}-{os.getpid()}"
        for path, header in texts.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(header)
        work.mkdir(parents=True, exist_ok=True)
        (work / "kernel.cpp").write_text(text)
        command = [compiler(), *flags, "-I", work, "-I", HERE, work / "kernel.cpp", "-o", work / "kernel.so"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SimtError(f"g++ cannot build {source}:\n{done.stderr[:4000]}")
        os.replace(work / "kernel.so", built)
        shutil.rmtree(work)
    return built, frozenset(mutants)


def mutants_of(source: str) -> list[Mutant]:
    """All mutants of a source, in the order of its lines."""
    return sorted(plant(compile.texts(source))[1], key=lambda m: (m.path, m.line, m.number, m.shift))


def compiler() -> str | None:
    return shutil.which("g++")


def library(name: str) -> str | None:
    """Where the compiler has a library, such as a sanitizer's that is to be loaded first."""
    if compiler() is None:
        return None
    said = subprocess.run([compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return said.stdout.strip() if Path(said.stdout.strip()).is_absolute() else None


@cache
def _open(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def _shared(text: str) -> str:
    """Shared variables are static ones here, cleared by the first thread of each block that comes by."""
    text = re.sub(
        r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];",
        r"\1* \2 = reinterpret_cast<\1*>(simt::block.shared);",
        text,
    )
    return re.sub(r"__shared__ ([^;]*?)(\w+)((?:\[[^;\]]*\])*);", r"static \1\2\3; simt::clear_shared(\2);", text)


def _bytes(tensor: Tensor) -> np.ndarray:
    if tensor.numel() == 0:
        return np.zeros(0, np.uint8)
    return tensor.detach().reshape(-1).view(torch.uint8).numpy()


def _protect(address: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
