"""Sparse expression between scipy, which cuts and multiplies it, and torch, in whose CSR layout the ops take it."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import sparse
from torch import Tensor


def to_torch(x: np.ndarray | sparse.sparray | sparse.spmatrix, device: torch.device | str = "cpu") -> Tensor:
    """(N, G) torch.sparse_csr float32, columns ascending; what is 0 is not stored."""
    x = sparse.csr_array(x)
    x.sum_duplicates()
    x.eliminate_zeros()
    pointers, columns = (torch.from_numpy(part.astype(np.int64)) for part in (x.indptr, x.indices))
    parts = pointers, columns, torch.from_numpy(x.data.astype(np.float32))
    return _csr(*(part.to(device) for part in parts), x.shape)


def to_scipy(x: Tensor) -> sparse.csr_array:
    """The same matrix; on the CPU values are shared."""
    parts = (part.numpy(force=True) for part in (x.values(), x.col_indices(), x.crow_indices()))
    return sparse.csr_array(tuple(parts), shape=tuple(x.shape))


def map_values(x: Tensor, values: Tensor) -> Tensor:
    """Other values at the same places."""
    return _csr(x.crow_indices(), x.col_indices(), values, x.shape)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """(M, G) torch.sparse_csr, row m of which is row `rows[m]` of `x`."""
    degree = x.crow_indices().diff()[rows]
    pointers = torch.cat((degree.new_zeros(1), degree.cumsum(0)))
    n = int(pointers[-1])
    shift = (x.crow_indices()[rows] - pointers[:-1]).repeat_interleave(degree, output_size=n)
    places = torch.arange(n, device=shift.device) + shift
    return _csr(pointers, x.col_indices()[places], x.values()[places], (rows.numel(), x.shape[1]))


def one_hot(code_N: Tensor, n: int) -> Tensor:
    """(N, n) torch.sparse_csr with a 1 in each row."""
    rows, ones = torch.arange(code_N.numel() + 1, device=code_N.device), torch.ones(code_N.shape, device=code_N.device)
    return _csr(rows, code_N.long(), ones, (code_N.numel(), n))


def _csr(pointers: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(pointers, columns, values, tuple(shape), check_invariants=False)
