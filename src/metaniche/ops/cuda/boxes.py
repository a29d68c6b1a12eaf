"""Where the samples of one call lie: of which sample every cell is, and the box around each."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.cuda.pieces import pieces
from metaniche.ops.cuda.segment import segment_max
from metaniche.ops.kept import kept


def sample_of(sample_ptr: Tensor, n: int) -> Tensor:
    """(N,) int32 number of each cell's sample."""
    numbers = torch.arange(sample_ptr.numel() - 1, device=sample_ptr.device, dtype=torch.int32)
    return numbers.repeat_interleave(sample_ptr.diff(), output_size=n)


@kept
def boxes(pos: Tensor, sample_ptr: Tensor) -> Tensor:
    """(2, S, D) float64 lowest and highest coordinates; 0 for a sample without cells. `pos` (N, D) float32.

    A search asks for them several times, for the sides of its bins and for the bins themselves.
    """
    # In two steps: few samples of many cells would leave most of a GPU idle.
    bounds, of_sample = pieces(sample_ptr, len(pos))
    low, high = (segment_max(segment_max(x, bounds), of_sample).double() for x in (-pos, pos))
    return torch.stack((-low, high))
