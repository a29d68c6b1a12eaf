"""Order of cells along a Hilbert curve, so that neighbours in space are neighbours in memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.backend import dense, native
from metaniche.ops.cuda import hilbert as cuda
from metaniche.ops.neighbors import check_cells, host_arrays, runner
from metaniche.ops.reference import hilbert as reference


def hilbert_order(pos_um: Tensor, sample_ptr: Tensor) -> Tensor:
    """(N,) int64 permutation that puts the cells of each sample along a Hilbert curve; samples stay in order.

    The curve covers the bounding square (cube) of each sample with 2^16 steps a side; cells on one step keep
    their order. `pos_um` (N, 2 or 3) float32, `sample_ptr` (S + 1,) int64 and errors as in `radius_neighbors`.
    """
    check_cells(pos_um, sample_ptr)
    chosen = runner("hilbert_order", pos_um)
    if chosen == "cuda":
        return cuda.hilbert_order(*dense(pos_um, sample_ptr.to(pos_um.device)))
    pos, ptr = host_arrays(pos_um, sample_ptr)
    keys = _native_keys if chosen == "cpu" else reference.hilbert_keys
    order = [torch.zeros(0, dtype=torch.int64)]
    for start, stop in zip(ptr[:-1].tolist(), ptr[1:].tolist()):
        if stop > start:
            order.append(start + torch.argsort(torch.from_numpy(keys(pos[start:stop])), stable=True))
    return torch.cat(order).to(pos_um.device)


def _native_keys(pos: np.ndarray) -> np.ndarray:
    keys = np.empty(len(pos), np.int64)
    native().hilbert_keys(pos, keys)
    return keys
