"""Raw moments of expression by type and by pair on a GPU: `csrc/cuda/label_moments.cu`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaniche.ops.cuda.by_gene import ByGene, by_gene
from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.pieces import cut
from metaniche.ops.cuda.segment import segment_sum
from metaniche.ops.cuda.specs import Array, Kernel, Scalar

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

SOURCE, THREADS = "label_moments", 256
ENTRIES_A_PIECE = 2048

_STARTS = Array("starts", torch.int64, ("pieces+1",))
_VALUES = Array("values", torch.float32, ("entries",))
_SUMS = Array("sums", torch.float64, ("pieces", "SUMS"))
GENES = Kernel(
    SOURCE,
    "gene_powers",
    (_VALUES, _STARTS, Scalar("entries"), Scalar("pieces"), _SUMS),
    THREADS,
    registers=64,
)
PAIRS = Kernel(
    SOURCE,
    "pair_powers",
    (
        Array("cells", torch.int32, ("entries",)),
        _VALUES,
        Array("ptr", torch.int64, ("genes+1",)),
        Array("shorter", torch.int32, ("pairs",)),
        Array("longer", torch.int32, ("pairs",)),
        Array("offset", torch.int64, ("pairs+1",)),
        _STARTS,
        Array("pair", torch.int64, ("pieces",)),
        *(Scalar(name) for name in ("entries", "genes", "pairs", "pieces")),
        _SUMS,
    ),
    THREADS,
    registers=64,
)
KERNELS = (GENES, PAIRS)
DEFINES = dict(SUMS=3, THREADS=THREADS)
PACKED = (DEFINES,)


def raw_moments(
    x: Expression, type_N: Tensor, n_types: int, lig_P: Tensor, rec_P: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(G, 3) sums of x, x^2 and x^3; (T, G) sums by type; (P, 3) sums of x y, x^2 y and x y^2; float64.

    Genes of no pair are left at 0.
    """
    genes = torch.unique(torch.cat((lig_P, rec_P))).long()
    place = torch.full((x.shape[1],), -1, dtype=torch.int32, device=genes.device)
    place[genes] = torch.arange(len(genes), dtype=torch.int32, device=genes.device)
    # In the order of their types, so that a type's cells are a run of each gene's entries.
    order = torch.sort(type_N, stable=True).indices
    entries = by_gene(x, genes, order)
    powers_3GT = _powers_by_type(entries, type_N, n_types)
    powers, by_type = (
        entries.values.new_zeros(shape, dtype=torch.float64) for shape in ((x.shape[1], 3), (n_types, x.shape[1]))
    )
    powers[genes] = powers_3GT.sum(2).t()
    by_type[:, genes] = powers_3GT[0].t()
    return powers, by_type, _powers_of_pairs(entries, place[lig_P.long()], place[rec_P.long()])


def _powers_by_type(x: ByGene, type_N: Tensor, n_types: int) -> Tensor:
    """(3, genes, T) sums of x, x^2 and x^3; the cells are numbered type by type."""
    genes, n = len(x.ptr) - 1, type_N.numel()
    first_T = torch.bincount(type_N, minlength=n_types).cumsum(0)
    key = torch.arange(genes, device=x.ptr.device).repeat_interleave(x.ptr.diff()) * n + x.cells
    ends = torch.searchsorted(key, (torch.arange(genes, device=key.device)[:, None] * n + first_T).flatten())
    starts, piece_ptr, _ = cut(torch.cat((ends.new_zeros(1), ends)), ENTRIES_A_PIECE)
    pieces = len(starts) - 1
    sums = x.values.new_empty(pieces, 3, dtype=torch.float64)
    launch(GENES, DEFINES, blocks_for(pieces, THREADS // 32), x.values, starts, len(x.values), pieces, sums)
    return segment_sum(sums, piece_ptr).t().view(3, genes, n_types)


def _powers_of_pairs(x: ByGene, lig_P: Tensor, rec_P: Tensor) -> Tensor:
    """(P, 3) sums of x y, x^2 y and x y^2 with x the ligand and y the receptor."""
    count = x.ptr.diff()
    turned = count[lig_P.long()] > count[rec_P.long()]
    shorter, longer = torch.where(turned, rec_P, lig_P), torch.where(turned, lig_P, rec_P)
    ends = count[shorter.long()].cumsum(0)
    offset = torch.cat((ends.new_zeros(1), ends))
    starts, piece_ptr, pair = cut(offset, ENTRIES_A_PIECE)
    pieces = len(pair)
    sums = x.values.new_empty(pieces, 3, dtype=torch.float64)
    given = x.cells, x.values, x.ptr, shorter, longer, offset, starts, pair
    sizes = len(x.values), len(count), len(lig_P), pieces
    launch(PAIRS, DEFINES, blocks_for(pieces, THREADS // 32), *given, *sizes, sums)
    cross = segment_sum(sums, piece_ptr)
    return torch.where(turned[:, None], torch.cat((cross[:, :1], cross[:, 1:].flip(1)), 1), cross)
