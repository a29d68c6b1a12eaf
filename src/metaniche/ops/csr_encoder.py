"""The first layer of an encoder on sparse expression: CSR (N, G) times dense weights (G, D)."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, dense, native, once_differentiable, register_autograd
from metaniche.ops.cuda import csr_encoder as cuda
from metaniche.ops.reference import csr_encoder as reference
from metaniche.ops.segment import check_rows


def csr_encoder(indptr: Tensor, indices: Tensor, values: Tensor, weight_GD: Tensor) -> Tensor:
    """Multiply sparse expression with dense weights, without ever making expression dense.

    .. math:: out_{id} = \\sum_{k \\in row\\ i} values_k \\, W_{indices_k, d}

    Memory is O(N D) forward, O(G D) for the gradient of the weights and O(nnz) for that of the values; on a GPU the
    gradient of the weights takes O(nnz + nnz D / 2048) more.

    Parameters
    ----------
    indptr, indices
        CSR of expression, row = cell, columns = genes in ascending order: (N + 1,) int64 and (nnz,) int32.
    values
        (nnz,) expression, of a float type.
    weight_GD
        Weights of every gene. Half types are computed in float32; the result has the type of the weights.

    Returns
    -------
    (N, D), differentiable once in values and weights (a second time raises KernelError); the same on every run and for
    any number of threads.

    Raises
    ------
    GraphError
        When shapes, dtypes or indices do not fit together, or genes do not ascend within a row.
    """
    _check(indptr, indices, values, weight_GD)
    dtype = torch.promote_types(torch.promote_types(weight_GD.dtype, values.dtype), torch.float32)
    with torch.autocast(weight_GD.device.type, enabled=False):
        out = torch.ops.metaniche.csr_encoder(indptr, indices, values.to(dtype), weight_GD.to(dtype))
    return out.to(weight_GD.dtype)


def _check(indptr: Tensor, indices: Tensor, values: Tensor, weight_GD: Tensor) -> None:
    check_rows(indptr, indices.numel())
    if indices.dtype != torch.int32 or indices.ndim != 1 or values.shape != indices.shape:
        raise GraphError(
            "Expected `indices` (nnz,) int32 and `values` of its shape, "
            f"found {tuple(indices.shape)} {indices.dtype} and {tuple(values.shape)}."
        )
    if weight_GD.ndim != 2 or not weight_GD.is_floating_point() or not values.is_floating_point():
        raise GraphError(
            "Expected `weight_GD` (G, D) and `values` of float types, "
            f"found {tuple(weight_GD.shape)} {weight_GD.dtype} and {values.dtype}."
        )
    # On an accelerator a look at the values would stop the stream; there the reader's own validation must do.
    if indices.device.type != "cpu":
        return
    row = _first_bad_row(indptr, indices, weight_GD.shape[0])
    if row >= 0:
        raise GraphError(
            f"Expected genes of each row in [0, {weight_GD.shape[0]}) and ascending, found others in row {row}. "
            "Sort the rows (scipy: `matrix.sort_indices()`) or pass the weights of all genes."
        )


def _first_bad_row(indptr: Tensor, indices: Tensor, n_genes: int) -> int:
    if choose("csr_encoder", indices.device) == "cpu":
        return native().csr_encoder_first_bad_row(indptr.contiguous(), indices.contiguous(), n_genes)
    bad = (indices < 0) | (indices >= n_genes)
    falls = torch.zeros_like(bad)
    falls[1:] = indices[1:] < indices[:-1]
    starts = indptr[:-1][indptr.diff() > 0]
    falls[starts] = False
    where = torch.nonzero(bad | falls)
    return int(torch.searchsorted(indptr, where[0], right=True)) - 1 if len(where) else -1


def _forward(indptr, indices, values, weight):
    chosen = choose("csr_encoder", weight.device)
    if chosen == "reference":
        return reference.csr_encoder(indptr, indices, values, weight)
    if chosen == "cuda":
        return cuda.csr_encoder(*dense(indptr, indices, values, weight))
    out = torch.empty(len(indptr) - 1, weight.shape[1], dtype=weight.dtype)
    native().csr_encoder(*dense(indptr, indices, values, weight), out)
    return out


def _weight_gradient(indptr, indices, values, grad, n_genes):
    chosen = choose("csr_encoder", grad.device)
    if chosen == "reference":
        return reference.weight_gradient(indptr, indices, values, grad, n_genes)
    if chosen == "cuda":
        # The turned matrix is kept with the very tensor `indices`, which a detached one would not be.
        return cuda.weight_gradient(indptr.contiguous(), indices.contiguous(), *dense(values, grad), n_genes)
    out = torch.empty(n_genes, grad.shape[1], dtype=grad.dtype)
    native().csr_encoder_weight_gradient(*dense(indptr, indices, values, grad), out)
    return out


def _values_gradient(indptr, indices, weight, grad):
    chosen = choose("csr_encoder", grad.device)
    if chosen == "reference":
        return reference.values_gradient(indptr, indices, weight, grad)
    if chosen == "cuda":
        return cuda.values_gradient(*dense(indptr, indices, weight, grad))
    out = torch.empty(len(indices), dtype=grad.dtype)
    native().csr_encoder_values_gradient(*dense(indptr, indices, weight, grad), out)
    return out


def _differentiate(ctx, grad):
    indptr, indices, values, weight = ctx.saved_tensors
    ops, grad_values, grad_weight = torch.ops.metaniche, None, None
    if ctx.needs_input_grad[2]:
        grad_values = ops.csr_encoder_values_gradient(indptr, indices, weight, grad)
    if ctx.needs_input_grad[3]:
        grad_weight = ops.csr_encoder_weight_gradient(indptr, indices, values, grad, weight.shape[0])
    return None, None, grad_values, grad_weight


_PATTERN = "Tensor indptr, Tensor indices"
library = torch.library.Library("metaniche", "FRAGMENT")
library.define(f"csr_encoder({_PATTERN}, Tensor values, Tensor weight) -> Tensor")
library.define(f"csr_encoder_weight_gradient({_PATTERN}, Tensor values, Tensor grad, SymInt n_genes) -> Tensor")
library.define(f"csr_encoder_values_gradient({_PATTERN}, Tensor weight, Tensor grad) -> Tensor")
library.impl("csr_encoder", _forward, "CompositeExplicitAutograd")
library.impl("csr_encoder_weight_gradient", _weight_gradient, "CompositeExplicitAutograd")
library.impl("csr_encoder_values_gradient", _values_gradient, "CompositeExplicitAutograd")
torch.library.register_fake(
    "metaniche::csr_encoder",
    lambda indptr, indices, values, weight: weight.new_empty(indptr.shape[0] - 1, weight.shape[1]),
    lib=library,
)
torch.library.register_fake(
    "metaniche::csr_encoder_weight_gradient",
    lambda indptr, indices, values, grad, n_genes: grad.new_empty(n_genes, grad.shape[1]),
    lib=library,
)
torch.library.register_fake(
    "metaniche::csr_encoder_values_gradient",
    lambda indptr, indices, weight, grad: grad.new_empty(indices.shape[0]),
    lib=library,
)
register_autograd("csr_encoder", _differentiate, lambda ctx, inputs, output: ctx.save_for_backward(*inputs), library)
once_differentiable("csr_encoder_weight_gradient", library)
once_differentiable("csr_encoder_values_gradient", library)
