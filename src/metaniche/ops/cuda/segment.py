"""Sums, means, maxima and softmax over CSR rows on a GPU: `csrc/cuda/segment.cu`."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.specs import VALUE_OF, Array, Kernel, Scalar

SOURCE, THREADS = "segment", 256
REDUCTIONS = {"sum": 0, "mean": 1, "max": 2}
# Rows of this mean length keep a block of warps busy; shorter ones get a warp each.
LONG_ROW = 256

_ARGUMENTS = (
    Array("x", None, ("entries", "width")),
    Array("indptr", torch.int64, ("rows+1",)),
    Scalar("rows"),
    Scalar("entries"),
    Scalar("width"),
)
REDUCE = Kernel(
    SOURCE,
    "segment_reduce",
    (*_ARGUMENTS, Array("out", None, ("rows", "width"))),
    THREADS,
    registers=64,
    shared=4096,
)
SOFTMAX = Kernel(
    SOURCE,
    "segment_softmax",
    (*_ARGUMENTS, Array("out", None, ("entries", "width"))),
    THREADS,
    registers=64,
    shared=4096,
)
KERNELS = (REDUCE, SOFTMAX)


def defines(kind: str, dtype: torch.dtype, rows: int, entries: int, width: int) -> dict[str, int | str]:
    """Lanes along neighbouring columns, the others along entries; a block for a row where rows are long."""
    columns = min(32, 1 << (max(width, 1) - 1).bit_length())
    warps = THREADS // 32 if entries > LONG_ROW * rows else 1
    value = VALUE_OF[dtype]
    return dict(VALUE=value, REDUCE=REDUCTIONS[kind], COLUMNS=columns, WARPS=warps, THREADS=THREADS)


PACKED = tuple(
    dict(VALUE="float", REDUCE=reduce, COLUMNS=columns, WARPS=warps, THREADS=THREADS)
    for reduce in REDUCTIONS.values()
    for columns in (1, 4, 32)
    for warps in (1, 8)
)


def unable(x_ED: Tensor) -> str | None:
    """Why the kernels cannot run tensors of this kind, or None."""
    return None if x_ED.dtype in (torch.float32, torch.float64) else f"no kernel for {x_ED.dtype}"


def segment_reduce(x_ED: Tensor, indptr: Tensor, kind: str) -> Tensor:
    """(R, ...) sum, mean or max of each row's entries; differentiable."""
    return _Reduce.apply(x_ED, indptr, kind)


def segment_softmax(logit_EH: Tensor, indptr: Tensor) -> Tensor:
    """(E, ...) softmax within each row; differentiable."""
    return _Softmax.apply(logit_EH, indptr)


class _Reduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, indptr, kind):
        out = x.new_empty((indptr.numel() - 1, *x.shape[1:]))
        _run(REDUCE, kind, x, indptr, out)
        ctx.kind = kind
        ctx.save_for_backward(*((x, out) if kind == "max" else (None, None)), indptr)
        ctx.entries = len(x)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, top, indptr = ctx.saved_tensors
        counts = indptr.diff()
        if ctx.kind == "mean":
            grad = grad / _column(counts.clamp(min=1).to(grad.dtype), grad)
        if ctx.kind != "max":
            return grad.repeat_interleave(counts, dim=0, output_size=ctx.entries), None, None
        tied = (x == top.repeat_interleave(counts, dim=0, output_size=ctx.entries)).to(grad.dtype)
        share = grad / segment_reduce(tied, indptr, "sum").clamp(min=1)
        return tied * share.repeat_interleave(counts, dim=0, output_size=ctx.entries), None, None


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logit, indptr):
        out = torch.empty_like(logit, memory_format=torch.contiguous_format)
        _run(SOFTMAX, "sum", logit, indptr, out)
        ctx.save_for_backward(out, indptr)
        return out

    @staticmethod
    def backward(ctx, grad):
        out, indptr = ctx.saved_tensors
        slope = out * grad
        total = segment_reduce(slope, indptr, "sum").repeat_interleave(indptr.diff(), dim=0, output_size=len(out))
        return slope - out * total, None


def _run(kernel: Kernel, kind: str, x: Tensor, indptr: Tensor, out: Tensor) -> None:
    rows, entries = indptr.numel() - 1, len(x)
    width = x[:1].numel() if entries else out[:1].numel() if rows else 0
    how = defines(kind, x.dtype, rows, entries, width)
    blocks = blocks_for(rows, THREADS // 32 // how["WARPS"]), blocks_for(width, how["COLUMNS"])
    launch(kernel, how, blocks, x.detach().contiguous(), indptr, rows, entries, width, out)


def _column(x_R: Tensor, like: Tensor) -> Tensor:
    return x_R.view(-1, *[1] * (like.ndim - 1))
