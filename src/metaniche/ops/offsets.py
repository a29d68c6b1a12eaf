"""Genes that lie far from 0 beside how much they vary, brought near it, so that no moment of them cancels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metaniche.ops.expression import Expression
from metaniche.ops.reference.expression import take_rows

ROWS_LOOKED_AT = 64


def without_offsets(x: Expression, genes: Tensor) -> tuple[Expression, Tensor]:
    """The expression less (G,) float64 offsets: the least value of each of `genes` whose values are all within twice it.

    Differences of such numbers are exact. Genes that express nothing somewhere have the offset 0, and so has every gene of
    most counts, which a few cells tell: then nothing is copied.
    """
    offset_G = torch.zeros(x.shape[1], dtype=torch.float64, device=x.values.device)
    if not x.shape[0]:
        return x, offset_G
    some = torch.linspace(0, x.shape[0] - 1, min(x.shape[0], ROWS_LOOKED_AT), device=x.values.device).long()
    low_G, high_G = torch.aminmax(take_rows(x, some), dim=0)
    wanted_G = torch.zeros_like(offset_G, dtype=torch.bool)
    wanted_G[genes.long()] = True
    wanted_G &= _far(low_G, high_G)
    if not bool(wanted_G.any()):
        return x, offset_G
    low_G, high_G = torch.aminmax(x.values.detach(), dim=0) if x.ptr is None else _sparse_bounds(x, wanted_G)
    offset_G = torch.where(wanted_G & _far(low_G, high_G), low_G.double(), offset_G)
    off = offset_G.to(x.values.dtype)
    return replace(x, values=x.values.detach() - (off if x.ptr is None else off[x.columns.long()])), offset_G


def least_of_genes(x: Expression) -> Tensor:
    """(G,) least value of each gene; what no cell stores is 0."""
    values = x.values.detach()
    if x.ptr is None:
        return values.amin(0)
    least = values.new_zeros(x.shape[1]).scatter_reduce(0, x.columns.long(), values, "amin", include_self=False)
    stored = torch.bincount(x.columns.long(), minlength=x.shape[1])
    return torch.where(stored < x.shape[0], least.clamp(max=0.0), least)


def _far(low: Tensor, high: Tensor) -> Tensor:
    return ((low > 0) & (high <= 2 * low)) | ((high < 0) & (low >= 2 * high))


def _sparse_bounds(x: Expression, wanted_G: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest value of each wanted gene; 0 for a gene that not every cell stores."""
    own = wanted_G[x.columns.long()]
    columns, values = x.columns[own].long(), x.values.detach()[own]
    bounds = (
        values.new_zeros(x.shape[1]).scatter_reduce(0, columns, values, how, include_self=False)
        for how in ("amin", "amax")
    )
    everywhere = torch.bincount(columns, minlength=x.shape[1]) == x.shape[0]
    return tuple(torch.where(everywhere, bound, 0.0) for bound in bounds)
