"""Sparse expression times dense weights on a GPU: `csrc/cuda/csr_encoder.cu`."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.pieces import pieces
from metaniche.ops.cuda.segment import segment_sum
from metaniche.ops.cuda.specs import VALUE_OF, Array, Kernel, Scalar

SOURCE, THREADS = "csr_encoder", 256
MOST_PIECES = 4  # columns that one lane holds

_PATTERN = (Array("indptr", torch.int64, ("rows+1",)), Array("columns", torch.int32, ("entries",)))
_DENSE = Array("dense", None, ("inner", "width"))
_SIZES = tuple(Scalar(name) for name in ("rows", "entries", "inner", "width"))
TIMES_DENSE = Kernel(
    SOURCE,
    "csr_times_dense",
    (*_PATTERN, Array("values", None, ("entries",)), _DENSE, *_SIZES, Array("out", None, ("rows", "width"))),
    THREADS,
    registers=80,
)
ENTRY_PRODUCTS = Kernel(
    SOURCE,
    "csr_entry_products",
    (*_PATTERN, _DENSE, Array("grad", None, ("rows", "width")), *_SIZES, Array("out", None, ("entries",))),
    THREADS,
    registers=64,
)
KERNELS = (TIMES_DENSE, ENTRY_PRODUCTS)


def defines(width: int, dtype: torch.dtype) -> dict[str, int | str]:
    """As many lanes along the columns as there are, up to a warp; the others along the entries of the row."""
    columns = min(32, power_of_two(width))
    held = min(MOST_PIECES, power_of_two(-(-width // columns)))
    return dict(VALUE=VALUE_OF[dtype], COLUMNS=columns, ENTRIES=32 // columns, PIECES=held, THREADS=THREADS)


PACKED = tuple(defines(width, dtype) for dtype in (torch.float32, torch.float64) for width in (1, 16, 32, 64, 128))


def csr_encoder(indptr: Tensor, indices: Tensor, values: Tensor, weight_GD: Tensor) -> Tensor:
    """(N, D) product of float32 or float64 values and weights."""
    n_genes, width = weight_GD.shape
    out = weight_GD.new_empty((indptr.numel() - 1, width))
    how, sizes = defines(width, weight_GD.dtype), (len(out), indices.numel(), n_genes, width)
    blocks = blocks_for(len(out), THREADS // 32), blocks_for(width, how["COLUMNS"] * how["PIECES"])
    launch(TIMES_DENSE, how, blocks, indptr, indices, values, weight_GD, *sizes, out)
    return out


def weight_gradient(indptr: Tensor, indices: Tensor, values: Tensor, grad_ND: Tensor, n_genes: int) -> Tensor:
    """(G, D): the same product with the turned matrix.

    The entries of a gene that many cells express are cut into pieces, which are added in their order: beside the
    turned matrix O((G + nnz / 2048) D) is held.
    """
    ptr, cells, order = by_sender(indptr, indices, n_genes)
    bounds, of_gene = pieces(ptr, indices.numel())
    return segment_sum(csr_encoder(bounds, cells, values[order], grad_ND), of_gene)


def values_gradient(indptr: Tensor, indices: Tensor, weight_GD: Tensor, grad_ND: Tensor) -> Tensor:
    """(nnz,): the product of the gradient's row and the gene's weights at each stored entry."""
    n_genes, width = weight_GD.shape
    out = grad_ND.new_empty(indices.numel())
    sizes = len(grad_ND), indices.numel(), n_genes, width
    blocks = blocks_for(len(grad_ND), THREADS // 32)
    launch(ENTRY_PRODUCTS, defines(width, grad_ND.dtype), blocks, indptr, indices, weight_GD, grad_ND, *sizes, out)
    return out
