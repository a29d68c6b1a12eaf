"""Dot-product attention over the edges of a graph, with a per-edge bias and a slot for "no signal"."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, dense, dense_rows, native, once_differentiable, register_autograd
from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda import edge_attention as cuda
from metaniche.ops.cuda.edge_attention_tiles import chosen as tiles_for
from metaniche.ops.dropout import check_dropout, draw
from metaniche.ops.reference import edge_attention as reference
from metaniche.ops.segment import check_graph


def edge_attention(
    q_NHD: Tensor,
    k_NHD: Tensor,
    v_NHD: Tensor,
    indptr: Tensor,
    indices: Tensor,
    bias_EH: Tensor,
    null_H: Tensor,
    *,
    dropout: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Each receiver i attends to its senders j and to a null slot of value 0.

    .. math::
        out_i = \\sum_j \\alpha_{ij} v_j, \\quad
        \\alpha_{ij} = \\frac{\\exp(q_i \\cdot k_j / \\sqrt{D} + b_{ij})}
        {\\exp(null) + \\sum_{j'} \\exp(q_i \\cdot k_{j'} / \\sqrt{D} + b_{ij'})}

    With dropout the weights in the sum become :math:`m_{ij} \\alpha_{ij}`, where m is 0 with probability p and else
    1 / (1 - p); the denominator holds all edges and the null slot is never dropped. m is a hash of (seed, place of the
    edge in the CSR, head): nothing is stored, and every backend drops the very same entries.

    Memory is O(E H + N H D), forward and backward; a row without edges gives 0. Half types are computed in
    float32; on a GPU bfloat16 is also read and written as it is, and large graphs whose neighbours share senders are
    worked on by tiles (`metaniche.ops.cuda.edge_attention_tiles`).

    Parameters
    ----------
    q_NHD, k_NHD, v_NHD
        Queries of the receivers, keys and values of the senders.
    indptr, indices
        CSR of the graph: (N + 1,) int64 and (E,) int32.
    bias_EH
        Added to the logit of every edge and head.
    null_H
        Logit of the null slot.
    dropout, seed
        p in [0, 1), and what the draw depends on, in [0, 2^63).

    Returns
    -------
    (N, H, D), differentiable once in q, k, v, bias and null (a second time raises KernelError); the same on every run.

    Raises
    ------
    GraphError
        When shapes, dtypes or indices do not fit together.
    ValueError
        When dropout or seed are out of range.
    """
    check_dropout(dropout, seed)
    _check(q_NHD, k_NHD, v_NHD, indptr, indices, bias_EH, null_H)
    asked, dtype = q_NHD.dtype, torch.promote_types(q_NHD.dtype, torch.float32)
    bias, null = bias_EH.to(dtype), null_H.to(dtype)
    alike = all(x.dtype == torch.bfloat16 for x in (q_NHD, k_NHD, v_NHD))
    if not (alike and _chosen(q_NHD) == "cuda"):
        q_NHD, k_NHD, v_NHD = (x.to(dtype) for x in (q_NHD, k_NHD, v_NHD))
    with torch.autocast(q_NHD.device.type, enabled=False):
        out, _ = torch.ops.metaniche.edge_attention(q_NHD, k_NHD, v_NHD, indptr, indices, bias, null, dropout, seed)
    return out.to(asked)


def _check(
    q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor, indptr: Tensor, indices: Tensor, bias_EH: Tensor, null_H: Tensor
) -> None:
    if q_NHD.ndim != 3 or not q_NHD.shape == k_NHD.shape == v_NHD.shape:
        raise GraphError(
            "Expected q, k and v of one shape (N, H, D), found "
            f"{tuple(q_NHD.shape)}, {tuple(k_NHD.shape)} and {tuple(v_NHD.shape)}."
        )
    n, heads, _ = q_NHD.shape
    check_graph(indptr, indices, n)
    if tuple(bias_EH.shape) != (indices.numel(), heads) or tuple(null_H.shape) != (heads,):
        raise GraphError(
            f"Expected `bias_EH` of shape {(indices.numel(), heads)} and `null_H` of {(heads,)}, "
            f"found {tuple(bias_EH.shape)} and {tuple(null_H.shape)}."
        )


def _chosen(q: Tensor) -> str:
    return choose("edge_attention", q.device, cuda.unable(q) if q.device.type == "cuda" else None)


def _forward(q, k, v, indptr, indices, bias, null, dropout, seed):
    chosen = _chosen(q)
    if chosen == "cuda":
        indptr, indices = indptr.contiguous(), indices.contiguous()  # the very tensors: tiles are kept by them
        inputs = *dense(q, k, v), indptr, indices, *dense(bias, null)
        return cuda.forward(*inputs, dropout, seed, tiles_for(q, indptr, indices))
    if chosen == "reference":
        return reference.edge_attention_forward(q, k, v, indptr, indices, bias, null, dropout, seed)
    out, lse = torch.empty(q.shape, dtype=q.dtype), torch.empty(q.shape[:2], dtype=q.dtype)
    inputs = *dense_rows(q, k, v), *dense(indptr, indices, bias, null)
    native().edge_attention_forward(*inputs, *draw(dropout, seed), out, lse)
    return out, lse


def _backward(grad, q, k, v, indptr, indices, bias, null, out, lse, dropout, seed):
    chosen = _chosen(q)
    if chosen == "cuda":
        indptr, indices = indptr.contiguous(), indices.contiguous()
        inputs = *dense(grad, q, k, v), indptr, indices, *dense(bias, null, out, lse)
        tiles = tiles_for(q, indptr, indices), tiles_for(q, *by_sender(indptr, indices)[:2])
        return cuda.backward(*inputs, dropout, seed, *tiles)
    if chosen == "reference":
        return reference.edge_attention_backward(grad, q, k, v, indptr, indices, bias, null, out, lse, dropout, seed)
    grads = [torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v, bias)]
    delta = torch.empty_like(lse)
    graph = *dense(indptr, indices), *by_sender(indptr, indices)
    inputs = *dense_rows(q, k, v), *graph, *dense(bias, null)
    native().edge_attention_backward(*inputs, *draw(dropout, seed), *dense(out, lse, grad), *grads, delta)
    return *grads, -((null - lse).exp() * delta).sum(0)


def _setup_context(ctx, inputs, output):
    *tensors, ctx.dropout, ctx.seed = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, *output)


def _differentiate(ctx, grad, _):
    grad_q, grad_k, grad_v, grad_bias, grad_null = torch.ops.metaniche.edge_attention_backward(
        grad, *ctx.saved_tensors, ctx.dropout, ctx.seed
    )
    return grad_q, grad_k, grad_v, None, None, grad_bias, grad_null, None, None


_INPUTS = "Tensor q, Tensor k, Tensor v, Tensor indptr, Tensor indices, Tensor bias, Tensor null"
library = torch.library.Library("metaniche", "FRAGMENT")
# A SymInt, so that a new seed at every step compiles nothing again.
_DROPOUT = "float dropout, SymInt seed"
library.define(f"edge_attention({_INPUTS}, {_DROPOUT}) -> (Tensor, Tensor)")
library.define(
    f"edge_attention_backward(Tensor grad, {_INPUTS}, Tensor out, Tensor lse, {_DROPOUT}) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
library.impl("edge_attention", _forward, "CompositeExplicitAutograd")
library.impl("edge_attention_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake(
    "metaniche::edge_attention",
    lambda q, k, v, indptr, indices, bias, *_: (q.new_empty(q.shape), bias.new_empty(q.shape[:2])),
    lib=library,
)
torch.library.register_fake(
    "metaniche::edge_attention_backward",
    lambda grad, q, k, v, indptr, indices, bias, null, *_: tuple(x.new_empty(x.shape) for x in (q, k, v, bias, null)),
    lib=library,
)
register_autograd("edge_attention", _differentiate, _setup_context, library)
once_differentiable("edge_attention_backward", library)
