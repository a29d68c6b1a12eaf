"""Sparse expression times dense weights on torch's sparse CSR products."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from metaniche.ops.reference.by_sender import by_sender


def csr_encoder(indptr: Tensor, indices: Tensor, values: Tensor, weight_GD: Tensor) -> Tensor:
    """(N, D); see `metaniche.ops.csr_encoder`."""
    return _csr(indptr, indices.long(), values, weight_GD.shape[0]) @ weight_GD


def weight_gradient(indptr: Tensor, indices: Tensor, values: Tensor, grad_ND: Tensor, n_genes: int) -> Tensor:
    """(G, D): the transposed matrix, its entries in the order of the cells, times the gradient."""
    ptr, cells, order = by_sender(indptr, indices, n_genes)
    return _csr(ptr, cells.long(), values[order], len(grad_ND)) @ grad_ND


def values_gradient(indptr: Tensor, indices: Tensor, weight_GD: Tensor, grad_ND: Tensor) -> Tensor:
    """(nnz,): the product of the gradient's row and the gene's weights, for the stored entries only."""
    pattern = _csr(indptr, indices.long(), weight_GD.new_zeros(indices.numel()), weight_GD.shape[0])
    return torch.sparse.sampled_addmm(pattern, grad_ND, weight_GD.t(), beta=0.0).values()


def _csr(indptr: Tensor, indices: Tensor, values: Tensor, columns: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(indptr, indices, values, (len(indptr) - 1, columns), check_invariants=False)
