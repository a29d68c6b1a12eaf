"""Edge attention by tiles on a GPU, `csrc/cuda/edge_attention_tiles.cu`: neighbours share what their block has read.

A block owns 32 consecutive rows. Cells in Hilbert order hear many of the same senders, so the block reads each distinct
sender's keys and values once into shared memory, in chunks that fit 48 KiB, and the rows take them from there. The
gradients of the senders go the same way over the graph by sender, with the receivers' queries and gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda.attention import (
    NULL,
    NUMBERS,
    ORDER,
    PTR,
    SIZES,
    cells,
    channels_a_lane,
    lanes,
    per_edge,
    per_row,
)
from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.specs import INDPTR, VALUE_OF, Array, Kernel, Scalar
from metaniche.ops.kept import kept

SOURCE, THREADS, ROWS = "edge_attention_tiles", 256, 32
ROW_LANES = THREADS // ROWS
SHARED = 48 << 10
MOST_CHANNELS_A_LANE = 8
# Edges for each column that a tile reads: below it the shared memory is not worth its barriers.
REUSE = 2.0
# Fewer tiles leave multiprocessors idle, and what small graphs could save is less than the making of their tiles.
LEAST_ROWS = 512 * ROWS
INT16_PLACES = 2**15
# Edges that are sorted at once, at some 80 bytes each.
EDGES_AT_ONCE = 2**26

_TILES = (
    Array("tile_ptr", torch.int64, ("tiles+1",)),
    Array("columns", torch.int32, ("distinct",)),
    Array("local", "LOCAL", ("edges",)),
)
_OF_TILES = (Scalar("tiles"), Scalar("distinct"))
FORWARD = Kernel(
    SOURCE,
    "attention_tiles_forward",
    (
        *cells("q", "k", "v"),
        INDPTR,
        *_TILES,
        *_OF_TILES,
        per_edge("bias"),
        NULL,
        *NUMBERS,
        *cells("out"),
        per_row("lse"),
    ),
    THREADS,
    registers=128,
    shared=SHARED,
)
BACKWARD_ROWS = Kernel(
    SOURCE,
    "attention_tiles_backward_rows",
    (
        *cells("q", "k", "v"),
        INDPTR,
        *_TILES,
        *_OF_TILES,
        per_edge("bias"),
        *cells("out"),
        per_row("lse"),
        *cells("grad"),
        *NUMBERS,
        *cells("grad_q"),
        per_edge("grad_bias"),
        per_edge("weight"),
        per_row("delta"),
    ),
    THREADS,
    registers=128,
    shared=SHARED,
)
BACKWARD_COLUMNS = Kernel(
    SOURCE,
    "attention_tiles_backward_columns",
    (
        *cells("q", "grad"),
        PTR,
        *_TILES,
        *_OF_TILES,
        ORDER,
        per_edge("grad_bias"),
        per_edge("weight"),
        *SIZES,
        *cells("grad_k", "grad_v"),
    ),
    THREADS,
    registers=128,
    shared=SHARED,
)
KERNELS = (FORWARD, BACKWARD_ROWS, BACKWARD_COLUMNS)


@dataclass(frozen=True)
class Tiles:
    """Of every 32 rows of a graph, its distinct columns in ascending order, and each edge's place among them.

    ptr (T + 1,) int64, columns (S,) int32, local (E,) uint8 where no tile has more than 256 columns, else int16.
    """

    ptr: Tensor
    columns: Tensor
    local: Tensor


def defines(
    heads: int, width: int, dtype: torch.dtype, local: torch.dtype = torch.uint8, dropout: bool = False
) -> dict[str, int | str]:
    """Eight lanes a row, for as many heads as have room in them; other blocks take the other heads."""
    how = lanes(heads, width, dtype, ROW_LANES)
    slots = ROW_LANES // how["GROUP"]
    chunk = min(256, SHARED // (2 * slots * width * dtype.itemsize))
    return how | dict(SLOTS=slots, CHUNK=chunk, LOCAL=VALUE_OF[local], DROPOUT=int(dropout), THREADS=THREADS)


PACKED = tuple(
    defines(heads, width, dtype, local)
    for dtype in (torch.float32, torch.bfloat16)
    for heads, width in ((2, 16), (4, 8), (4, 16), (4, 32), (4, 64))
    for local in (torch.uint8, torch.int16)
)


def chosen(q_NHD: Tensor, indptr: Tensor, indices: Tensor) -> Tiles | None:
    """The graph's tiles where the tile kernels should run: the heads fill their lanes, and `worthwhile` says so."""
    _, heads, width = q_NHD.shape
    how = defines(heads, width, q_NHD.dtype)
    fits = heads >= how["SLOTS"] and channels_a_lane(how) <= MOST_CHANNELS_A_LANE
    return worthwhile(indptr, indices) if fits else None


@kept
def worthwhile(indptr: Tensor, indices: Tensor) -> Tiles | None:
    """The tiles of a graph of 16384 rows and more whose tiles use each column for two edges on average, else None.

    None as well where `tiling` has none. Made once a graph: sorts of E 64-bit numbers in parts, some 80 bytes an edge
    and, where rows are alike, 5 GiB at most for the moment, 1 or 2 bytes an edge to keep, and four looks of the host at
    the device for each part. The answer depends on the graph alone, so that a resumed run computes the same.
    """
    made = tiling(indptr, indices) if indptr.numel() > LEAST_ROWS else None
    return made if made is not None and indices.numel() >= REUSE * made.columns.numel() else None


def tiling(indptr: Tensor, indices: Tensor) -> Tiles | None:
    """Tiles of a CSR; None without edges, where columns do not ascend within rows, or of more than 32768 of a tile."""
    n, edges = indptr.numel() - 1, indices.numel()
    step = ROWS * max(1, n * EDGES_AT_ONCE // max(edges, 1) // ROWS)
    parts = [_part(indptr[first : first + step + 1], indices, n) for first in range(0, n, step)]
    if edges == 0 or None in parts:
        return None
    counts, columns, local = (torch.cat(x) for x in zip(*parts))
    small = int(counts.max()) <= 256
    return Tiles(torch.cat((counts.new_zeros(1), counts.cumsum(0))), columns, local.to(torch.uint8) if small else local)


def both_tilings(indptr: Tensor, indices: Tensor) -> tuple[Tiles | None, Tiles | None]:
    """The tiles of a graph, and of the same graph by sender."""
    return tiling(indptr, indices), tiling(*by_sender(indptr, indices)[:2])


def _part(indptr: Tensor, indices: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Columns a tile, the columns, and int16 places of some rows' edges."""
    first, last = indptr[[0, -1]].tolist()
    columns, tiles = indices[first:last], blocks_for(indptr.numel() - 1, ROWS)
    rows = torch.arange(indptr.numel() - 1, device=indptr.device).repeat_interleave(
        indptr.diff(), output_size=last - first
    )
    if bool((torch.diff(rows * n + columns) < 0).any()):
        return None
    tile = rows // ROWS
    distinct, place = torch.unique(tile * n + columns, return_inverse=True)
    ptr = torch.searchsorted(distinct, n * torch.arange(tiles + 1, device=indptr.device))
    if int(ptr.diff().max()) > INT16_PLACES:
        return None
    return ptr.diff(), (distinct % n).to(torch.int32), (place - ptr[tile]).to(torch.int16)


def run(kernel: Kernel, drops: bool, cells: tuple[Tensor, ...], indptr: Tensor, tiles: Tiles, *rest) -> None:
    """Launch one of KERNELS on arrays (N, H, D); `rest` is what follows the tiles' sizes."""
    n, heads, width = cells[0].shape
    how = defines(heads, width, cells[0].dtype, tiles.local.dtype, drops)
    blocks = blocks_for(n, ROWS) * blocks_for(heads, how["SLOTS"])
    sizes = tiles.ptr.numel() - 1, tiles.columns.numel()
    launch(kernel, how, blocks, *cells, indptr, tiles.ptr, tiles.columns, tiles.local, *sizes, *rest)
