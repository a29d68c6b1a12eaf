"""CUDA C++ to machine code with NVRTC: no toolkit, no GPU and no driver needed."""

from __future__ import annotations

import ctypes
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from metaniche import __version__
from metaniche.errors import KernelError
from metaniche.ops.cuda.specs import Defines

CSRC = Path(__file__).parents[2] / "csrc"
ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120")
# NVRTC 13.0, which comes with torch's wheels of CUDA 13.0, takes a generic lambda in a kernel for a host function.
OPTIONS = ("--std=c++17", "--ptxas-options=-v", "-default-device")
INSTALL = "Install it with: pip install 'metaniche[cuda]'."


@dataclass(frozen=True)
class Usage:
    """What ptxas reports of one kernel."""

    registers: int
    spills: int  # bytes stored and loaded
    stack: int
    shared: int


@cache
def texts(source: str) -> dict[str, str]:
    """The kernel file `csrc/cuda/<source>.cu` and every header that it includes, by their paths below csrc."""
    found, open_ = {}, [f"cuda/{source}.cu"]
    while open_:
        path = open_.pop()
        if path not in found:
            found[path] = (CSRC / path).read_text()
            open_ += re.findall(r'^#include "(.+)"', found[path], re.MULTILINE)
    return found


def flags(defines: Defines, arch: str) -> list[str]:
    return [f"--gpu-architecture={arch}", *OPTIONS, *(f"-D{key}={value}" for key, value in sorted(defines.items()))]


def fingerprint(source: str, defines: Defines, arch: str) -> str:
    """Changes with anything that the machine code depends on, but for the compiler's version."""
    parts = [__version__, *flags(defines, arch), *(part for item in sorted(texts(source).items()) for part in item)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@cache
def prefer(major: int) -> None:
    """Take the NVRTC of CUDA `major` where it is installed beside a newer one, which cuda-bindings would find first."""
    found = find_spec("nvidia")
    for folder in map(Path, found.submodule_search_locations if found else ()):
        libraries = folder / ("cuda_nvrtc" if major < 13 else f"cu{major}") / "lib"
        if (libraries / f"libnvrtc.so.{major}").is_file():
            for library in (*libraries.glob("libnvrtc-builtins.so.*"), libraries / f"libnvrtc.so.{major}"):
                ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)  # what is loaded is what is found
            return


@cache
def nvrtc_version() -> tuple[int, int]:
    """(major, minor) of the NVRTC at hand; KernelError where there is none."""
    nvrtc = _nvrtc()
    try:
        error, major, minor = nvrtc.nvrtcVersion()
    except RuntimeError as problem:  # cuda-bindings without the library beside it
        raise KernelError(f"NVRTC cannot be loaded: {' '.join(str(problem).split())}. {INSTALL}") from problem
    _ok(error, "nvrtcVersion")
    return major, minor


def compile_cubin(source: str, defines: Defines, arch: str) -> tuple[bytes, str]:
    """Machine code of `csrc/cuda/<source>.cu` for `arch` (as sm_90), and the compiler's log."""
    nvrtc_version()
    nvrtc, files = _nvrtc(), dict(texts(source))
    main = f"cuda/{source}.cu"
    text = files.pop(main).encode()
    headers, names = [t.encode() for t in files.values()], [n.encode() for n in files]
    program = _ok(*nvrtc.nvrtcCreateProgram(text, main.encode(), len(headers), headers, names))
    try:
        options = [flag.encode() for flag in flags(defines, arch)]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        log = b" " * _ok(*nvrtc.nvrtcGetProgramLogSize(program))
        _ok(*nvrtc.nvrtcGetProgramLog(program, log))
        log = log.rstrip(b"\0 ").decode(errors="replace")
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"NVRTC {nvrtc_version()} cannot compile {main} for {arch} ({error.name}):\n{log}")
        cubin = b" " * _ok(*nvrtc.nvrtcGetCUBINSize(program))
        _ok(*nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin, log
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def usage(log: str) -> dict[str, Usage]:
    """Registers, spills, stack and static shared memory of every kernel that the log names."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        stack, stores, loads = map(
            int, re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", part).groups()
        )
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = re.search(r"(\d+) bytes smem", part)
        found[part.split("'")[0]] = Usage(registers, stores + loads, stack, int(shared[1]) if shared else 0)
    return found


def _nvrtc():
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise KernelError(f"cuda-bindings is not installed ({error}). {INSTALL}") from error
    return nvrtc


def _ok(error, *values):
    if int(error) != 0:
        raise KernelError(f"NVRTC failed: {values if isinstance(values, str) else error}.")
    return values[0] if len(values) == 1 else values
