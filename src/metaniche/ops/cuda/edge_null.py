"""Sums of edge scores on a GPU: `csrc/cuda/edge_null.cu`."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.pieces import cut
from metaniche.ops.cuda.segment import segment_sum
from metaniche.ops.cuda.specs import Array, Kernel, Scalar
from metaniche.ops.grouped import grouped

SOURCE, THREADS, LANES = "edge_null", 256, 8
ROWS_A_PIECE = 32
# Sums of all pieces that are kept at once, unless pieces of more rows make fewer.
MOST_SUMS = 2**26

_EDGES = (
    Array("indptr", torch.int64, ("n+1",)),
    Array("indices", torch.int32, ("edges",)),
    Array("score", torch.float64, ("edges",)),
)
CELL_SUMS = Kernel(
    SOURCE,
    "edge_cell_sums",
    (
        *_EDGES,
        Array("ptr", torch.int64, ("n+1",)),
        Array("receivers", torch.int32, ("edges",)),
        Array("order", torch.int64, ("edges",)),
        Scalar("n"),
        Scalar("edges"),
        Array("sums", torch.float64, ("n", "SUMS")),
    ),
    THREADS,
    registers=72,
)
TYPE_SUMS = Kernel(
    SOURCE,
    "edge_type_sums",
    (
        *_EDGES,
        Array("types", torch.int32, ("n",)),
        Array("cells", torch.int64, ("n",)),
        Array("starts", torch.int64, ("pieces+1",)),
        Scalar("n"),
        Scalar("edges"),
        Scalar("pieces"),
        Scalar("n_types"),
        Array("sums", torch.float64, ("pieces", "n_types")),
    ),
    THREADS,
    registers=64,
)
KERNELS = (CELL_SUMS, TYPE_SUMS)
DEFINES = dict(LANES=LANES, SUMS=4, THREADS=THREADS)
PACKED = (DEFINES,)


def cell_sums(indptr: Tensor, indices: Tensor, score: Tensor) -> Tensor:
    """(N, 4) float64: w over each cell's row and over its column, w^2 and w_ij w_ji over its row; columns ascend."""
    n = indptr.numel() - 1
    sums = score.new_empty(n, 4)
    edges = indptr, indices, score, *by_sender(indptr, indices)
    launch(CELL_SUMS, DEFINES, blocks_for(n, THREADS // LANES), *edges, n, indices.numel(), sums)
    return sums


def edge_sums(indptr: Tensor, indices: Tensor, score: Tensor, type_N: Tensor, n_types: int) -> tuple[Tensor, Tensor]:
    """The six sums of `metaniche.ops.edge_scores_null` in its order, and (T, T) sums, sender type first; float64."""
    row, column, squares, mutual = cell_sums(indptr, indices, score).unbind(1)
    six = torch.stack((row, squares, mutual, row * row, column * column, row * column)).sum(1)
    return six, type_sums(indptr, indices, score, type_N, n_types)


def type_sums(indptr: Tensor, indices: Tensor, score: Tensor, type_N: Tensor, n_types: int) -> Tensor:
    """(T, T) float64 sums of the scores, sender type first."""
    n = type_N.numel()
    ptr, cells = grouped(type_N, n_types)
    rows = max(ROWS_A_PIECE, blocks_for(n * n_types, MOST_SUMS))
    starts, piece_ptr, _ = cut(ptr, rows)
    pieces = starts.numel() - 1
    sums = score.new_empty(pieces, n_types)
    blocks = blocks_for(pieces, THREADS // 32), blocks_for(n_types, 32)
    sizes = n, indices.numel(), pieces, n_types
    launch(TYPE_SUMS, DEFINES, blocks, indptr, indices, score, type_N, cells, starts, *sizes, sums)
    return segment_sum(sums, piece_ptr).t().contiguous()
