"""What a CUDA kernel expects: its arguments, specialisation and budgets, checked before every launch."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
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
    def scalars(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.arguments if isinstance(a, Scalar))

    def check(self, defines: Defines, arguments: Sequence[Argument]) -> None:
        """Raise KernelError unless the arguments are what the kernel will read and write."""
        if len(arguments) != len(self.arguments):
            raise KernelError(f"Expected {len(self.arguments)} arguments of {self.name}, found {len(arguments)}.")
        known = dict(defines)
        for spec, given in zip(self.arguments, arguments):
            if isinstance(spec, Scalar):
                self._check_scalar(spec, given)
                known[spec.name] = given
        devices = {x.device for x in arguments if isinstance(x, Tensor)}
        if len(devices) > 1:
            raise KernelError(f"Expected the tensors of {self.name} on one device, found {sorted(map(str, devices))}.")
        for spec, given in zip(self.arguments, arguments):
            if isinstance(spec, Array):
                self._check_array(spec, given, known)

    def _check_scalar(self, spec: Scalar, given: Argument) -> None:
        kinds = Integral if spec.ctype in ("i64", "u64") else Real
        if not isinstance(given, kinds) or isinstance(given, bool):
            raise KernelError(f"Expected `{spec.name}` of {self.name} to be {spec.ctype}, found {given!r}.")

    def _check_array(self, spec: Array, given: Argument, known: Defines) -> None:
        where = f"`{spec.name}` of {self.name}"
        if not isinstance(given, Tensor):
            raise KernelError(f"Expected {where} to be a tensor, found {type(given).__name__}.")
        dtype = spec.dtype if isinstance(spec.dtype, torch.dtype) else VALUES[known[spec.dtype or "VALUE"]]
        if given.dtype != dtype or not given.is_contiguous():
            layout = "contiguous" if given.is_contiguous() else "strided"
            raise KernelError(f"Expected {where} to be {dtype} and contiguous, found {given.dtype} and {layout}.")
        size = prod(known[n.removesuffix("+1")] + n.endswith("+1") for n in spec.size)
        if given.numel() != size:
            raise KernelError(f"Expected {where} to have {size} elements, found {given.numel()}.")
        align = dtype.itemsize * (known["VEC"] if spec.vector else 1)
        if given.data_ptr() % align:
            raise KernelError(f"Expected {where} at an address divisible by {align}, found {given.data_ptr():#x}.")
