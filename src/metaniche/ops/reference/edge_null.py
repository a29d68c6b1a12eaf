"""Sums of edge scores with scipy's sparse matrices."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor


def edge_sums(indptr: Tensor, indices: Tensor, score_E: Tensor, type_N: Tensor, n_types: int) -> tuple[Tensor, Tensor]:
    """The six sums of `metaniche.ops.edge_scores_null` in its order, and (T, T) sums, sender type first."""
    n = indptr.numel() - 1
    w = csr_matrix((score_E.cpu().numpy(), indices.cpu().numpy(), indptr.cpu().numpy()), shape=(n, n))
    rows, columns = (np.asarray(w.sum(axis)).ravel() for axis in (1, 0))
    six = (
        w.sum(), w.multiply(w).sum(), w.multiply(w.T).sum(), (rows**2).sum(), (columns**2).sum(), (rows * columns).sum()
    )  # fmt: skip
    types = type_N.cpu().numpy().astype(np.int64)
    receiver = np.repeat(types, np.diff(w.indptr))
    by_type = np.bincount(types[w.indices] * n_types + receiver, weights=w.data, minlength=n_types**2)
    return torch.tensor([float(x) for x in six], dtype=torch.float64), torch.from_numpy(
        by_type.astype(np.float64)
    ).view(n_types, n_types)
