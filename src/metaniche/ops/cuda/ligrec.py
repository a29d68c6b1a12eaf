"""Ligand-receptor signals on a GPU: `csrc/cuda/ligrec.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaniche.ops.cuda import pieces, segment
from metaniche.ops.cuda.genes import SENDERS, SHARED, THREADS, Side, cells, named, room, side
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.specs import VALUE_OF, Array, Kernel, Scalar
from metaniche.ops.grouped import grouped

if TYPE_CHECKING:
    from metaniche.ops.ligrec import Signal

SOURCE = "ligrec"
MOST_TILE = 2048
# Genes that are laid out whether pairs name them or not.
ANY_GENES = 1024
# Edges of a piece: enough to make up for its sums of every pair; more where there would be too many pieces.
EDGES_A_PIECE, MOST_PIECES = 4096, 4096

_PAIRS = (
    Array("pair_ptr", torch.int64, ("near_genes+1",)),
    Array("pair_far", torch.int32, ("pairs",)),
    Array("pair_place", torch.int32, ("pairs",)),
)
_SIZES = tuple(Scalar(name) for name in ("cells", "far_entries", "near_entries", "near_genes", "pairs"))
_HILL = (Scalar("inverse_half", "f32"), Scalar("exponent", "f32"))
SIGNAL = Kernel(
    SOURCE,
    "ligrec_signal",
    (
        *cells("far"),
        *cells("near"),
        *_PAIRS,
        Array("slot_ptr", torch.int64, ("slots+1",)),
        Array("indptr", torch.int64, ("cells+1",)),
        Array("indices", torch.int32, ("edges",)),
        Array("weight", None, ("edges",)),
        *_SIZES,
        *(Scalar(name) for name in ("slots", "edges", "first_row", "rows", "share")),
        *_HILL,
        Array("out", torch.float32, ("rows", "slots")),
    ),
    THREADS,
    registers=128,
    shared=SHARED,
)
PAIR_SUMS = Kernel(
    SOURCE,
    "ligrec_pair_sums",
    (
        *cells("far"),
        *cells("near"),
        *_PAIRS,
        Array("receivers", torch.int32, ("edges",)),
        Array("indices", torch.int32, ("edges",)),
        Array("weight", None, ("layers", "edges")),
        Array("piece_ptr", torch.int64, ("pieces+1",)),
        *_SIZES,
        *(Scalar(name) for name in ("edges", "pieces", "layers")),
        *_HILL,
        Array("out", torch.float64, ("pieces", "layers", "pairs")),
    ),
    THREADS,
    registers=128,
    shared=SHARED,
)
KERNELS = (SIGNAL, PAIR_SUMS)


def tile_for(far: int, pairs: int, itemsize: int) -> int:
    """Pairs a block sums up at once, a power of two: all where shared memory has room; 0 if not even for THREADS."""
    tile = min(MOST_TILE, max(THREADS, power_of_two(pairs)))
    while tile >= THREADS and itemsize * room(far) + 8 * tile + SENDERS > SHARED:
        tile //= 2
    return tile if tile >= THREADS else 0


def defines(far: int, pairs: int, dtype: torch.dtype, saturates: bool) -> dict[str, int | str]:
    """How a block of the kernels is laid out for the genes of the far side."""
    tile, value = tile_for(far, pairs, dtype.itemsize), VALUE_OF[dtype]
    return dict(VALUE=value, FAR=room(far), TILE=tile, SATURATES=int(saturates), THREADS=THREADS)


PACKED = tuple(
    defines(genes, pairs, torch.float32, saturates)
    for genes, pairs in ((64, 128), (704, 2000), (1024, 2000))
    for saturates in (False, True)
)


def unable(far: int, pairs: int, itemsize: int = 4) -> str | None:
    """Why the kernels cannot run with so many genes on the far side, or None."""
    found = min(far, pairs)
    return None if tile_for(found, pairs, itemsize) else f"no kernel for pairs of up to {found} far genes"


def fitting(far: Side) -> Side:
    """The side with all its genes, or with the genes that pairs name where those are far fewer or all find no room."""
    pairs = far.gene_P.numel()
    few = far.genes <= max(ANY_GENES, 2 * pairs)
    return far if few and tile_for(far.genes, pairs, far.values.element_size()) else named(far)


def by_near_gene(far: Side, near: Side) -> tuple[Tensor, Tensor, Tensor]:
    """(G + 1,) first pair of each near gene; then, in that order, each pair's far gene and its number."""
    ptr, order = grouped(near.gene_P, near.genes)
    return ptr, far.gene_P[order], order.to(torch.int32)


def signal(x: Signal, slot_P: Tensor, n_slots: int) -> Callable[[int, int], Tensor]:
    """A function of a first row and a count: (count, n_slots) float32 sums over the senders and the pairs of each slot."""
    pairs = x.near_P.numel()
    if pairs == 0:
        return lambda _, count: torch.zeros(count, n_slots, device=x.device)
    slot_ptr, order = grouped(slot_P, n_slots)
    far, near = fitting(side(x.far, x.far_P[order])), side(x.near, x.near_P[order])
    how, hill = _how(x, far)
    share = min(32, power_of_two(-(-pairs // max(n_slots, 1))))
    graph = x.indptr.contiguous(), x.indices.contiguous(), x.weight_E.detach().contiguous()
    given = *far.rows, *near.rows, *by_near_gene(far, near), slot_ptr, *graph, *_sizes(far, near)

    def sums(first: int, count: int) -> Tensor:
        out = torch.empty(count, n_slots, device=x.device)
        launch(SIGNAL, how, count, *given, n_slots, x.indices.numel(), first, count, share, *hill, out)
        return out

    return sums


def type_pair_sums(x: Signal, type_N: Tensor, n_types: int) -> tuple[Tensor, Tensor]:
    """(T, T, P) float64 sums and (T, T) int64 numbers of edges, sender type first.

    The edges are sorted by both types, so that a block meets one place of the result only.
    """
    receivers = receivers_of(x.indptr, x.indices.numel())
    ptr, order = grouped(type_N[x.indices.long()] * n_types + type_N[receivers.long()], n_types**2)
    edges = ptr.diff().view(n_types, n_types)
    far, near = fitting(side(x.far, x.far_P.contiguous())), side(x.near, x.near_P.contiguous())
    how, hill = _how(x, far)
    sorted_edges = receivers[order], x.indices[order], x.weight_E.detach()[order][None]
    sums = pair_sums(far, near, *sorted_edges, ptr, how, hill)
    return sums.view(n_types, n_types, -1), edges


def pair_sums(
    far: Side,
    near: Side,
    receivers: Tensor,
    indices: Tensor,
    weight_ME: Tensor,
    ptr: Tensor,
    how: dict[str, int | str],
    hill: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """(S, M, P) float64 sums of the signals of the edges `ptr[s]:ptr[s + 1]`, with each of M weights of the edges.

    Edges of a receiver stand together; every edge is in one of the S segments.
    """
    pairs, edges, (layers, _) = far.gene_P.numel(), receivers.numel(), weight_ME.shape
    piece_ptr, first_piece, _ = pieces.cut(ptr, max(EDGES_A_PIECE, -(-edges // MOST_PIECES)))
    n_pieces = piece_ptr.numel() - 1
    out = torch.empty(n_pieces, layers, pairs, dtype=torch.float64, device=ptr.device)
    blocks = n_pieces, layers * blocks_for(pairs, how["TILE"])
    numbers = *_sizes(far, near), edges, n_pieces, layers, *hill
    graph = receivers, indices, weight_ME, piece_ptr
    given = *far.rows, *near.rows, *by_near_gene(far, near), *graph
    launch(PAIR_SUMS, how, blocks, *given, *numbers, out)
    return segment.segment_sum(out, first_piece)


def receivers_of(indptr: Tensor, n_edges: int) -> Tensor:
    """(E,) int32 row of each edge."""
    rows = torch.arange(indptr.numel() - 1, device=indptr.device, dtype=torch.int32)
    return rows.repeat_interleave(indptr.diff(), output_size=n_edges)


def _how(x: Signal, far: Side) -> tuple[dict[str, int | str], tuple[float, float]]:
    """The variant of the kernels, and 1 / K with the exponent; 0 stands for the plain product."""
    saturates = x.half_saturation is not None
    how = defines(far.genes, far.gene_P.numel(), torch.float32, saturates)
    return how, (1 / x.half_saturation if saturates else 0.0, x.exponent)


def _sizes(far: Side, near: Side) -> tuple[int, int, int, int]:
    return far.ptr.numel() - 1, far.columns.numel(), near.columns.numel(), near.genes, far.gene_P.numel()
