"""Sums, means, maxima and softmax over the rows of a CSR, each row in one fixed order."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, dense, native, register_autograd
from metaniche.ops.cuda import segment as cuda
from metaniche.ops.reference import segment as reference


def segment_sum(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) sum of the entries `indptr[r]:indptr[r + 1]` of `x_ED` (E, ...); an empty row gives 0."""
    return torch.ops.metaniche.segment_sum(x_ED, indptr)


def segment_mean(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) mean of each row's entries; an empty row gives 0."""
    counts = indptr.diff().clamp(min=1).to(x_ED.dtype)
    return segment_sum(x_ED, indptr) / counts.view(-1, *[1] * (x_ED.ndim - 1))


def segment_max(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) maximum of each row's entries; an empty row gives 0. Tied entries share the gradient."""
    return torch.ops.metaniche.segment_max(x_ED, indptr)


def segment_softmax(logit_EH: Tensor, indptr: Tensor) -> Tensor:
    """(E, ...) softmax of the logits within each row."""
    return torch.ops.metaniche.segment_softmax(logit_EH, indptr)


def check_rows(indptr: Tensor, n_entries: int) -> None:
    """Raise GraphError unless `indptr` is (R + 1,) int64 and ascends from 0 to `n_entries`.

    The values are looked at on the CPU only: on an accelerator that would stop the stream.
    """
    if indptr.dtype != torch.int64 or indptr.ndim != 1 or indptr.numel() < 1:
        raise GraphError(
            f"Expected `indptr` to be int64 of shape (R + 1,), found {indptr.dtype} of {tuple(indptr.shape)}."
        )
    if indptr.device.type != "cpu":
        return
    if indptr[0] != 0 or indptr[-1] != n_entries or (indptr.diff() < 0).any():
        raise GraphError(
            f"Expected `indptr` to ascend from 0 to the {n_entries} entries, found {int(indptr[0])}..{int(indptr[-1])}."
        )


def check_graph(indptr: Tensor, indices: Tensor, n_cells: int, *, on_device: bool = False) -> None:
    """Raise GraphError unless `indptr` and `indices` are the CSR of a graph on `n_cells` cells.

    The values are looked at on the CPU only, as in `check_rows`; those of `indices` also elsewhere with `on_device`.
    """
    if indices.dtype != torch.int32 or indices.ndim != 1 or indptr.numel() != n_cells + 1:
        raise GraphError(
            f"Expected `indptr` of {n_cells + 1} entries and `indices` (E,) int32, "
            f"found {indptr.numel()} entries and {tuple(indices.shape)} {indices.dtype}."
        )
    check_rows(indptr, indices.numel())
    if indices.numel() and (on_device or indices.device.type == "cpu"):
        low, high = torch.stack(torch.aminmax(indices)).tolist()
        if low < 0 or high >= n_cells:
            raise GraphError(f"Expected senders in [0, {n_cells}), found {low}..{high}.")


def _spread(x_RD: Tensor, indptr: Tensor, n_entries: int) -> Tensor:
    """(E, ...) the value of each entry's row."""
    return x_RD.repeat_interleave(indptr.diff(), dim=0, output_size=n_entries)


def _run(name: str, x: Tensor, indptr: Tensor) -> Tensor:
    """One reduction by the chosen backend; native code knows float32 and float64."""
    n_rows = len(x) if name == "segment_softmax" else len(indptr) - 1
    check_rows(indptr, len(x))
    unable = None if x.dtype in (torch.float32, torch.float64) else f"no native code for {x.dtype}"
    chosen = choose(name, x.device, unable)
    if chosen == "reference":
        return getattr(reference, name)(x, indptr)
    if chosen == "cuda":
        return getattr(cuda, name)(*dense(x, indptr))
    width = math.prod(x.shape[1:])
    out = torch.empty((n_rows, width), dtype=x.dtype)
    getattr(native(), name)(*dense(x.reshape(len(x), width), indptr), out)
    return out.view(n_rows, *x.shape[1:])


def _sum_gradient(ctx, grad):
    (indptr,) = ctx.saved_tensors
    return _spread(grad, indptr, ctx.n_entries), None


def _max_gradient(ctx, grad):
    x, indptr, top = ctx.saved_tensors
    tied = (x == _spread(top, indptr, len(x))).to(grad.dtype)
    share = tied / _spread(torch.ops.metaniche.segment_sum(tied, indptr), indptr, len(x))
    return _spread(grad, indptr, len(x)) * share, None


def _softmax_gradient(ctx, grad):
    indptr, weight = ctx.saved_tensors
    slope = weight * grad
    return slope - weight * _spread(torch.ops.metaniche.segment_sum(slope, indptr), indptr, len(weight)), None


def _keep_rows(ctx, inputs, output):
    ctx.n_entries = len(inputs[0])
    ctx.save_for_backward(inputs[1])


def _row_of_each(x: Tensor, indptr: Tensor) -> Tensor:
    return x.new_empty((indptr.shape[0] - 1, *x.shape[1:]))


_OPS = {
    "segment_sum": (_row_of_each, _sum_gradient, _keep_rows),
    "segment_max": (_row_of_each, _max_gradient, lambda ctx, inputs, output: ctx.save_for_backward(*inputs, output)),
    "segment_softmax": (
        lambda x, indptr: x.new_empty(x.shape),
        _softmax_gradient,
        lambda ctx, inputs, output: ctx.save_for_backward(inputs[1], output),
    ),
}


def _register(name: str) -> None:
    fake, gradient, setup_context = _OPS[name]

    library.define(f"{name}(Tensor x, Tensor indptr) -> Tensor")
    library.impl(name, partial(_run, name), "CompositeExplicitAutograd")
    torch.library.register_fake(f"metaniche::{name}", fake, lib=library)
    register_autograd(name, gradient, setup_context, library)


library = torch.library.Library("metaniche", "FRAGMENT")
for _name in _OPS:
    _register(_name)
