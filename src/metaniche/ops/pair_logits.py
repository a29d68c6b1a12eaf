"""Ligand-receptor logits of every edge and head, bilinear in expression, with gradients; never E x P."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, dense, native, once_differentiable, register_autograd
from metaniche.ops.by_sender import by_sender
from metaniche.ops.cuda import pair_logits as cuda
from metaniche.ops.expression import Expression, check_indices
from metaniche.ops.ligrec import pairs_by_gene
from metaniche.ops.reference import pair_logits as reference
from metaniche.ops.segment import check_graph


def pair_logits(
    ligand_NL: Tensor,
    receptor_NR: Tensor,
    weight_HP: Tensor,
    lig_P: Tensor,
    rec_P: Tensor,
    indptr: Tensor,
    indices: Tensor,
) -> Tensor:
    """The ligand-receptor term of attention: a weighted sum over all pairs for every edge j -> i and head.

    .. math:: logit_{eh} = \\sum_p w_{hp} L_{j,lig(p)} R_{i,rec(p)}

    Each receiver's receptors are folded into one weight per ligand and head, which its senders' ligands meet: the
    cost is E H times the ligands of a cell, memory O(E H + N (L + R)). Half types are computed in float32.

    Parameters
    ----------
    ligand_NL, receptor_NR
        (N, L) and (N, R) expression, transformed as wanted (a log, `hill`), dense or torch.sparse_csr. Finite, as the
        weights: whether what is not reaches a logit that has no part in it depends on how much else is 0.
    weight_HP
        (H, P) weight of each pair in each head.
    lig_P, rec_P
        (P,) int32 columns of each pair's ligand and receptor.
    indptr, indices
        CSR of the graph: (N + 1,) int64 and (E,) int32; row = receiver.

    Returns
    -------
    (E, H), differentiable once in the weights and in dense expression, as the values of a sparse matrix are in
    those values; the same on every run and for any number of threads.

    Raises
    ------
    GraphError
        When shapes, dtypes or indices do not fit together.
    """
    half = (torch.bfloat16, torch.float16)
    ligand, receptor = (
        Expression.of(x.float() if x.dtype in half else x, name)
        for x, name in ((ligand_NL, "ligand_NL"), (receptor_NR, "receptor_NR"))
    )
    n = receptor.shape[0]
    if ligand.shape[0] != n:
        raise GraphError(f"Expected ligands and receptors of the same cells, found {ligand.shape[0]} and {n} cells.")
    if lig_P.shape != rec_P.shape or weight_HP.ndim != 2 or weight_HP.shape[1] != lig_P.numel():
        raise GraphError(
            "Expected `weight_HP` of shape (heads, pairs) and a ligand and a receptor for each pair, found "
            f"{tuple(weight_HP.shape)}, `lig_P` {tuple(lig_P.shape)} and `rec_P` {tuple(rec_P.shape)}."
        )
    check_indices(lig_P, ligand.shape[1], "lig_P")
    check_indices(rec_P, receptor.shape[1], "rec_P")
    check_graph(indptr, indices, n)
    dtype = torch.promote_types(weight_HP.dtype, torch.float32)
    for x in (ligand, receptor):
        dtype = torch.promote_types(dtype, x.values.dtype)
    sides = (part for x in (ligand, receptor) for part in (x.values.to(dtype), x.ptr, x.columns, x.shape[1]))
    out = torch.ops.metaniche.pair_logits(*sides, weight_HP.to(dtype), lig_P, rec_P, indptr, indices)
    return out.to(weight_HP.dtype) if weight_HP.dtype in half else out


def _sides(ligand, lig_ptr, lig_columns, n_ligands, receptor, rec_ptr, rec_columns, n_receptors, indptr):
    n = indptr.numel() - 1
    return Expression(ligand, (n, n_ligands), lig_ptr, lig_columns), Expression(
        receptor, (n, n_receptors), rec_ptr, rec_columns
    )


def _chosen(ligand, receptor, weight):
    heads, pairs = weight.shape
    sizes = ligand.shape[1], receptor.shape[1], pairs, heads, weight.element_size()
    return choose("pair_logits", weight.device, cuda.unable(*sizes) if weight.device.type == "cuda" else None)


def _forward(*inputs):
    *sides, weight, lig, rec, indptr, indices = inputs
    ligand, receptor = _sides(*sides, indptr)
    chosen = _chosen(ligand, receptor, weight)
    if chosen == "reference":
        return reference.pair_logits(ligand, receptor, weight, lig, rec, indptr, indices)
    if chosen == "cuda":
        return cuda.forward(ligand, receptor, weight, lig, rec, indptr.contiguous(), indices.contiguous())
    out = torch.empty(indices.numel(), weight.shape[0], dtype=weight.dtype)
    by_receptor = _pairs(rec, lig, receptor)
    weight_PH = weight.detach().t().contiguous()
    native().pair_logits_forward(
        ligand.native(), receptor.native(), by_receptor, weight_PH, *dense(indptr, indices), out
    )
    return out


def _backward(grad, *inputs):
    """Gradients of ligand, receptor and weight; an empty tensor for each that `wanted` leaves out."""
    *sides, weight, lig, rec, indptr, indices, wanted = inputs
    ligand, receptor = _sides(*sides, indptr)
    chosen = _chosen(ligand, receptor, weight)
    if chosen == "reference":
        return reference.pair_logits_backward(grad, ligand, receptor, weight, lig, rec, indptr, indices, wanted)
    if chosen == "cuda":
        # Not detached: the transposed graph is kept for as long as `indices` lives.
        graph = indptr.contiguous(), indices.contiguous()
        return cuda.backward(*dense(grad), ligand, receptor, weight, lig, rec, *graph, wanted)
    grad_ligand, grad_receptor, grad_weight = (
        torch.empty(x.shape if want else 0, dtype=weight.dtype)
        for x, want in zip((ligand.values, receptor.values, weight.t()), wanted)
    )
    weight_PH, grad = weight.detach().t().contiguous(), grad.detach().contiguous()
    if wanted[1] or wanted[2]:
        native().pair_logits_backward(
            ligand.native(), receptor.native(), _pairs(rec, lig, receptor), weight_PH, *dense(indptr, indices), None,
            grad, grad_receptor.view(-1) if wanted[1] else None, grad_weight if wanted[2] else None,
        )  # fmt: skip
    if wanted[0]:
        ptr, receivers, edges = by_sender(indptr, indices)
        native().pair_logits_backward(
            receptor.native(), ligand.native(), _pairs(lig, rec, ligand), weight_PH, ptr, receivers, edges,
            grad, grad_ligand.view(-1), None,
        )  # fmt: skip
    return grad_ligand, grad_receptor, grad_weight.t().contiguous() if wanted[2] else grad_weight


def _pairs(gene_P, partner_P, side):
    slot_P = torch.arange(gene_P.numel(), dtype=torch.int32)
    return pairs_by_gene(gene_P, partner_P, slot_P, side.shape[1])


def _setup_context(ctx, inputs, output):
    ctx.widths = inputs[3], inputs[7]
    ctx.save_for_backward(*(x for k, x in enumerate(inputs) if k not in (3, 7)))


def _differentiate(ctx, grad):
    saved = list(ctx.saved_tensors)
    saved.insert(3, ctx.widths[0])
    saved.insert(7, ctx.widths[1])
    wanted = [ctx.needs_input_grad[k] for k in (0, 4, 8)]
    grads = torch.ops.metaniche.pair_logits_backward(grad, *saved, wanted)
    ligand, receptor, weight = (g if want else None for g, want in zip(grads, wanted))
    return ligand, None, None, None, receptor, None, None, None, weight, None, None, None, None


def _fake_backward(grad, *inputs):
    return tuple(inputs[k].new_empty(inputs[k].shape if want else 0) for k, want in zip((0, 4, 8), inputs[-1]))


_INPUTS = (
    "Tensor ligand, Tensor? lig_ptr, Tensor? lig_columns, SymInt n_ligands, "
    "Tensor receptor, Tensor? rec_ptr, Tensor? rec_columns, SymInt n_receptors, "
    "Tensor weight, Tensor lig, Tensor rec, Tensor indptr, Tensor indices"
)
library = torch.library.Library("metaniche", "FRAGMENT")
library.define(f"pair_logits({_INPUTS}) -> Tensor")
library.define(f"pair_logits_backward(Tensor grad, {_INPUTS}, bool[] wanted) -> (Tensor, Tensor, Tensor)")
library.impl("pair_logits", _forward, "CompositeExplicitAutograd")
library.impl("pair_logits_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake(
    "metaniche::pair_logits", lambda *x: x[8].new_empty(x[12].shape[0], x[8].shape[0]), lib=library
)
torch.library.register_fake("metaniche::pair_logits_backward", _fake_backward, lib=library)
register_autograd("pair_logits", _differentiate, _setup_context, library)
once_differentiable("pair_logits_backward", library)
