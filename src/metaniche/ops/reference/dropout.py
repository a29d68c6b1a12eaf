"""Dropout factors as a table; `csrc/common/dropout.h` draws the same numbers one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.dropout import draw


def factors(entries: int, columns: int, dropout: float, seed: int, device: torch.device | None = None) -> Tensor:
    """(entries, columns) float64: 0 where dropped, else 1 / (1 - dropout)."""
    start, limit, scale = draw(dropout, seed)
    rows = _splitmix64(_signed(start) ^ torch.arange(entries, device=device))
    hashes = _splitmix64(rows[:, None] ^ torch.arange(columns, device=device))
    # Numbers without a sign keep their order as signed ones when the highest bit is turned.
    dropped = (hashes ^ _signed(2**63)) < _signed(limit ^ 2**63)
    return torch.where(dropped, 0.0, torch.tensor(scale, dtype=torch.float64, device=device))


def _splitmix64(z: Tensor) -> Tensor:
    """`csrc/common/hash.h` on int64, which overflows as uint64 does; shifts must not bring the sign along."""
    z = z + _signed(0x9E3779B97F4A7C15)
    z = (z ^ (z >> 30 & 2**34 - 1)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> 27 & 2**37 - 1)) * _signed(0x94D049BB133111EB)
    return z ^ (z >> 31 & 2**33 - 1)


def _signed(n: int) -> int:
    """The int64 of the same bits as a uint64."""
    return n - 2**64 if n >= 2**63 else n
