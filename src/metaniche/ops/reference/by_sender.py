"""The edges of a CSR by sender, by a stable sort."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.grouped import grouped


def by_sender(indptr: Tensor, indices: Tensor, n_senders: int) -> tuple[Tensor, Tensor, Tensor]:
    """See `metaniche.ops.by_sender`. It serves on a GPU as well."""
    ptr, edges = grouped(indices, n_senders)
    rows = torch.arange(indptr.numel() - 1, device=indices.device, dtype=torch.int32)
    receivers = rows.repeat_interleave(indptr.diff(), output_size=indices.numel())
    return ptr, receivers[edges], edges
