"""Where the samples of one call lie: of which sample every cell is, and the box around each."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_of(sample_ptr: Tensor, n: int) -> Tensor:
    """(N,) int32 number of each cell's sample."""
    numbers = torch.arange(sample_ptr.numel() - 1, device=sample_ptr.device, dtype=torch.int32)
    return numbers.repeat_interleave(sample_ptr.diff(), output_size=n)


def boxes(pos: Tensor, sample_ptr: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest coordinates, (S, D) float64 each; 0 for a sample without cells."""
    empty = (sample_ptr.diff() == 0)[:, None]
    low, high = (
        torch.segment_reduce(pos, kind, offsets=sample_ptr, axis=0, unsafe=True, initial=start)
        .masked_fill(empty, 0.0)
        .double()
        for kind, start in (("min", torch.inf), ("max", -torch.inf))
    )
    return low, high
