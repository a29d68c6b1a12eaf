"""Bilinear ligand-receptor logits with dense products, a few rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaniche.ops.reference.by_sender import by_sender
from metaniche.ops.reference.expression import blocks, take_rows

if TYPE_CHECKING:
    from metaniche.ops.expression import Expression

ROWS_A_BLOCK = 256


def pair_logits(
    ligand: Expression, receptor: Expression, weight: Tensor, lig: Tensor, rec: Tensor, indptr: Tensor, indices: Tensor
) -> Tensor:
    """(E, H); see `metaniche.ops.pair_logits`."""
    mixing_HLR = _mixing(weight, lig, rec, ligand.shape[1], receptor.shape[1])
    out = torch.zeros(indices.numel(), len(weight), dtype=torch.float64, device=indices.device)
    for rows, edge, row in _row_blocks(indptr):
        near, far = take_rows(receptor, rows), take_rows(ligand, indices[edge].long())
        for h, mixing_LR in enumerate(mixing_HLR):
            out[edge, h] = (far * (near @ mixing_LR.t())[row]).sum(1)
    return out.to(weight.dtype)


def pair_logits_backward(
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
    mixing_HLR = _mixing(weight, lig, rec, ligand.shape[1], receptor.shape[1])
    grad = grad.double()
    grads = [weight.new_empty(0)] * 3
    if wanted[1] or wanted[2]:
        grads[1], grads[2] = _of_rows(grad, ligand, receptor, mixing_HLR, lig, rec, indptr, indices)
    if wanted[0]:
        ptr, receivers, edges = by_sender(indptr, indices, ligand.shape[0])
        mixing_HRL = mixing_HLR.transpose(1, 2)
        grads[0], _ = _of_rows(grad[edges], receptor, ligand, mixing_HRL, rec, lig, ptr, receivers)
    return tuple(g.to(weight.dtype) if want else weight.new_empty(0) for g, want in zip(grads, wanted))


def _of_rows(
    grad_EH: Tensor,
    far: Expression,
    near: Expression,
    mixing_HAB: Tensor,
    far_P: Tensor,
    near_P: Tensor,
    indptr: Tensor,
    indices: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of the rows' own expression (in its storage) and of the weights (H, P)."""
    n, heads = near.shape[0], grad_EH.shape[1]
    grad_near = torch.zeros(n, near.shape[1], dtype=torch.float64, device=grad_EH.device)
    grad_weight = torch.zeros(heads, far_P.numel(), dtype=torch.float64, device=grad_EH.device)
    for rows, edge, row in _row_blocks(indptr):
        x_far, x_near = take_rows(far, indices[edge].long()), take_rows(near, rows)
        for h in range(heads):
            around = torch.zeros(len(rows), far.shape[1], dtype=torch.float64, device=grad_EH.device)
            around.index_add_(0, row, grad_EH[edge, h, None] * x_far)
            grad_near[rows] += around @ mixing_HAB[h]
            grad_weight[h] += (around[:, far_P.long()] * x_near[:, near_P.long()]).sum(0)
    if near.ptr is None:
        return grad_near, grad_weight
    row = torch.arange(n, device=grad_EH.device).repeat_interleave(near.ptr.diff())
    return grad_near[row, near.columns.long()], grad_weight


def _mixing(weight: Tensor, lig: Tensor, rec: Tensor, n_ligands: int, n_receptors: int) -> Tensor:
    """(H, L, R) sum of the weights of the pairs of each ligand and receptor."""
    out = torch.zeros(len(weight), n_ligands * n_receptors, dtype=torch.float64, device=weight.device)
    out.index_add_(1, lig.long() * n_receptors + rec.long(), weight.detach().double())
    return out.view(len(weight), n_ligands, n_receptors)


def _row_blocks(indptr: Tensor):
    for start, stop in blocks(indptr.numel() - 1, ROWS_A_BLOCK):
        ptr = indptr[start : stop + 1]
        rows = torch.arange(start, stop, device=indptr.device)
        edge = torch.arange(int(ptr[0]), int(ptr[-1]), device=indptr.device)
        yield rows, edge, (rows - start).repeat_interleave(ptr.diff())
