"""Nearest neighbours on a GPU: `csrc/cuda/nearest_few.cu`, and `nearest.cu` for what that leaves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.cuda.cell_list import (
    EDGES,
    SAMPLE_PTR,
    SEARCH,
    CellList,
    Neighbors,
    cell_list,
    crowding,
    edges_of,
    fitting_sides,
    offsets,
)
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.specs import INDPTR, Array, Kernel, Scalar

SOURCE, THREADS = "nearest", 256
SOURCE_FEW, FEW_THREADS = "nearest_few", 128
MOST_NEAREST = 256
# Neighbours that fit a thread's registers.
MOST_FEW = 31

NEAREST = Kernel(
    SOURCE,
    "nearest_fill",
    (
        *SEARCH,
        SAMPLE_PTR,
        Array("todo", torch.int64, ("count",)),
        Scalar("count"),
        INDPTR,
        Scalar("edges"),
        *EDGES,
    ),
    THREADS,
    registers=112,
)
FEW = Kernel(
    SOURCE_FEW,
    "nearest_few",
    (*SEARCH, INDPTR, Scalar("edges"), *EDGES, Array("unsure", torch.uint8, ("n",))),
    FEW_THREADS,
    registers=168,
)
KERNELS = (NEAREST, FEW)


def defines(dim: int, dense: bool, k: int) -> dict[str, int]:
    slots = power_of_two(-(-k // 32))
    return {"DIM": dim, "DENSE": int(dense), "SLOTS": slots, "THREADS": THREADS}


PACKED = tuple(defines(dim, dense, k) for dim in (2, 3) for dense in (True, False) for k in (32, 64))


def few_defines(dim: int, dense: bool, k: int) -> dict[str, int]:
    return {"DIM": dim, "DENSE": int(dense), "MOST": max(8, power_of_two(k + 1)), "THREADS": FEW_THREADS}


PACKED_FEW = tuple(few_defines(dim, dense, k) for dim in (2, 3) for dense in (True, False) for k in (7, 15, 31))


def unable(k: int) -> str | None:
    """Why the kernel cannot find so many neighbours, or None."""
    return None if k <= MOST_NEAREST else f"no kernel for more than {MOST_NEAREST} neighbours"


def knn_neighbors(pos: Tensor, sample_ptr: Tensor, k: int) -> Neighbors:
    """See `metaniche.ops.knn_neighbors`; both tensors on the GPU."""
    n, dim = pos.shape
    sizes = sample_ptr.diff()
    indptr = offsets((sizes - 1).clamp(min=0, max=k).repeat_interleave(sizes, output_size=n))
    columns, lengths = edges_of(indptr)
    cells = _list_for_nearest(pos, sample_ptr, k)
    edges = indptr, columns.numel(), columns, lengths
    if k > MOST_FEW:
        todo = torch.arange(n, device=pos.device)
    else:
        unsure = torch.empty(n, dtype=torch.uint8, device=pos.device)
        launch(FEW, few_defines(dim, cells.dense, k), blocks_for(n, FEW_THREADS), *cells.search, *edges, unsure)
        todo = unsure.nonzero()[:, 0]
    given = *cells.search, sample_ptr, todo, todo.numel()
    launch(NEAREST, defines(dim, cells.dense, k), blocks_for(todo.numel(), THREADS // 32), *given, *edges)
    return indptr, columns, lengths


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
