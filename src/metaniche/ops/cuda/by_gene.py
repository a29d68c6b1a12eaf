"""Expression gene by gene: the cells where it is not 0, ascending."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

GENES_A_BLOCK = 64


class ByGene(NamedTuple):
    """Entry e of gene g, `ptr[g] <= e < ptr[g + 1]`, is the value of one cell."""

    ptr: Tensor
    """(genes + 1,) int64."""
    cells: Tensor
    """(entries,) int32, ascending for each gene."""
    values: Tensor
    """(entries,) float32, none of them 0."""


def by_gene(x: Expression, genes: Tensor, order: Tensor | None = None) -> ByGene:
    """The entries of the columns `genes` (int64, without repetition); cells are numbered by their place in `order`."""
    gene, cells, values = (_of_dense if x.ptr is None else _of_sparse)(x, genes, order)
    ends = torch.bincount(gene, minlength=len(genes)).cumsum(0)
    return ByGene(torch.cat((ends.new_zeros(1), ends)), cells.to(torch.int32), values)


def _of_dense(x: Expression, genes: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    found = [(genes[:0], genes[:0], x.values.new_empty(0))]
    for first in range(0, len(genes), GENES_A_BLOCK):
        part = x.values[:, genes[first : first + GENES_A_BLOCK]].t()
        part = part if order is None else part[:, order]
        gene, cells = torch.nonzero(part, as_tuple=True)
        found.append((gene + first, cells, part[gene, cells]))
    return tuple(torch.cat(parts) for parts in zip(*found))


def _of_sparse(x: Expression, genes: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    n = x.shape[0]
    cells = torch.arange(n, device=genes.device)
    cells = cells if order is None else torch.empty_like(order).index_copy_(0, order, cells)
    place = torch.full((x.shape[1],), -1, device=genes.device).index_copy_(
        0, genes, torch.arange(len(genes), device=genes.device)
    )
    gene = place[x.columns.long()]
    kept = torch.nonzero((gene >= 0) & (x.values != 0)).flatten()
    gene, cells = gene[kept], cells.repeat_interleave(x.ptr.diff(), output_size=x.columns.numel())[kept]
    sorted_ = torch.argsort(gene * n + cells)
    return gene[sorted_], cells[sorted_], x.values[kept][sorted_]
