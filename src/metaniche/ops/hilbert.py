"""Order of cells along a Hilbert curve, so that neighbours in space are neighbours in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.neighbors import checked_cells
from metaniche.ops.reference import hilbert as reference


def hilbert_order(pos_um: Tensor, sample_ptr: Tensor) -> Tensor:
    """(N,) int64 permutation that puts the cells of each sample along a Hilbert curve; samples stay in order.

    The curve covers the bounding square (cube) of each sample with 2^16 steps a side; cells on one step keep
    their order. `pos_um` (N, 2 or 3) float32, `sample_ptr` (S + 1,) int64 and errors as in `radius_neighbors`.
    """
    return torch.from_numpy(reference.hilbert_order(*checked_cells(pos_um, sample_ptr)))
