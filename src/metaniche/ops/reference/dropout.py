"""Dropout factors as a table; `csrc/common/dropout.h` draws the same numbers one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.dropout import draw
from metaniche.ops.splitmix import of_tensor, signed


def factors(entries: int, columns: int, dropout: float, seed: int, device: torch.device | None = None) -> Tensor:
    """(entries, columns) float64: 0 where dropped, else 1 / (1 - dropout)."""
    start, limit, scale = draw(dropout, seed)
    rows = of_tensor(signed(start) ^ torch.arange(entries, device=device))
    hashes = of_tensor(rows[:, None] ^ torch.arange(columns, device=device))
    # Numbers without a sign keep their order as signed ones when the highest bit is turned.
    dropped = (hashes ^ signed(2**63)) < signed(limit ^ 2**63)
    return torch.where(dropped, 0.0, torch.tensor(scale, dtype=torch.float64, device=device))
