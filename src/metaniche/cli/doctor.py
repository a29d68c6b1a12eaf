"""metaniche-doctor: which backend every op will use on this machine, and why."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch
from rich.table import Table

from metaniche import __version__
from metaniche.cli.console import console
from metaniche.errors import KernelError
from metaniche.ops import backend
from metaniche.ops.cuda import compile, cubins

PACKAGES = ("torch", "numpy", "scipy", "cuda-bindings", "nvidia-cuda-nvrtc")


def main() -> None:
    say = console().print
    say(_table("metaniche", about()))
    say(_table("op", [(op, "  ".join(backends(op))) for op in backend.NATIVE]))


def about() -> list[tuple[str, str]]:
    """(what, answer) of everything that decides which backend runs."""
    ready, why = backend.cuda_status()
    return [
        ("version", __version__),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((name, _version(name)) for name in PACKAGES),
        ("backend asked for", f"{backend.wanted()} ({backend.VARIABLE})"),
        ("native CPU module", backend.native_status()),
        ("threads", str(torch.get_num_threads())),
        ("CUDA kernels", f"{'ready' if ready else 'not used'}: {why}"),
        ("kernel pack", _packs()),
        ("kernel cache", str(cubins.cache_folder())),
        ("NVRTC", _nvrtc()),
    ]


def backends(op: str) -> list[str]:
    """What runs the op on each kind of device that is here, and why no native code where none does."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    found = []
    for device in devices:
        if backend.wanted() == "auto":
            name, why = backend.best(op, torch.device(device))
        else:
            name, why = _asked(op, device)
        found.append(f"{device}: {name}" + (f" ({why})" if why else ""))
    return found


def _asked(op: str, device: str) -> tuple[str, str]:
    try:
        return backend.choose(op, torch.device(device)), ""
    except KernelError as error:
        return "refused", str(error)


def _table(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title, "", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _packs() -> str:
    packs = [f"{arch} (CUDA {major})" for arch in compile.ARCHITECTURES for major in cubins.pack_majors(arch)]
    return ", ".join(packs) or "none: kernels are compiled at first use"


def _nvrtc() -> str:
    try:
        return ".".join(map(str, compile.nvrtc_version()))
    except KernelError as error:
        return str(error)


if __name__ == "__main__":
    main()
