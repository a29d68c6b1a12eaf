"""Dropout factors as a table; `csrc/common/dropout.h` draws the same numbers one by one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.dropout import draw
from metaniche.ops.reference.label_null import splitmix64


def factors(entries: int, columns: int, dropout: float, seed: int) -> Tensor:
    """(entries, columns) float64: 0 where dropped, else 1 / (1 - dropout)."""
    start, limit, scale = draw(dropout, seed)
    rows = splitmix64(np.uint64(start) ^ np.arange(entries, dtype=np.uint64))
    hashes = splitmix64(rows[:, None] ^ np.arange(columns, dtype=np.uint64))
    return torch.from_numpy(np.where(hashes < np.uint64(limit), 0.0, scale))
