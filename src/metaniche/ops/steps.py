"""Expression as whole steps of 16 bits, so that its sums are exact whatever their order; and what that rounds away."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from metaniche.ops.expression import Expression
from metaniche.ops.reference.expression import take_rows

log = logging.getLogger(__name__)

LARGEST = 2**15 - 1
# A gene is told of where more than this share of its values other than 0 changes by more than this share of itself.
VALUES, CHANGE = 0.05, 0.01
CELLS_LOOKED_AT, ROWS_AT_ONCE = 1024, 64


def steps_of(x: Expression, genes: Tensor, largest: Tensor, whole: Tensor) -> Tensor:
    """(genes,) float64 what one step of each of `genes` stands for: 1 for whole numbers that fit.

    `largest` absolute value of each, and whether all its values are `whole` numbers. One outlier makes steps coarse for all
    other cells: a warning says of how many genes, as far as some cells tell.
    """
    exact = (whole & (largest <= LARGEST)) | (largest == 0)
    scale = torch.where(exact, 1.0, largest / LARGEST)
    if not bool(exact.all()):
        coarse = _coarse(x, genes[~exact], scale[~exact])
        if coarse:
            log.warning(
                "More than %.0f %% of the non-zero values of %d genes round by over %.0f %%: values are kept to 15 bits of "
                "their gene's largest, and a few are far larger than most. Cap them, take logarithms, or take the closed form.",
                100 * VALUES, coarse, 100 * CHANGE,
            )  # fmt: skip
    return scale


def _coarse(x: Expression, genes: Tensor, scale: Tensor) -> int:
    """How many of these genes are to be told of, by some of the cells."""
    rows = torch.linspace(0, x.shape[0] - 1, min(x.shape[0], CELLS_LOOKED_AT), device=scale.device).long()
    changed, stored = (torch.zeros(len(genes), dtype=torch.int64, device=scale.device) for _ in range(2))
    for some in rows.split(ROWS_AT_ONCE):  # all genes of a cell stand side by side for a moment
        value = take_rows(x, some)[:, genes]
        changed += (((value / scale).round() * scale - value).abs() > CHANGE * value.abs()).sum(0)
        stored += (value != 0).sum(0)
    return int((changed > VALUES * stored).sum())
