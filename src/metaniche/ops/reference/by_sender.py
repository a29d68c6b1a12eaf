"""The edges of a CSR by sender, by a stable sort."""

from __future__ import annotations

import torch
from torch import Tensor


def by_sender(indptr: Tensor, indices: Tensor, n_senders: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `metaniche.ops.by_sender`. No look of the host at the values, so that it serves on a GPU as well."""
    senders, edges = torch.sort(indices, stable=True)
    ptr = torch.searchsorted(senders, torch.arange(n_senders + 1, device=indices.device, dtype=senders.dtype))
    rows = torch.arange(indptr.numel() - 1, device=indices.device, dtype=torch.int32)
    receivers = rows.repeat_interleave(indptr.diff(), output_size=indices.numel())
    return ptr, receivers[edges], edges
