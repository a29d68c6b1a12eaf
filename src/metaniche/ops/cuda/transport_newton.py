"""Truncated Newton on the dual of many transports at once; the kernels stand in `metaniche.ops.cuda.transport`.

The method is the CPU solver's (`csrc/cpu/transport_newton.h`): the dual over beta = log v, conjugate gradients within
a trust region, a penalty that grows to its value. Here every launch works on all cells, and each problem (a sample and
a group of pairs that compete) has its own step length, radius and end. Sinkhorn's own iteration, also with Anderson
acceleration, takes thousands of products for the last digits or stalls. Numbers of problems are (S, G).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaniche.ops.cuda import transport as kernels
from metaniche.ops.cuda.pieces import pieces
from metaniche.ops.cuda.segment import segment_max, segment_sum

GROWTH = 1.3  # of the penalty, from one solution to the next
MIDWAY = 1e-4  # tolerance before the last penalty
FIRST_RADIUS = 5.0


class Columns:
    """The ligands or the receptors that pairs name, group after group, and sums over them."""

    def __init__(self, named: np.ndarray, group_of: np.ndarray, sample_ptr: Tensor) -> None:
        ids, first, place = np.unique(named, return_index=True, return_inverse=True)
        order = np.argsort(group_of[first], kind="stable")
        group = group_of[first][order]
        place_of = np.empty_like(order)
        place_of[order] = np.arange(len(order))
        device = sample_ptr.device
        self.of_pair = place_of[place]
        self.ids = torch.from_numpy(ids[order].astype(np.int64)).to(device)
        self.group = torch.from_numpy(group.astype(np.int64)).to(device)
        counts = np.bincount(group)
        self.group_ptr = torch.from_numpy(np.concatenate(([0], counts.cumsum()))).to(device)
        n = int(sample_ptr[-1])
        self.cut = pieces(sample_ptr, n)
        self.sample = torch.arange(len(sample_ptr) - 1, device=device).repeat_interleave(
            sample_ptr.diff(), output_size=n
        )

    def sum(self, x_NC: Tensor) -> Tensor:
        """(S, G) sums over the cells of a sample and the columns of a group, in one fixed order."""
        return self._reduced(segment_sum, x_NC)

    def longest(self, x_NC: Tensor) -> Tensor:
        """(S, G) largest size; 0 where a problem has nothing."""
        return self._reduced(segment_max, x_NC.abs())

    def each(self, x_SG: Tensor) -> Tensor:
        """(N, C) the number of each mass's problem."""
        return x_SG.index_select(1, self.group).index_select(0, self.sample)

    def _reduced(self, reduce, x_NC: Tensor) -> Tensor:
        of_sample = reduce(reduce(x_NC.contiguous(), self.cut[0]), self.cut[1])
        return reduce(of_sample.t().contiguous(), self.group_ptr).t()


@dataclass
class State:
    """Everything that follows from beta."""

    v: Tensor
    share: Tensor
    total: Tensor
    dual: Tensor
    missing: Tensor


def solve(
    ligand_NL: Tensor,
    receptor_NR: Tensor,
    pairs_P2: np.ndarray,
    group_of_P: np.ndarray,
    sample_ptr: Tensor,
    edges: kernels.Edges,
    penalty: float,
    tolerance: float,
    max_iter: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log scalings (N, L), (N, R), products (S,) and marginal error (S,); float64 tensors on the GPU.

    Every problem ends by itself at its own marginal error or number of products.
    """
    log_u, log_v = (torch.full_like(x, -math.inf) for x in (ligand_NL, receptor_NR))
    n_samples = sample_ptr.numel() - 1
    if not len(pairs_P2) or not len(ligand_NL):
        return log_u, log_v, sample_ptr.new_zeros(n_samples), ligand_NL.new_zeros(n_samples)
    ligands, receptors = (Columns(pairs_P2[:, k], group_of_P, sample_ptr) for k in (0, 1))
    a, b = ligand_NL.index_select(1, ligands.ids), receptor_NR.index_select(1, receptors.ids)
    newton = Newton(a, b, ligands, receptors, edges)
    newton.follow(penalty, tolerance, max_iter)
    # Mass that cannot move is all slack.
    moved_u, moved_v = newton.a.log() + newton.now.share.log(), newton.beta
    log_u[:, ligands.ids] = torch.where(newton.a > 0, moved_u, a.log() + penalty)
    log_v[:, receptors.ids] = torch.where(newton.b > 0, moved_v, b.log() + penalty)
    demand = receptors.sum(b).sum(1).clamp(min=torch.finfo(b.dtype).tiny)
    return log_u, log_v, newton.products.amax(1), newton.now.missing.sum(1) / demand


class Newton:
    """All problems; `a` and `b` are the masses that an edge and a pair link, 0 elsewhere."""

    def __init__(self, a: Tensor, b: Tensor, ligands: Columns, receptors: Columns, edges: kernels.Edges) -> None:
        self.columns, self.senders, self.edges, self.slack = receptors, ligands, edges, 0.0
        self.turned = kernels.turned(*edges)
        width_a, width_b = a.shape[1], b.shape[1]
        self.to_ligands = kernels.Joined.of(ligands.of_pair, receptors.of_pair, width_a, a.device)
        self.to_receptors = kernels.Joined.of(receptors.of_pair, ligands.of_pair, width_b, a.device)
        there = (a > 0).to(a.dtype), (b > 0).to(b.dtype)
        reached = kernels.receivers(self.turned, self.to_ligands.spread(there[1]), there[0], 0.0)
        reaching = kernels.receivers(self.edges, self.to_receptors.spread(there[0]), there[1], 0.0)
        self.a, self.b = a * (reached > 0), b * (reaching > 0)
        self.present = self.b > 0
        self.beta, self.demand = torch.zeros_like(b), receptors.sum(self.b)
        self.products = torch.zeros_like(self.demand, dtype=torch.int64)

    def follow(self, penalty: float, tolerance: float, max_iter: int) -> None:
        """Solve at growing penalties; a line through the last two solutions starts the next."""
        at, known = min(2.0, penalty), []
        while True:
            if len(known) == 2:
                (before, at_before), (last, at_last) = known
                self.beta = self.beta + (last - before) * ((at - at_last) / (at_last - at_before))
            end = at == penalty
            most = torch.full_like(self.products, max_iter) if end else self.products + max_iter // 32
            self.maximise(at, tolerance if end else max(tolerance, MIDWAY), most)
            if end:
                return
            known = [*known[-1:], (self.beta, at)]
            at = at * GROWTH if at * GROWTH < 0.9 * penalty else penalty

    def maximise(self, penalty: float, tolerance: float, most: Tensor) -> None:
        """Maximise the dual of every problem at one penalty, from the present beta."""
        self.slack = math.exp(-penalty)
        self.now = self.evaluate(self.beta, self.demand > 0)
        radius = torch.full_like(self.demand, FIRST_RADIUS)
        while True:
            open_ = (self.now.missing > tolerance * self.demand) & (self.products < most)
            if not open_.any():
                return
            x, gain = self.step(radius, open_, most)
            length = self.columns.longest(x)
            trial = self.evaluate(self.beta + x, open_)
            # Below the rounding of the dual a ratio says nothing: the model is then right.
            noise = gain < 1e-13 * self.now.dual.abs()
            ratio = torch.where(noise, 1.0, (trial.dual - self.now.dual) / gain)
            radius = torch.where(ratio > 0.1, radius, torch.minimum(radius, length) * 0.3)
            radius = torch.where((ratio > 0.7) & (length > 0.9 * radius), 2 * radius, radius)
            taken = self.columns.each(open_ & (ratio > 1e-3))
            total = torch.where(taken, trial.total, self.now.total)
            # One step of Sinkhorn never lowers the dual and smooths what the model got wrong.
            smoothed = torch.where(self.present & self.columns.each(open_), (self.b / total).log(), 0.0)
            self.beta = self.beta + torch.where(taken, x, 0.0) + smoothed
            self.now = self.evaluate(self.beta, open_)

    def evaluate(self, beta: Tensor, counted: Tensor) -> State:
        """Both halves of a kernel product at beta."""
        self.products += counted
        v = torch.where(self.present, beta.exp(), 0.0)
        share, u = kernels.senders(self.turned, self.to_ligands.spread(v), self.a, self.slack)
        total = kernels.receivers(self.edges, self.to_receptors.spread(u), v, self.slack)
        unmoved = self.columns.sum(torch.where(self.present, self.b * beta - self.slack * v, 0.0))
        supplied = self.senders.sum(torch.where(self.a > 0, self.a * share.log(), 0.0))
        return State(v, share, total, unmoved + supplied, self.columns.sum((self.b - total).abs()))

    def curved(self, p: Tensor) -> Tensor:
        """The dual's Hessian times `p`."""
        now = self.now
        answer = kernels.senders_step(self.turned, self.to_ligands.spread(now.v * p), self.a, now.share)
        return kernels.receivers_step(self.edges, self.to_receptors.spread(answer), now.v, now.total, p)

    def step(self, radius: Tensor, going: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """Steihaug's conjugate gradients: Newton's step, or where it leaves the box of half side `radius`.

        Returns the step and the gain that the quadratic model predicts.
        """
        columns = self.columns
        inverse = torch.where(self.present, 1 / self.now.total, 0.0)
        x, r = torch.zeros_like(self.b), self.b - self.now.total
        p = r * inverse
        rz, gain = columns.sum(r * p), torch.zeros_like(radius)
        enough = rz * (self.now.missing / self.demand).clamp(max=0.09)
        going = going & (rz > enough)
        while going.any():
            q = self.curved(p)
            self.products += going
            pq = columns.sum(p * q)
            t = rz / pq
            leaves = ~(pq > 0) | (columns.longest(x + columns.each(t) * p) > radius)
            t = torch.where(going, torch.where(leaves, self.box(x, p, radius), t), 0.0)
            gain = gain + t * rz - 0.5 * t * t * pq.clamp(min=0)
            each = columns.each(t)
            x, r = x + each * p, r - each * q
            advanced = columns.sum(r * r * inverse)
            going = going & ~leaves & (advanced > enough) & (self.products < most)
            p = r * inverse + columns.each(torch.where(going, advanced / rz, 0.0)) * p
            rz = advanced
        return x, gain

    def box(self, x: Tensor, p: Tensor, radius: Tensor) -> Tensor:
        """How far each problem may go along p until an |x| reaches the radius; see `room` in common/transport.h."""
        left = (self.columns.each(radius) - torch.sign(p) * x).clamp(min=0)
        return 1 / self.columns.longest(torch.where(p == 0, 0.0, p / left))
