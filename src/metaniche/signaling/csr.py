"""Sparse expression between scipy, which cuts and multiplies it, and torch, in whose CSR layout the ops take it; cell types as
the numbers that the ops sum by.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from metaniche.graph import rows_of


class TypeCodes(NamedTuple):
    """Cell types as numbers; cells without one have the last number, which has no name."""

    names: list[str]
    code_N: Tensor
    """(N,) int32."""
    n: int
    """How many numbers there are: one more than names where some cells have no type."""


def type_codes(cell_types: pd.Categorical) -> TypeCodes:
    """Numbers of the types in use, in their order."""
    cell_types = cell_types.remove_unused_categories()
    names, codes = list(map(str, cell_types.categories)), cell_types.codes.astype(np.int32)
    untyped = codes < 0
    return TypeCodes(
        names, torch.from_numpy(np.where(untyped, len(names), codes).astype(np.int32)), len(names) + bool(untyped.any())
    )


def to_torch(x: np.ndarray | sparse.sparray | sparse.spmatrix) -> Tensor:
    """(N, G) torch.sparse_csr float32, columns ascending; what is 0 is not stored."""
    x = sparse.csr_array(x)
    x.sum_duplicates()
    x.eliminate_zeros()
    pointers, columns = (torch.from_numpy(part.astype(np.int64)) for part in (x.indptr, x.indices))
    values = torch.from_numpy(x.data.astype(np.float32))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(pointers, columns, values, x.shape, check_invariants=False)


def to_scipy(x: Tensor) -> sparse.csr_array:
    """The same matrix; values are shared."""
    parts = x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy()
    return sparse.csr_array(parts, shape=tuple(x.shape))


def map_values(x: Tensor, values: Tensor) -> Tensor:
    """Other values at the same places."""
    return torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), values, x.shape, check_invariants=False)


def sums_by_type(x: Tensor, values: Tensor, type_N: Tensor, n_types: int) -> np.ndarray:
    """(T, G) float64 sums over each type's cells of one value per stored entry of `x`."""
    genes = x.shape[1]
    key = type_N[rows_of(x.crow_indices())].long() * genes + x.col_indices()
    sums = torch.bincount(key, weights=values.double(), minlength=n_types * genes)
    return sums.reshape(n_types, genes).numpy()
