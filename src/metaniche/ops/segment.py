"""Sums, means, maxima and softmax over the rows of a CSR, each row in one fixed order."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.reference import segment as reference


def segment_sum(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) sum of the entries `indptr[r]:indptr[r + 1]` of `x_ED` (E, ...); an empty row gives 0."""
    check_rows(indptr, x_ED.shape[0])
    return reference.segment_sum(x_ED, indptr)


def segment_mean(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) mean of each row's entries; an empty row gives 0."""
    check_rows(indptr, x_ED.shape[0])
    return reference.segment_mean(x_ED, indptr)


def segment_max(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) maximum of each row's entries; an empty row gives 0. Tied entries share the gradient."""
    check_rows(indptr, x_ED.shape[0])
    return reference.segment_max(x_ED, indptr)


def segment_softmax(logit_EH: Tensor, indptr: Tensor) -> Tensor:
    """(E, ...) softmax of the logits within each row."""
    check_rows(indptr, logit_EH.shape[0])
    return reference.segment_softmax(logit_EH, indptr)


def check_rows(indptr: Tensor, n_entries: int) -> None:
    """Raise GraphError unless `indptr` is (R + 1,) int64 and ascends from 0 to `n_entries`.

    The values are looked at on the CPU only: on an accelerator that would stop the stream.
    """
    if indptr.dtype != torch.int64 or indptr.ndim != 1 or indptr.numel() < 1:
        raise GraphError(
            f"Expected `indptr` to be int64 of shape (R + 1,), found {indptr.dtype} of {tuple(indptr.shape)}."
        )
    if indptr.device.type != "cpu":
        return
    if indptr[0] != 0 or indptr[-1] != n_entries or (indptr.diff() < 0).any():
        raise GraphError(
            f"Expected `indptr` to ascend from 0 to the {n_entries} entries, found {int(indptr[0])}..{int(indptr[-1])}."
        )


def check_graph(indptr: Tensor, indices: Tensor, n_cells: int) -> None:
    """Raise GraphError unless `indptr` and `indices` are the CSR of a graph on `n_cells` cells.

    The values are looked at on the CPU only, as in `check_rows`.
    """
    if indices.dtype != torch.int32 or indices.ndim != 1 or indptr.numel() != n_cells + 1:
        raise GraphError(
            f"Expected `indptr` of {n_cells + 1} entries and `indices` (E,) int32, "
            f"found {indptr.numel()} entries and {tuple(indices.shape)} {indices.dtype}."
        )
    check_rows(indptr, indices.numel())
    if indices.device.type == "cpu" and indices.numel():
        low, high = (int(bound) for bound in torch.aminmax(indices))
        if low < 0 or high >= n_cells:
            raise GraphError(f"Expected senders in [0, {n_cells}), found {low}..{high}.")
