"""Complexes on a GPU: `csrc/cuda/expression.cu`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaniche.ops.cuda.launch import blocks_for, launch
from metaniche.ops.cuda.specs import Array, Kernel, Scalar
from metaniche.ops.reference.expression import csr

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

SOURCE, THREADS = "expression", 256

_COMPLEXES = (Array("complex_ptr", torch.int64, ("complexes+1",)), Array("genes", torch.int32, ("subunits",)))
_ROWS = (
    Array("ptr", torch.int64, ("cells+1",)),
    Array("columns", torch.int32, ("entries",)),
    Array("values", torch.float32, ("entries",)),
)
_SIZES = tuple(Scalar(name) for name in ("cells", "entries", "complexes", "subunits"))
DENSE = Kernel(
    SOURCE,
    "complex_dense",
    (
        Array("x", torch.float32, ("cells", "width")),
        *_COMPLEXES,
        *(Scalar(name) for name in ("cells", "width", "complexes", "subunits")),
        Array("out", torch.float32, ("cells", "complexes")),
    ),
    THREADS,
    registers=64,
)
COUNTS = Kernel(
    SOURCE,
    "complex_counts",
    (*_ROWS, *_COMPLEXES, *_SIZES, Array("counts", torch.int64, ("cells",))),
    THREADS,
    registers=64,
)
FILL = Kernel(
    SOURCE,
    "complex_fill",
    (
        *_ROWS,
        *_COMPLEXES,
        Array("out_ptr", torch.int64, ("cells+1",)),
        *_SIZES,
        Scalar("found"),
        Array("out_columns", torch.int32, ("found",)),
        Array("out_values", torch.float32, ("found",)),
    ),
    THREADS,
    registers=64,
)
KERNELS = (DENSE, COUNTS, FILL)
PACKED = tuple(dict(GEOMETRIC=geometric, THREADS=THREADS) for geometric in (0, 1))


def complex_expression(x: Expression, ptr: Tensor, genes: Tensor, geometric: bool) -> Tensor:
    """See `metaniche.ops.complex_expression`."""
    how, n, complexes = PACKED[int(geometric)], x.shape[0], ptr.numel() - 1
    values = x.values.detach().contiguous()
    if x.ptr is None:
        out = values.new_empty(n, complexes)
        sizes = n, x.shape[1], complexes, genes.numel()
        launch(DENSE, how, blocks_for(n * complexes, THREADS), values, ptr, genes, *sizes, out)
        return out
    rows = x.ptr.contiguous(), x.columns.contiguous(), values
    sizes, blocks = (n, values.numel(), complexes, genes.numel()), blocks_for(n, THREADS // 32)
    counts = torch.empty(n, dtype=torch.int64, device=values.device)
    launch(COUNTS, how, blocks, *rows, ptr, genes, *sizes, counts)
    out_ptr = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    found = int(out_ptr[-1])
    columns = torch.empty(found, dtype=torch.int32, device=values.device)
    out_values = values.new_empty(found)
    launch(FILL, how, blocks, *rows, ptr, genes, out_ptr, *sizes, found, columns, out_values)
    return csr(out_ptr, columns, out_values, (n, complexes))
