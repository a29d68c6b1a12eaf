"""Complexes with plain tensors, and sparse rows laid out densely."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

ROWS_A_BLOCK = 1024


def complex_expression(x: Expression, ptr: Tensor, genes: Tensor, geometric: bool) -> Tensor:
    """See `metaniche.ops.complex_expression`."""
    n, c = x.shape[0], ptr.numel() - 1
    out = torch.cat([_of_rows(x, torch.arange(*rows), ptr, genes, geometric) for rows in blocks(n)] or [_none(c)])
    if x.ptr is None:
        return out
    return csr(*nonzero(out), (n, c))


def blocks(n: int, rows: int = ROWS_A_BLOCK) -> list[tuple[int, int]]:
    """[start, stop) of consecutive rows."""
    return [(start, min(start + rows, n)) for start in range(0, n, rows)]


def take_rows(x: Expression, rows: Tensor) -> Tensor:
    """(len(rows), G) float64, dense; rows may repeat."""
    if x.ptr is None:
        return x.values.detach()[rows].double()
    ptr = x.ptr
    counts = (ptr[1:] - ptr[:-1])[rows]
    row = torch.arange(len(rows), device=rows.device).repeat_interleave(counts)
    start = torch.cat((counts.new_zeros(1), counts.cumsum(0)[:-1])) if len(rows) else counts
    entry = torch.arange(len(row), device=rows.device) - start[row] + ptr[rows][row]
    out = torch.zeros(len(rows), x.shape[1], dtype=torch.float64, device=rows.device)
    out[row, x.columns[entry].long()] = x.values.detach()[entry].double()
    return out


def nonzero(x_NG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pointers, columns and values of what is not 0 in each row; on a GPU the host looks once."""
    x_NG = x_NG.detach()
    row, column = x_NG.nonzero().unbind(1)
    ptr = torch.searchsorted(row, torch.arange(len(x_NG) + 1, device=row.device))
    return ptr, column.to(torch.int32), x_NG[row, column]


def csr(ptr: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A torch.sparse_csr matrix with int64 pointers and columns."""
    with warnings.catch_warnings():
        # torch says once that its CSR layout is in beta; only its storage is used here.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(ptr, columns.long(), values, shape, check_invariants=False)


def _of_rows(x: Expression, rows: Tensor, ptr: Tensor, genes: Tensor, geometric: bool) -> Tensor:
    subunits = take_rows(x, rows.to(x.values.device))[:, genes.long()].t().contiguous()
    how = "prod" if geometric else "min"
    out = torch.segment_reduce(subunits, how, offsets=ptr, axis=0, unsafe=True).t()
    if geometric:
        out = out ** (1 / ptr.diff().double())
    return out.float()


def _none(c: int) -> Tensor:
    return torch.empty(0, c)
