"""What carries one number each, in the order of these numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def grouped(key: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(n + 1,) int64 first place of each number below n, with the end; then the order in which `key` ascends, ties as given.

    The host does not look at the values (as torch.bincount would), so that it serves on a GPU as well.
    """
    key, order = torch.sort(key, stable=True)
    return torch.searchsorted(key, torch.arange(n + 1, device=key.device, dtype=key.dtype)), order
