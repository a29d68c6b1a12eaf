"""Sums, maxima and softmax over CSR rows on a GPU: `csrc/cuda/segment.cu`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.specs import VALUE_OF, Array, Kernel, Scalar

SOURCE, THREADS = "segment", 256
REDUCTIONS = {"sum": 0, "max": 1}
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
    columns = min(32, power_of_two(width))
    warps = THREADS // 32 if entries > LONG_ROW * rows else 1
    value = VALUE_OF[dtype]
    return dict(VALUE=value, REDUCE=REDUCTIONS[kind], COLUMNS=columns, WARPS=warps, THREADS=THREADS)


PACKED = tuple(
    dict(VALUE=value, REDUCE=reduce, COLUMNS=columns, WARPS=warps, THREADS=THREADS)
    for value, reduce in (("float", 0), ("float", 1), ("double", 0))
    for columns in (1, 4, 32)
    for warps in (1, 8)
)


def segment_sum(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) sum of each row's entries, float32 or float64."""
    return _reduced("sum", x_ED, indptr)


def segment_max(x_ED: Tensor, indptr: Tensor) -> Tensor:
    """(R, ...) maximum of each row's entries, float32 or float64."""
    return _reduced("max", x_ED, indptr)


def segment_softmax(logit_EH: Tensor, indptr: Tensor) -> Tensor:
    """(E, ...) softmax within each row, float32 or float64."""
    out = torch.empty_like(logit_EH)
    _run(SOFTMAX, "sum", logit_EH, indptr, out)
    return out


def _reduced(kind: str, x: Tensor, indptr: Tensor) -> Tensor:
    out = x.new_empty((indptr.numel() - 1, *x.shape[1:]))
    _run(REDUCE, kind, x, indptr, out)
    return out


def _run(kernel: Kernel, kind: str, x: Tensor, indptr: Tensor, out: Tensor) -> None:
    rows, entries, width = indptr.numel() - 1, len(x), math.prod(x.shape[1:])
    how = defines(kind, x.dtype, rows, entries, width)
    blocks = blocks_for(rows, THREADS // 32 // how["WARPS"]), blocks_for(width, how["COLUMNS"])
    launch(kernel, how, blocks, x, indptr, rows, entries, width, out)
