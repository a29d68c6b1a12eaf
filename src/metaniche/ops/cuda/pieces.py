"""Long segments cut into pieces, so that every warp or block has about the same to do."""

from __future__ import annotations

import torch
from torch import Tensor

LENGTH = 2048


def cut(ptr: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces of at most `most` entries of the segments `ptr[s]:ptr[s + 1]`.

    Parameters
    ----------
    ptr
        (S + 1,) int64, ascending from 0.

    Returns
    -------
    (M + 1,) int64 first entry of each piece, with the end; (S + 1,) int64 first piece of each segment, with the end;
    (M,) int64 segment of each piece. An empty segment has no piece.
    """
    counts = (ptr.diff() + most - 1) // most
    piece_ptr = torch.cat((ptr.new_zeros(1), counts.cumsum(0)))
    segment = torch.arange(len(counts), device=ptr.device).repeat_interleave(counts)
    within = torch.arange(len(segment), device=ptr.device) - piece_ptr[segment]
    return torch.cat((ptr[segment] + within * most, ptr[-1:])), piece_ptr, segment


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
