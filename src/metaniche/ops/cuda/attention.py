"""What the attention kernels share on the host, as `csrc/cuda/attention.h` does on the GPU: arrays, lanes, scalars."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metaniche.ops.cuda.launch import power_of_two
from metaniche.ops.cuda.specs import VALUE_OF, Array, Scalar
from metaniche.ops.dropout import draw


def cells(*names: str) -> tuple[Array, ...]:
    """Arrays (n, HEADS, WIDTH) of the kernel's value type."""
    return tuple(Array(name, None, ("n", "HEADS", "WIDTH"), vector=True) for name in names)


def per_edge(name: str) -> Array:
    return Array(name, torch.float32, ("edges", "HEADS"))


def per_row(name: str) -> Array:
    return Array(name, torch.float32, ("n", "HEADS"))


# The same edges by sender, and their places in the CSR.
PTR, ORDER = Array("ptr", torch.int64, ("n+1",)), Array("order", torch.int64, ("edges",))
NULL = Array("null", torch.float32, ("HEADS",))
SIZES = (Scalar("n"), Scalar("edges"), Scalar("scale", "f32"))
NUMBERS = (*SIZES, Scalar("start", "u64"), Scalar("limit", "u64"), Scalar("keep", "f32"))


def sizes(q_NHD: Tensor, indices: Tensor) -> tuple[int | float, ...]:
    """The values of SIZES."""
    n, _, width = q_NHD.shape
    return n, indices.numel(), 1 / math.sqrt(width)


def numbers(q_NHD: Tensor, indices: Tensor, dropout: float, seed: int) -> tuple[int | float, ...]:
    """The values of NUMBERS."""
    return *sizes(q_NHD, indices), *draw(dropout, seed)


def lanes(heads: int, width: int, dtype: torch.dtype, most: int) -> dict[str, int | str]:
    """Defines of a head's share: 16 bytes a lane where the width allows, at most `most` lanes a head."""
    vec = math.gcd(width, 16 // dtype.itemsize)
    return dict(VALUE=VALUE_OF[dtype], HEADS=heads, WIDTH=width, VEC=vec, GROUP=min(most, power_of_two(width // vec)))


def channels_a_lane(how: dict[str, int | str]) -> int:
    """Numbers of one head that a lane holds."""
    return how["VEC"] * -(-how["WIDTH"] // (how["VEC"] * how["GROUP"]))


def aligned(x: Tensor) -> Tensor:
    """A tensor that starts at a multiple of 16 bytes, as new ones do; a view may start anywhere."""
    return x if x.data_ptr() % 16 == 0 else x.clone()
