"""What a CUDA kernel expects: its arguments, specialisation and budgets, checked before every launch."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real

import torch
from torch import Tensor

from metaniche.errors import KernelError

SCALARS = {
    "i64": ctypes.c_longlong,
    "u64": ctypes.c_ulonglong,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
# The element types that a kernel is specialised to, as by -DVALUE.
VALUES = {
    "float": torch.float32,
    "double": torch.float64,
    "bf16": torch.bfloat16,
    "u8": torch.uint8,
    "i16": torch.int16,
}
VALUE_OF = {dtype: name for name, dtype in VALUES.items()}

Defines = Mapping[str, int | str]
Argument = Tensor | int | float


@dataclass(frozen=True)
class Scalar:
    """A number passed by value; `ctype` is a key of SCALARS."""

    name: str
    ctype: str = "i64"


@dataclass(frozen=True)
class Array:
    """A contiguous tensor; `dtype` None is the VALUE that the kernel is specialised to, a name is another define.

    `size` multiplies to its number of elements: names of scalars or defines, each perhaps with "+1".
    """

    name: str
    dtype: torch.dtype | str | None
    size: tuple[str, ...]
    vector: bool = False  # read in vectors of VEC elements


# The bounds of the rows of a graph of n cells.
INDPTR = Array("indptr", torch.int64, ("n+1",))


@dataclass(frozen=True)
class Kernel:
    """One `extern "C"` function of `csrc/cuda/<source>.cu`; `registers` a thread and `shared` bytes are budgets."""

    source: str
    name: str
    arguments: tuple[Array | Scalar, ...]
    threads: int = 256
    registers: int = 64
    shared: int = 0

    @cached_property
    def _numbers(self) -> tuple[tuple[int, Scalar], ...]:
        return tuple((at, a) for at, a in enumerate(self.arguments) if isinstance(a, Scalar))

    @cached_property
    def _arrays(self) -> tuple[tuple[int, Array, tuple[tuple[str, int], ...]], ...]:
        """The place of each array, its spec, and its size as names with what is added to each."""
        return tuple(
            (at, a, tuple((name.removesuffix("+1"), int(name.endswith("+1"))) for name in a.size))
            for at, a in enumerate(self.arguments)
            if isinstance(a, Array)
        )

    def check(self, defines: Defines, arguments: Sequence[Argument]) -> None:
        """Raise KernelError unless the arguments are what the kernel will read and write."""
        if len(arguments) != len(self.arguments):
            raise KernelError(f"Expected {len(self.arguments)} arguments of {self.name}, found {len(arguments)}.")
        known = dict(defines)
        for at, spec in self._numbers:
            self._check_scalar(spec, arguments[at])
            known[spec.name] = arguments[at]
        first = None
        for at, spec, size in self._arrays:
            self._check_array(spec, arguments[at], size, known)
            first = arguments[at].device if first is None else first
            if arguments[at].device != first:
                raise KernelError(
                    f"Expected the tensors of {self.name} on one device, found {first} and {arguments[at].device}."
                )

    def _check_scalar(self, spec: Scalar, given: Argument) -> None:
        if type(given) is (float if spec.ctype in ("f32", "f64") else int):
            return
        kinds = Integral if spec.ctype in ("i64", "u64") else Real
        if not isinstance(given, kinds) or isinstance(given, bool):
            raise KernelError(f"Expected `{spec.name}` of {self.name} to be {spec.ctype}, found {given!r}.")

    def _check_array(self, spec: Array, given: Argument, names: tuple[tuple[str, int], ...], known: Defines) -> None:
        if not isinstance(given, Tensor):
            raise KernelError(f"Expected {self._where(spec)} to be a tensor, found {type(given).__name__}.")
        dtype = spec.dtype if isinstance(spec.dtype, torch.dtype) else VALUES[known[spec.dtype or "VALUE"]]
        if given.dtype != dtype or not given.is_contiguous():
            layout = "contiguous" if given.is_contiguous() else "strided"
            raise KernelError(
                f"Expected {self._where(spec)} to be {dtype} and contiguous, found {given.dtype} and {layout}."
            )
        size = 1
        for name, more in names:
            size *= known[name] + more
        if given.numel() != size:
            raise KernelError(f"Expected {self._where(spec)} to have {size} elements, found {given.numel()}.")
        align = dtype.itemsize * (known["VEC"] if spec.vector else 1)
        if given.data_ptr() % align:
            raise KernelError(
                f"Expected {self._where(spec)} at an address divisible by {align}, found {given.data_ptr():#x}."
            )

    def _where(self, spec: Array) -> str:
        return f"`{spec.name}` of {self.name}"
