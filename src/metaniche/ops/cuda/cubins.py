"""Machine code of a kernel: from the pack in the wheel, else from the disk cache, else compiled by NVRTC and cached."""

from __future__ import annotations

import hashlib
import json
import logging
import lzma
import os
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from metaniche.errors import KernelError
from metaniche.ops.cuda import compile
from metaniche.ops.cuda.specs import Defines

PACK = compile.CSRC / "cuda" / "_pack"
VARIABLE = "METANICHE_CACHE"

log = logging.getLogger(__name__)


def cubin(source: str, defines: Defines, arch: str, driver: tuple[int, int] | None = None) -> tuple[bytes, str]:
    """Machine code for `arch` and where it came from: pack, cache or nvrtc.

    `driver` is the newest CUDA version that the driver serves; machine code of a newer major version is not taken.
    """
    key = compile.fingerprint(source, defines, arch)
    for major in pack_majors(arch):
        if driver is None or major <= driver[0]:
            code = read_pack(pack_path(arch, major)).get(key)
            if code is not None:
                return code, "pack"
    if driver is not None:
        compile.prefer(driver[0])
    major, minor = compile.nvrtc_version()
    if driver is not None and major > driver[0]:
        raise KernelError(
            f"NVRTC {major}.{minor} compiles for newer drivers than this one (CUDA {driver[0]}.{driver[1]}). "
            f"Update the driver, or install nvidia-cuda-nvrtc-cu{driver[0]}."
        )
    path = cache_folder() / f"{source}-{arch}-{major}.{minor}-{key}.cubin"
    code = _read_cached(path)
    if code is not None:
        return code, "cache"
    code, _ = compile.compile_cubin(source, defines, arch)
    _write_cached(path, code)
    return code, "nvrtc"


def cache_folder() -> Path:
    """METANICHE_CACHE, else XDG_CACHE_HOME/metaniche, else ~/.cache/metaniche."""
    own = os.environ.get(VARIABLE)
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metaniche"


def pack_path(arch: str, major: int) -> Path:
    return PACK / f"{arch}-cuda{major}.xz"


def pack_majors(arch: str) -> list[int]:
    """CUDA versions, newest first, that the wheel has a pack of this architecture for."""
    return sorted((int(p.stem.split("-cuda")[1]) for p in PACK.glob(f"{arch}-cuda*.xz")), reverse=True)


def write_pack(path: Path, cubins: Iterable[tuple[str, bytes]]) -> None:
    """One xz file: a line of JSON with every key and length, then the machine code in that order."""
    cubins = list(cubins)
    index = json.dumps([[key, len(code)] for key, code in cubins]).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(b"\n".join([index, b"".join(code for _, code in cubins)]), preset=9))


@cache
def read_pack(path: Path) -> dict[str, bytes]:
    try:
        index, code = lzma.decompress(path.read_bytes()).split(b"\n", 1)
    except (OSError, lzma.LZMAError, ValueError) as error:
        raise KernelError(f"The kernel pack {path} cannot be read ({error}). Reinstall metaniche.") from error
    found, at = {}, 0
    for key, length in json.loads(index):
        found[key] = code[at : at + length]
        at += length
    return found


def _read_cached(path: Path) -> bytes | None:
    """The machine code, or None where the file is missing or does not carry its own checksum."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write_cached(path: Path, code: bytes) -> None:
    """Many processes may write the same file: each writes its own and moves it there in one step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, own = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(own, path)
    except OSError as error:
        log.warning("%s cannot be written (%s): the kernel is compiled again next time", path, error)
