"""Expression and pairs as the ligand-receptor kernels read them: CSR rows over genes that fit shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaniche.ops.cuda.specs import Array
from metaniche.ops.kept import kept
from metaniche.ops.reference.expression import nonzero

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

THREADS = 128
SHARED = 48 << 10
# Bytes that a block keeps of the edges at hand: where their senders' expression begins and ends.
SENDERS = THREADS * 16
STEP = 64


_rows = kept(nonzero)


@dataclass(frozen=True)
class Side:
    """Expression of one side, and each pair's gene on it."""

    ptr: Tensor
    """(N + 1,) int64."""
    columns: Tensor
    """(nnz,) int32."""
    values: Tensor
    """(nnz,)."""
    genes: int
    """Columns."""
    gene_P: Tensor
    """(P,) int32."""

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.ptr, self.columns, self.values


def cells(name: str) -> tuple[Array, Array, Array]:
    """The specs of the rows of a side; a kernel counts `cells` and the entries of each side."""
    entries = (f"{name}_entries",)
    return (
        Array(f"{name}_ptr", torch.int64, ("cells+1",)),
        Array(f"{name}_columns", torch.int32, entries),
        Array(f"{name}_values", None, entries),
    )


def side(x: Expression, gene_P: Tensor) -> Side:
    """The rows with all their genes. Those of a dense matrix that no gradient goes to stay as long as the matrix does."""
    if x.ptr is None and not x.values.requires_grad:
        return Side(*_rows(x.values), x.shape[1], gene_P)
    x = x.sparse()
    return Side(x.ptr.contiguous(), x.columns.contiguous(), x.values.detach().contiguous(), x.shape[1], gene_P)


def named(x: Side) -> Side:
    """The same side with only the genes that pairs name, numbered anew; at most one a pair."""
    used = torch.zeros(x.genes, dtype=torch.bool, device=x.columns.device)
    used[x.gene_P.long()] = True
    place = (used.cumsum(0) - 1).to(torch.int32)
    keep = used[x.columns.long()]
    before = torch.cat((x.ptr.new_zeros(1), keep.cumsum(0)))
    genes = min(x.genes, x.gene_P.numel())
    return Side(before[x.ptr], place[x.columns[keep].long()], x.values[keep], genes, place[x.gene_P.long()])


def room(genes: int) -> int:
    """Genes that shared memory is laid out for: few sizes, so that few variants are compiled."""
    return max(STEP, -(-genes // STEP) * STEP)
