"""Edge attention on torch's sparse CSR products: at most one number per edge and head is ever stored."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from metaniche.ops.reference.by_sender import by_sender
from metaniche.ops.reference.dropout import factors


def edge_attention_forward(
    q_NHD: Tensor,
    k_NHD: Tensor,
    v_NHD: Tensor,
    indptr: Tensor,
    indices: Tensor,
    bias_EH: Tensor,
    null_H: Tensor,
    dropout: float = 0.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Output (N, H, D) and log-sum-exp (N, H); see `metaniche.ops.edge_attention`."""
    pattern = _Pattern(indptr, indices)
    q_HND, k_HND, v_HND = (_head_major(x) for x in (q_NHD, k_NHD, v_NHD))
    bias_HE, factor_HE = bias_EH.t().contiguous(), _dropout(bias_EH, dropout, seed)
    scale = 1 / math.sqrt(q_HND.shape[-1])
    out_HND, lse_HN = torch.empty_like(v_HND), torch.empty_like(q_HND[..., 0])
    for h in range(len(q_HND)):
        logit_E = pattern.dots(q_HND[h], k_HND[h], bias_HE[h], scale)
        top_N = torch.maximum(pattern.row_max(logit_E), null_H[h])
        weight_E = logit_E.sub_(pattern.spread(top_N)).exp_()
        total_N = pattern.row_sum(weight_E) + (null_H[h] - top_N).exp()
        if factor_HE is not None:
            weight_E.mul_(factor_HE[h])
        out_HND[h] = pattern.product(weight_E, v_HND[h]) / total_N[:, None]
        lse_HN[h] = top_N + total_N.log()
    return out_HND.transpose(0, 1).contiguous(), lse_HN.t().contiguous()


def edge_attention_backward(
    grad_NHD: Tensor,
    q_NHD: Tensor,
    k_NHD: Tensor,
    v_NHD: Tensor,
    indptr: Tensor,
    indices: Tensor,
    bias_EH: Tensor,
    null_H: Tensor,
    out_NHD: Tensor,
    lse_NH: Tensor,
    dropout: float = 0.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, bias and null; the weights are computed again from the log-sum-exp."""
    pattern = _Pattern(indptr, indices)
    q_HND, k_HND, v_HND, out_HND, grad_HND = (_head_major(x) for x in (q_NHD, k_NHD, v_NHD, out_NHD, grad_NHD))
    bias_HE, lse_HN = bias_EH.t().contiguous(), lse_NH.t()
    factor_HE = _dropout(bias_EH, dropout, seed)
    grad_q, grad_k, grad_v = (torch.empty_like(x) for x in (q_HND, k_HND, v_HND))
    grad_bias = torch.empty_like(bias_HE)
    shift_HN = (grad_HND * out_HND).sum(-1)
    scale = 1 / math.sqrt(q_HND.shape[-1])
    for h in range(len(q_HND)):
        weight_E = pattern.dots(q_HND[h], k_HND[h], bias_HE[h], scale).sub_(pattern.spread(lse_HN[h])).exp_()
        passed_E, slope_E = weight_E, pattern.dots(grad_HND[h], v_HND[h])
        if factor_HE is not None:
            passed_E, slope_E = weight_E * factor_HE[h], slope_E.mul_(factor_HE[h])
        grad_v[h] = pattern.transposed_product(passed_E, grad_HND[h])
        grad_bias[h] = slope_E.sub_(pattern.spread(shift_HN[h])).mul_(weight_E)
        grad_q[h] = pattern.product(grad_bias[h], k_HND[h]).mul_(scale)
        grad_k[h] = pattern.transposed_product(grad_bias[h], q_HND[h]).mul_(scale)
    grad_null = -((null_H[:, None] - lse_HN).exp() * shift_HN).sum(-1)
    grad_q, grad_k, grad_v = (x.transpose(0, 1).contiguous() for x in (grad_q, grad_k, grad_v))
    return grad_q, grad_k, grad_v, grad_bias.t().contiguous(), grad_null


class _Pattern:
    """The edges as a sparse matrix, row = receiver, with the products that attention needs."""

    def __init__(self, indptr: Tensor, indices: Tensor) -> None:
        n, e = indptr.numel() - 1, indices.numel()
        self.shape = (n, n)
        self.offsets = indptr
        self.dtype = torch.int32 if e < 2**31 else torch.int64
        # torch's sparse products read what lies together, whatever the strides say.
        self.crow, self.col = (x.to(self.dtype).contiguous() for x in (indptr, indices))
        row = torch.arange(n, device=indices.device, dtype=self.dtype)
        self.row = row.repeat_interleave(indptr.diff(), output_size=e)
        self._transposed: tuple[Tensor, Tensor, Tensor] | None = None

    def dots(self, x_ND: Tensor, y_ND: Tensor, add_E: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """(E,) `scale * x_i . y_j` of every edge, plus `add_E`."""
        beta = 0.0 if add_E is None else 1.0
        start = self._matrix(x_ND.new_zeros(self.col.numel()) if add_E is None else add_E)
        return torch.sparse.sampled_addmm(start, x_ND, y_ND.t(), beta=beta, alpha=scale).values()

    def product(self, weight_E: Tensor, x_ND: Tensor) -> Tensor:
        """(N, D) sum over each row's edges of `weight * x_j`."""
        return self._matrix(weight_E) @ x_ND

    def transposed_product(self, weight_E: Tensor, x_ND: Tensor) -> Tensor:
        """(N, D) sum over the edges that leave j of `weight * x_i`, in one fixed order."""
        if self._transposed is None:
            ptr, row, order = by_sender(self.offsets, self.col, self.shape[0])
            self._transposed = ptr.to(self.dtype), row.to(self.dtype), order
        ptr, row, order = self._transposed
        return _csr(ptr, row, weight_E[order], self.shape) @ x_ND

    def row_max(self, x_E: Tensor) -> Tensor:
        return torch.segment_reduce(x_E, "max", offsets=self.offsets, axis=0, unsafe=True, initial=-math.inf)

    def row_sum(self, x_E: Tensor) -> Tensor:
        return torch.segment_reduce(x_E, "sum", offsets=self.offsets, axis=0, unsafe=True)

    def spread(self, x_N: Tensor) -> Tensor:
        """(E,) the value of each edge's row."""
        return x_N.index_select(0, self.row)

    def _matrix(self, values_E: Tensor) -> Tensor:
        return _csr(self.crow, self.col, values_E, self.shape)


def _dropout(bias_EH: Tensor, dropout: float, seed: int) -> Tensor | None:
    """(H, E) what each weight is multiplied by, or None without dropout."""
    return factors(*bias_EH.shape, dropout, seed, bias_EH.device).to(bias_EH).t().contiguous() if dropout else None


def _csr(ptr: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        # torch says once that its CSR layout is in beta; the tests hold these products to a dense oracle.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(ptr, col, values, shape, check_invariants=False)


def _head_major(x_NHD: Tensor) -> Tensor:
    return x_NHD.transpose(0, 1).contiguous()
