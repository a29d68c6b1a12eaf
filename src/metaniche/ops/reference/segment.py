"""Segment operations on torch.segment_reduce."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def segment_sum(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """See `metaniche.ops.segment_sum`."""
    return torch.segment_reduce(x_ED.contiguous(), "sum", offsets=indptr, axis=0, unsafe=True)


def segment_mean(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """See `metaniche.ops.segment_mean`."""
    counts = indptr.diff().clamp(min=1).to(x_ED.dtype)
    return segment_sum(x_ED, indptr) / counts.view(-1, *[1] * (x_ED.ndim - 1))


def segment_max(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """See `metaniche.ops.segment_max`."""
    top = torch.segment_reduce(x_ED.contiguous(), "max", offsets=indptr, axis=0, unsafe=True, initial=-math.inf)
    empty = (indptr.diff() == 0).view(-1, *[1] * (x_ED.ndim - 1))
    return top.masked_fill(empty, 0.0)


def segment_softmax(logit_EH: Tensor, indptr: Tensor) -> Tensor:
    """See `metaniche.ops.segment_softmax`."""
    weight = (logit_EH - _spread(segment_max(logit_EH.detach(), indptr), indptr, len(logit_EH))).exp()
    return weight / _spread(segment_sum(weight, indptr), indptr, len(logit_EH))


def _spread(x_RD: Tensor, indptr: Tensor, n_entries: int) -> Tensor:
    """(E, ...) the value of each entry's row."""
    return x_RD.repeat_interleave(indptr.diff(), dim=0, output_size=n_entries)
