"""Rows of a CSR cut into pieces of bounded length, so that one long row does not keep a single warp busy."""

from __future__ import annotations

import torch
from torch import Tensor

LENGTH = 2048


def pieces(indptr: Tensor, n_entries: int, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    """Pieces of at most `length` entries, and which of them each row has.

    Returns (Q + 1,) int64 bounds of the pieces in the entries and (R + 1,) int64 bounds of the rows in the pieces.
    Q = R + `n_entries` // `length` is known without a look at the values; pieces that no row needs are empty.
    """
    most = indptr.numel() - 1 + n_entries // length
    of_row = torch.cat((indptr.new_zeros(1), ((indptr.diff() + length - 1) // length).cumsum(0)))
    number = torch.arange(most + 1, device=indptr.device)
    row = torch.searchsorted(of_row, number, right=True) - 1
    bounds = indptr[row] + (number - of_row[row]) * length
    return bounds.clamp(max=n_entries), of_row
