"""Ligand-receptor logits of edges on a GPU: `csrc/cuda/pair_logits.cu`; weight gradients by `ligrec.cu`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda import ligrec
from metaniche.ops.cuda.genes import SENDERS, SHARED, THREADS, Side, cells, named, room, side
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.specs import VALUE_OF, Array, Kernel, Scalar
from metaniche.ops.grouped import grouped

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

SOURCE = "pair_logits"
MOST_COLUMNS = 8

_PTR = Array("pair_ptr", torch.int64, ("genes+1",))
_WEIGHT = Array("pair_weight", None, ("pairs", "heads"))
_GRAPH = (Array("indptr", torch.int64, ("cells+1",)), Array("indices", torch.int32, ("edges",)))
_SIZES = tuple(Scalar(name) for name in ("genes", "pairs", "edges", "heads"))
FORWARD = Kernel(
    SOURCE,
    "pair_logits_forward",
    (
        *cells("far"),
        *cells("near"),
        _PTR,
        Array("pair_near", torch.int32, ("pairs",)),
        _WEIGHT,
        *_GRAPH,
        *(Scalar(name) for name in ("cells", "far_entries", "near_entries")),
        *_SIZES,
        Array("logits", None, ("edges", "heads")),
    ),
    THREADS,
    registers=96,
    shared=SHARED,
)
BACKWARD = Kernel(
    SOURCE,
    "pair_logits_backward",
    (
        *cells("far"),
        Array("near_ptr", torch.int64, ("cells+1",)),
        Array("near_columns", torch.int32, ("columns",)),
        _PTR,
        Array("pair_far", torch.int32, ("pairs",)),
        _WEIGHT,
        *_GRAPH,
        Array("grad", None, ("edges", "heads")),
        *(Scalar(name) for name in ("cells", "far_entries", "columns", "entries")),
        *_SIZES,
        Array("grad_near", None, ("entries",)),
    ),
    THREADS,
    registers=96,
    shared=SHARED,
)
KERNELS = (FORWARD, BACKWARD)


def columns_for(heads: int, far: int, near: int, itemsize: int) -> int:
    """Heads that lie side by side in shared memory, a power of two; 0 where not even one finds room."""
    columns = min(MOST_COLUMNS, power_of_two(heads))
    while columns and itemsize * (columns * room(far) + room(near)) + SENDERS > SHARED:
        columns //= 2
    return columns


def defines(heads: int, far: int, near: int, dtype: torch.dtype) -> dict[str, int | str]:
    columns = columns_for(heads, far, near, dtype.itemsize)
    value = VALUE_OF[dtype]
    return dict(VALUE=value, FAR=room(far), NEAR=room(near), COLUMNS=columns, THREADS=THREADS)


PACKED = tuple(defines(heads, genes, genes, torch.float32) for heads in (4, 8) for genes in (704, 1024))


def unable(ligands: int, receptors: int, pairs: int, heads: int, itemsize: int) -> str | None:
    """Why the kernels cannot run with so many genes on each side, or None."""
    far, near = (min(genes, pairs) for genes in (ligands, receptors))
    if all(columns_for(heads, *genes, itemsize) for genes in ((far, near), (near, far))):
        return ligrec.unable(ligands, pairs, itemsize)
    return f"no kernel for pairs of up to {far} ligands and {near} receptors in {8 * itemsize} bits"


def forward(
    ligand: Expression, receptor: Expression, weight: Tensor, lig: Tensor, rec: Tensor, indptr: Tensor, indices: Tensor
) -> Tensor:
    """(E, H) logits; see `metaniche.ops.pair_logits`."""
    heads, edges = weight.shape[0], indices.numel()
    if lig.numel() == 0:
        return weight.new_zeros(edges, heads)
    far, near = _sides(ligand, receptor, lig, rec, heads)
    how = defines(heads, far.genes, near.genes, weight.dtype)
    ptr, order = grouped(far.gene_P, far.genes)
    logits = weight.new_empty(edges, heads)
    blocks = indptr.numel() - 1, blocks_for(heads, how["COLUMNS"])
    pairs = ptr, near.gene_P[order], weight.detach().t()[order].contiguous()
    sizes = blocks[0], far.columns.numel(), near.columns.numel(), far.genes, order.numel(), edges, heads
    launch(FORWARD, how, blocks, *far.rows, *near.rows, *pairs, indptr, indices, *sizes, logits)
    return logits


def backward(
    grad: Tensor,
    ligand: Expression,
    receptor: Expression,
    weight: Tensor,
    lig: Tensor,
    rec: Tensor,
    indptr: Tensor,
    indices: Tensor,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ligand, receptor and weight; an empty tensor for each that `wanted` leaves out."""
    grads = [weight.new_empty(0)] * 3
    if wanted[0]:
        ptr, receivers, order = by_sender(indptr, indices)
        grads[0] = _grad_near(grad[order], receptor, ligand, weight, rec, lig, ptr, receivers)
    if wanted[1]:
        grads[1] = _grad_near(grad, ligand, receptor, weight, lig, rec, indptr, indices)
    if wanted[2]:
        grads[2] = _grad_weight(grad, ligand, receptor, lig, rec, indptr, indices)
    return tuple(grads)


def _grad_near(
    grad: Tensor, far: Expression, near: Expression, weight: Tensor, far_P: Tensor, near_P: Tensor, ptr, indices
) -> Tensor:
    """The gradient of what the rows' own cells express, in its storage."""
    heads, pairs, dense = weight.shape[0], far_P.numel(), near.ptr is None
    if pairs == 0 or heads == 0:
        return torch.zeros_like(near.values)
    far = side(far, far_P)
    if not columns_for(heads, far.genes, 0, weight.element_size()):
        far = named(far)
    how = defines(heads, far.genes, 0, weight.dtype)
    n, genes = near.shape
    rows = torch.arange(n + 1, device=grad.device) * genes if dense else near.ptr.contiguous()
    columns = indices.new_empty(0) if dense else near.columns.contiguous()
    gene_ptr, order = grouped(near_P, genes)
    out = torch.empty_like(near.values, memory_format=torch.contiguous_format)
    of_pairs = gene_ptr, far.gene_P[order], weight.detach().t()[order].contiguous()
    sizes = n, far.columns.numel(), columns.numel(), out.numel(), genes, pairs, indices.numel(), heads
    launch(BACKWARD, how, n, *far.rows, rows, columns, *of_pairs, ptr, indices, grad, *sizes, out)
    return out


def _grad_weight(
    grad: Tensor, ligand: Expression, receptor: Expression, lig: Tensor, rec: Tensor, indptr: Tensor, indices: Tensor
) -> Tensor:
    """(H, P): the sum of the plain signals, with each head's gradient as the weight of the edges."""
    far, near = ligrec.fitting(side(ligand, lig)), side(receptor, rec)
    edges, pairs = indices.numel(), lig.numel()
    how = ligrec.defines(far.genes, pairs, grad.dtype, saturates=False)
    all_edges = torch.arange(2, device=grad.device) * edges  # what comes from the host would be waited for
    receivers = ligrec.receivers_of(indptr, edges)
    sums = ligrec.pair_sums(far, near, receivers, indices, grad.t().contiguous(), all_edges, how)
    return sums[0].to(grad.dtype)


def _sides(ligand: Expression, receptor: Expression, lig: Tensor, rec: Tensor, heads: int) -> tuple[Side, Side]:
    far, near = side(ligand, lig), side(receptor, rec)
    if columns_for(heads, far.genes, near.genes, far.values.element_size()):
        return far, near
    return named(far), named(near)
