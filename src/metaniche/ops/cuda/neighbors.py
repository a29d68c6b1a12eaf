"""Radius and k-nearest neighbours on a GPU: `csrc/cuda/neighbors.cu`, `nearest_few.cu` and `nearest.cu`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.cuda.cell_list import (
    BIN_KEYS,
    CELLS,
    COUNTS,
    GRIDS,
    LOOKUP,
    LOOKUP_COUNTS,
    ROUNDING,
    SAMPLE,
    SOURCE,
    THREADS,
    CellList,
    cell_list,
    crowding,
    defines,
    fitting_sides,
)
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.specs import Array, Kernel, Scalar

FEW_THREADS = 128
Neighbors = tuple[Tensor, Tensor, Tensor]
MOST_NEAREST = 256
# Neighbours that fit a thread's registers.
MOST_FEW = 31

_BOUNDS = (
    Scalar("outer", "f64"),
    Scalar("inner", "f64"),
    *(Scalar(name, "f32") for name in ("outer_surely", "outer_maybe", "inner_surely", "inner_maybe")),
)
_SEARCH = (*CELLS, SAMPLE, *GRIDS, *LOOKUP, *COUNTS, *LOOKUP_COUNTS)
_EDGES = (Array("columns", torch.int32, ("edges",)), Array("lengths", torch.float32, ("edges",)))
_INDPTR = Array("indptr", torch.int64, ("n+1",))
_SAMPLE_PTR = Array("sample_ptr", torch.int64, ("samples+1",))

COUNT = Kernel(
    SOURCE, "radius_count", (*_SEARCH, *_BOUNDS, Array("degree", torch.int64, ("n",))), THREADS, registers=72
)
FILL = Kernel(SOURCE, "radius_fill", (*_SEARCH, *_BOUNDS, _INDPTR, Scalar("edges"), *_EDGES), THREADS, registers=80)
THIN = Kernel(
    SOURCE,
    "thin_rows",
    (
        _INDPTR,
        *_EDGES,
        SAMPLE,
        _SAMPLE_PTR,
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
NEAREST = Kernel(
    "nearest",
    "nearest_fill",
    (
        *CELLS,
        SAMPLE,
        _SAMPLE_PTR,
        *GRIDS,
        *LOOKUP,
        *COUNTS,
        *LOOKUP_COUNTS,
        Array("todo", torch.int64, ("count",)),
        Scalar("count"),
        _INDPTR,
        Scalar("edges"),
        *_EDGES,
    ),
    THREADS,
    registers=112,
)
FEW = Kernel(
    "nearest_few",
    "nearest_few",
    (*_SEARCH, _INDPTR, Scalar("edges"), *_EDGES, Array("unsure", torch.uint8, ("n",))),
    FEW_THREADS,
    registers=168,
)
KERNELS = (BIN_KEYS, COUNT, FILL, THIN, NEAREST, FEW)
PACKED = tuple(defines(dim, dense) for dim in (2, 3) for dense in (True, False))


def nearest_defines(dim: int, dense: bool, k: int) -> dict[str, int]:
    slots = power_of_two(-(-k // 32))
    return {"DIM": dim, "DENSE": int(dense), "SLOTS": slots, "THREADS": THREADS}


PACKED_NEAREST = tuple(nearest_defines(dim, dense, k) for dim in (2, 3) for dense in (True, False) for k in (32, 64))


def few_defines(dim: int, dense: bool, k: int) -> dict[str, int]:
    return {"DIM": dim, "DENSE": int(dense), "MOST": max(8, power_of_two(k + 1)), "THREADS": FEW_THREADS}


PACKED_FEW = tuple(few_defines(dim, dense, k) for dim in (2, 3) for dense in (True, False) for k in (7, 15, 31))


def unable_nearest(k: int) -> str | None:
    """Why the kernel cannot find so many neighbours, or None."""
    return None if k <= MOST_NEAREST else f"no kernel for more than {MOST_NEAREST} neighbours"


def radius_neighbors(
    pos: Tensor, sample_ptr: Tensor, radius: float, inner: float, most: int | None, seed: int
) -> Neighbors:
    """See `metaniche.ops.radius_neighbors`; both tensors on the GPU."""
    n, dim = pos.shape
    # A hair wider than the radius: rounding of a bin number must not hide a neighbour two bins away.
    cells = cell_list(pos, sample_ptr, np.full(sample_ptr.numel() - 1, radius * (1 + ROUNDING)))
    how, blocks = defines(dim, cells.dense), _row_blocks(n)
    search = *_search(cells), radius, inner, *bounds(radius), *bounds(inner)
    degree = sample_ptr.new_empty(n)
    launch(COUNT, how, blocks, *search, degree)
    indptr = _offsets(degree)
    columns, lengths = _edges(indptr)
    launch(FILL, how, blocks, *search, indptr, columns.numel(), columns, lengths)
    if most is None:
        return indptr, columns, lengths
    kept_indptr = _offsets(degree.clamp(max=most))
    kept_columns, kept_lengths = _edges(kept_indptr)
    sizes = n, sample_ptr.numel() - 1, columns.numel(), kept_columns.numel(), most, seed % 2**64
    given = indptr, columns, lengths, cells.sample, sample_ptr, kept_indptr
    launch(THIN, how, blocks, *given, *sizes, kept_columns, kept_lengths)
    return kept_indptr, kept_columns, kept_lengths


def knn_neighbors(pos: Tensor, sample_ptr: Tensor, k: int) -> Neighbors:
    """See `metaniche.ops.knn_neighbors`; both tensors on the GPU."""
    n, dim = pos.shape
    sizes = sample_ptr.diff()
    indptr = _offsets((sizes - 1).clamp(min=0, max=k).repeat_interleave(sizes, output_size=n))
    columns, lengths = _edges(indptr)
    cells = _list_for_nearest(pos, sample_ptr, k)
    edges = indptr, columns.numel(), columns, lengths
    if k > MOST_FEW:
        todo = torch.arange(n, device=pos.device)
    else:
        unsure = torch.empty(n, dtype=torch.uint8, device=pos.device)
        launch(FEW, few_defines(dim, cells.dense, k), blocks_for(n, FEW_THREADS), *_search(cells), *edges, unsure)
        todo = unsure.nonzero()[:, 0]
    given = cells.axes, cells.ids, cells.sample, sample_ptr, *cells.grids, *cells.lookup, *cells.counts
    how = nearest_defines(dim, cells.dense, k)
    launch(NEAREST, how, blocks_for(todo.numel(), THREADS // 32), *given, todo, todo.numel(), *edges)
    return indptr, columns, lengths


def bounds(distance: float) -> tuple[float, float]:
    """float32 squares up to the first are surely within `distance`, above the second they surely are not."""
    square = float(distance) ** 2 if abs(distance) < 1e150 else np.inf
    if square < 1e-30:  # float32 squares underflow: nothing is sure
        return -1.0, float(np.float32(1e-29))
    if square > 1e37:
        return 0.0, float("inf")
    return float(np.float32(square * (1 - ROUNDING))), float(np.float32(square * (1 + ROUNDING)))


def _list_for_nearest(pos: Tensor, sample_ptr: Tensor, k: int) -> CellList:
    # So that the k nearest stand in the bins that nearest_few.cu looks at first.
    a_neighbour = 0.2 if pos.shape[1] == 2 else 0.4 if k <= MOST_FEW else 0.15
    wanted = max(2.0, a_neighbour * k)
    cells = cell_list(pos, sample_ptr, fitting_sides(pos, sample_ptr, wanted))
    # Where cells crowd in a part of the box, bins that fit the crowd.
    for _ in range(3):
        held = crowding(cells)
        crowded = held >= 4 * wanted
        if not crowded.any():
            break
        shrink = np.where(crowded, (wanted / np.maximum(held, wanted)) ** (1 / pos.shape[1]), 1.0)
        cells = cell_list(pos, sample_ptr, cells.side * shrink)
    return cells


def _search(cells: CellList) -> tuple:
    return cells.axes, cells.ids, cells.sample, *cells.grids, *cells.lookup, *cells.counts


def _offsets(degree: Tensor) -> Tensor:
    return torch.cat((degree.new_zeros(1), degree.cumsum(0)))


def _edges(indptr: Tensor) -> tuple[Tensor, Tensor]:
    n = int(indptr[-1])
    return indptr.new_empty(n, dtype=torch.int32), indptr.new_empty(n, dtype=torch.float32)


def _row_blocks(n: int) -> int:
    return blocks_for(n, THREADS // defines(2, True)["LANES"])
