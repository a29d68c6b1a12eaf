"""Ligand-receptor signals in float64, a few rows of all their pairs at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaniche.ops.reference.expression import blocks, take_rows

if TYPE_CHECKING:
    from metaniche.ops.ligrec import Signal

ROWS_A_BLOCK = 64


def signal(x: Signal, slot_P: Tensor, n_slots: int, first: int, count: int) -> Tensor:
    """(count, n_slots) float32 sums over the senders and the pairs of each slot."""
    out = torch.zeros(count, n_slots, dtype=torch.float64, device=x.device)
    for start, stop in blocks(count, ROWS_A_BLOCK):
        rows = torch.arange(first + start, first + stop, device=x.device)
        edge, row = _edges(x, rows)
        summed = _summed(x, rows, edge, row, row, len(rows))
        out[start:stop].index_add_(1, slot_P.long(), summed)
    return out.float()


def type_pair_sums(x: Signal, type_N: Tensor, n_types: int) -> tuple[Tensor, Tensor]:
    """See `metaniche.ops.type_pair_sums`."""
    types = type_N.long()
    n_pairs = x.near_P.numel()
    sums = torch.zeros(n_types, n_types, n_pairs, dtype=torch.float64, device=x.device)
    edges = torch.zeros(n_types * n_types, dtype=torch.int64, device=x.device)
    for rows, edge, row in _row_blocks(x):
        sender = types[x.indices[edge].long()]
        edges += torch.bincount(sender * n_types + types[rows][row], minlength=n_types * n_types)
        summed = _summed(x, rows, edge, row, row * n_types + sender, len(rows) * n_types)
        sums.index_add_(1, types[rows], summed.view(len(rows), n_types, n_pairs).transpose(0, 1))
    return sums, edges.view(n_types, n_types)


def _row_blocks(x: Signal) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for start, stop in blocks(x.n_cells, ROWS_A_BLOCK):
        rows = torch.arange(start, stop, device=x.device)
        yield rows, *_edges(x, rows)


def _edges(x: Signal, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the edges of consecutive rows, and the row of each counted from the first."""
    ptr = x.indptr[int(rows[0]) : int(rows[-1]) + 2]
    edge = torch.arange(int(ptr[0]), int(ptr[-1]), device=x.device)
    return edge, torch.arange(len(rows), device=x.device).repeat_interleave(ptr.diff())


def _summed(x: Signal, rows: Tensor, edge: Tensor, row: Tensor, key: Tensor, n_keys: int) -> Tensor:
    """(n_keys, P) signals of the edges, summed by key; keys come in runs of n_keys / len(rows) for each row."""
    far, near = take_rows(x.far, x.indices[edge].long()), take_rows(x.near, rows)[:, x.near_P.long()]
    weight = x.weight_E.detach()[edge].double()[:, None]
    far_P = x.far_P.long()
    if x.half_saturation is None:
        around = torch.zeros(n_keys, far.shape[1], dtype=torch.float64, device=x.device).index_add_(
            0, key, weight * far
        )
        return around[:, far_P] * near.repeat_interleave(n_keys // len(rows), dim=0)
    power = (far[:, far_P] * near[row] / x.half_saturation) ** x.exponent
    out = torch.zeros(n_keys, x.near_P.numel(), dtype=torch.float64, device=x.device)
    return out.index_add_(0, key, weight * power / (1 + power))
