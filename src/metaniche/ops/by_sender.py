"""The edges of a CSR by sender: the transposed graph, with the number of every edge."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metaniche.ops.backend import choose, dense, native
from metaniche.ops.expression import check_indices
from metaniche.ops.kept import kept
from metaniche.ops.reference import by_sender as reference
from metaniche.ops.segment import check_rows


class BySender(NamedTuple):
    """A CSR of senders: the edges `edges[indptr[j]:indptr[j + 1]]` leave j, ascending."""

    indptr: Tensor
    """(S + 1,) int64."""
    receivers: Tensor
    """(E,) int32."""
    edges: Tensor
    """(E,) int64 place of each edge in the CSR of receivers."""


@kept
def by_sender(indptr: Tensor, indices: Tensor, n_senders: int | None = None) -> BySender:
    """The edges of the CSR (N + 1,) int64 `indptr` and (E,) int32 `indices` by sender, made once a graph.

    There are as many senders as rows, or `n_senders`; GraphError where `indices` has others (on the CPU).

    What is found, 12 bytes an edge, stays as long as `indices` does: every layer and pair of a network that passes
    gradients to senders asks for it. See `ops.kept` for which writes to `indices` are seen. On a GPU torch sorts.
    """
    n_senders = indptr.numel() - 1 if n_senders is None else n_senders
    check_indices(indices, n_senders, "indices")
    check_rows(indptr, indices.numel())
    if choose("by_sender", indices.device) != "cpu":
        return BySender(*reference.by_sender(indptr, indices, n_senders))
    ptr, edges = (torch.empty(size, dtype=torch.int64) for size in (n_senders + 1, indices.numel()))
    found = BySender(ptr, torch.empty_like(edges, dtype=torch.int32), edges)
    native().by_sender(*dense(indptr, indices), *found)
    return found
