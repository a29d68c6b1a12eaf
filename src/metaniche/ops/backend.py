"""Which implementation runs an op: native code for the CPU, CUDA, or the plain reference. Never a silent fallback."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TypeVar

import torch
from torch import Tensor

from metaniche.errors import ConfigError, KernelError

BACKENDS = ("auto", "reference", "cpu", "cuda")
VARIABLE = "METANICHE_BACKEND"
FULL = re.compile("out.of.memory|ALLOC_FAILED", re.IGNORECASE)
Result = TypeVar("Result")
# The extension modules by torch's name of the processor's instruction set, best first.
MODULES = {"AVX512": "_cpu_avx512", "AVX2": "_cpu_avx2", "DEFAULT": "_cpu_baseline"}

# The devices that each op has native code for, by the name that it passes to `choose`.
NATIVE = {
    "autocorrelation": ("cpu", "cuda"),
    "by_sender": ("cpu", "cuda"),
    "cluster_means_null": ("cpu", "cuda"),
    "cluster_means_permutations": ("cpu", "cuda"),
    "complex_expression": ("cpu", "cuda"),
    "csr_encoder": ("cpu", "cuda"),
    "delaunay_neighbors": (),
    "edge_attention": ("cpu", "cuda"),
    "edge_scores_null": ("cpu", "cuda"),
    "hilbert_order": ("cpu", "cuda"),
    "knn_neighbors": ("cpu", "cuda"),
    "ligrec_signal": ("cpu", "cuda"),
    "pair_logits": ("cpu", "cuda"),
    "radius_neighbors": ("cpu", "cuda"),
    "segment_max": ("cpu", "cuda"),
    "segment_softmax": ("cpu", "cuda"),
    "segment_sum": ("cpu", "cuda"),
    "transport": ("cpu", "cuda"),
    "type_pair_sums": ("cpu", "cuda"),
}

log = logging.getLogger(__name__)
_wanted: ContextVar[str | None] = ContextVar("backend", default=None)
_told: set[tuple[str, str]] = set()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the ops inside with one backend.

    auto takes the best at hand for the tensors' device and says once per op which one that is; reference is the
    plain implementation; cpu and cuda are the native ones and raise KernelError where they cannot run. The
    environment variable METANICHE_BACKEND does the same for a whole process.
    """
    token = _wanted.set(_checked(name, "use_backend"))
    try:
        yield
    finally:
        _wanted.reset(token)


def register_autograd(op: str, gradient: Callable, setup_context: Callable, library: torch.library.Library) -> None:
    """As torch's, with a backward pass that runs on the backend of its forward pass.

    For tensors of a GPU autograd works in threads of its own, which do not know what `use_backend` said.
    """

    def setup(ctx, inputs, output):
        ctx.backend = wanted()
        setup_context(ctx, inputs, output)

    def backward(ctx, *grads):
        with use_backend(ctx.backend):
            return gradient(ctx, *grads)

    torch.library.register_autograd(f"metaniche::{op}", backward, setup_context=setup, lib=library)


def once_differentiable(op: str, library: torch.library.Library) -> None:
    """A backward pass through `op`, which is one itself, raises KernelError; without this it would give zeros."""

    def backward(ctx, *grads):
        raise KernelError(
            f"Expected one backward pass, found a second one through {op}: it is differentiable once. "
            "Leave out create_graph=True, or take differences of gradients."
        )

    torch.library.register_autograd(f"metaniche::{op}", backward, lib=library)


def wanted() -> str:
    """The backend asked for: by `use_backend`, else by METANICHE_BACKEND, else auto."""
    return _wanted.get() or _checked(os.environ.get(VARIABLE) or "auto", VARIABLE)


def choose(op: str, device: torch.device, unable: str | None = None) -> str:
    """The implementation that runs `op` on tensors of `device`: reference, cpu or cuda.

    `unable` says why the native code of that device cannot run these tensors, if it cannot.

    Raises
    ------
    KernelError
        When the backend asked for cannot run here; the message says why.
    """
    name = wanted()
    if name == "auto":
        name, why = best(op, device, unable)
        if (op, name) not in _told:
            _told.add((op, name))
            log.log(logging.INFO if why else logging.DEBUG, "%s runs on %s%s", op, name, f" ({why})" if why else "")
        return name
    if name == "reference":
        return name
    if name != device.type:
        raise KernelError(f"Expected tensors on {name} for {op} with backend {name!r}, found {device.type}.")
    why = unable or _missing(op, device)
    if why:
        raise KernelError(f"The native {name.upper()} backend cannot run {op}: {why}")
    return name


def best(op: str, device: torch.device, unable: str | None = None) -> tuple[str, str]:
    """What runs `op` on tensors of `device` unless told otherwise, and why not native code where it is not."""
    why = unable or _missing(op, device)
    return ("reference", why) if why else (device.type, "")


def native() -> ModuleType | None:
    """The extension module for this processor with torch's number of threads set, or None where none was built."""
    module = _load()[0]
    if module is not None:
        module.set_threads(torch.get_num_threads())
    return module


def native_status() -> str:
    """One line: which native module runs, or why none does."""
    return _load()[1]


def dense(*tensors: Tensor) -> list[Tensor]:
    """The tensors as native code reads them: in C order, cut from autograd."""
    return [x.detach().contiguous() for x in tensors]


def dense_rows(*tensors: Tensor) -> list[Tensor]:
    """As `dense`, but rows (the first dimension) may lie apart: one of several projections in one tensor is not copied."""
    return [x.detach() if x.shape[0] and x[0].is_contiguous() else x.detach().contiguous() for x in tensors]


def _missing(op: str, device: torch.device) -> str | None:
    """Why no native code runs `op` on the device, or None."""
    if device.type not in NATIVE[op]:
        return f"no native code for {device.type}"
    if device.type == "cpu":
        return native_status() if native() is None else None
    ready, why = cuda_status(device.index)
    return None if ready else why


def device_of(name: torch.device | str) -> torch.device:
    """The device of a name: cpu, cuda, cuda:1, or auto, which is the GPU where CUDA kernels can run on one.

    Raises ConfigError for another name, and for a GPU that is not here.
    """
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        return torch.device("cuda" if cuda_status()[0] else "cpu")
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"Expected device to be auto, cpu, cuda or cuda:1, found {name!r}. auto is the default.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} that torch {torch.__version__} can use"
        raise ConfigError(f"Expected a GPU for device={name}, found {found}. Set device=cpu.")
    return device


def where_it_fits(run: Callable[[torch.device], Result], device: torch.device, what: str) -> Result:
    """`run(device)`, or `run` on the CPU, with a warning that `what` does not fit, where the memory of a GPU is too small."""
    if device.type == "cpu":
        return run(device)
    try:
        return run(device)
    except (RuntimeError, KernelError) as error:
        # torch's allocator has an error of its own; cuBLAS and the driver say it in words.
        if not isinstance(error, torch.OutOfMemoryError) and not FULL.search(str(error)):
            raise
    log.warning("%s does not fit into the memory of %s: done on the CPU.", what, device)
    return run(torch.device("cpu"))


def cuda_status(index: int | None = None) -> tuple[bool, str]:
    """Whether CUDA kernels can run on a GPU (None: torch's current one), and with what driver and architecture or why not."""
    from metaniche.ops.cuda.driver import status

    return status(index)


@cache
def _load() -> tuple[ModuleType | None, str]:
    capability = torch.backends.cpu.get_cpu_capability()
    names = list(MODULES.values())
    names = names[names.index(MODULES.get(capability, "_cpu_baseline")) :]
    for name in names:
        try:
            return import_module(f"metaniche.{name}"), f"{name} ({capability})"
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            return None, f"{name} was built for another system ({error}). Reinstall metaniche."
    return (
        None,
        "not built: no C++ compiler was found at installation, or it failed. Reinstall metaniche; pip -v says why.",
    )


def _checked(name: str, where: str) -> str:
    if name not in BACKENDS:
        raise ConfigError(f"Expected {where} in {BACKENDS}, found {name!r}.")
    return name
