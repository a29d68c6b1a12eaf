"""Radius neighbours on a GPU: `csrc/cuda/neighbors.cu`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.cuda.cell_list import (
    BIN_KEYS,
    COUNTS,
    EDGES,
    ROUNDING,
    SAMPLE,
    SAMPLE_PTR,
    SEARCH,
    SOURCE,
    THREADS,
    cell_list,
    defines,
    edges_of,
    offsets,
)
from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.specs import INDPTR, Array, Kernel, Scalar

_BOUNDS = (
    Scalar("outer", "f64"),
    Scalar("inner", "f64"),
    *(Scalar(name, "f32") for name in ("outer_surely", "outer_maybe", "inner_surely", "inner_maybe")),
)

COUNT = Kernel(SOURCE, "radius_count", (*SEARCH, *_BOUNDS, Array("degree", torch.int64, ("n",))), THREADS, registers=72)
FILL = Kernel(
    SOURCE,
    "radius_fill",
    (*SEARCH, *_BOUNDS, INDPTR, Scalar("edges"), *EDGES),
    THREADS,
    registers=80,
    shared=8 << 10,
)
THIN = Kernel(
    SOURCE,
    "thin_rows",
    (
        INDPTR,
        *EDGES,
        SAMPLE,
        SAMPLE_PTR,
        Array("kept_indptr", torch.int64, ("n+1",)),
        *COUNTS,
        Scalar("edges"),
        Scalar("kept"),
        Scalar("most"),
        Scalar("seed", "u64"),
        Array("kept_columns", torch.int32, ("kept",)),
        Array("kept_lengths", torch.float32, ("kept",)),
    ),
    THREADS,
    registers=64,
)
KERNELS = (BIN_KEYS, COUNT, FILL, THIN)
PACKED = tuple(defines(dim, dense) for dim in (2, 3) for dense in (True, False))


def thinned_neighbors(
    pos: Tensor, sample_ptr: Tensor, radius: float, inner: float, most: int | None, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `metaniche.ops.thinned_neighbors`; both tensors on the GPU."""
    n, dim = pos.shape
    # A hair wider than the radius: rounding of a bin number must not hide a neighbour two bins away.
    cells = cell_list(pos, sample_ptr, np.full(sample_ptr.numel() - 1, radius * (1 + ROUNDING)))
    how, blocks = defines(dim, cells.dense), _row_blocks(n)
    search = *cells.search, radius, inner, *bounds(radius), *bounds(inner)
    degree = sample_ptr.new_empty(n)
    launch(COUNT, how, blocks, *search, degree)
    indptr = offsets(degree)
    columns, lengths = edges_of(indptr)
    launch(FILL, how, blocks, *search, indptr, columns.numel(), columns, lengths)
    if most is None:
        return indptr, columns, lengths, degree
    kept_indptr = offsets(degree.clamp(max=most))
    kept_columns, kept_lengths = edges_of(kept_indptr)
    sizes = n, sample_ptr.numel() - 1, columns.numel(), kept_columns.numel(), most, seed % 2**64
    given = indptr, columns, lengths, cells.sample, sample_ptr, kept_indptr
    launch(THIN, how, blocks, *given, *sizes, kept_columns, kept_lengths)
    return kept_indptr, kept_columns, kept_lengths, degree


def bounds(distance: float) -> tuple[float, float]:
    """float32 squares up to the first are surely within `distance`, above the second they surely are not."""
    square = float(distance) ** 2 if abs(distance) < 1e150 else np.inf
    if square < 1e-30:  # float32 squares underflow: nothing is sure
        return -1.0, float(np.float32(1e-29))
    if square > 1e37:
        return 0.0, float("inf")
    return float(np.float32(square * (1 - ROUNDING))), float(np.float32(square * (1 + ROUNDING)))


def _row_blocks(n: int) -> int:
    return blocks_for(n, THREADS // defines(2, True)["LANES"])
