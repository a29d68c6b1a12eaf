"""Single edges and the directions that signals take: what is drawn over the tissue."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.graph import CellGraph, rows_of
from metaniche.ops import LigandReceptor, sent_signal
from metaniche.signaling.csr import to_scipy


class EdgeSignals(NamedTuple):
    """Edges that carry a pair's signal, strongest first."""

    sender: Tensor
    """(K,) int64 cell."""
    receiver: Tensor
    signal: Tensor
    """(K,) float32, above 0."""


def strongest_edges(problem: LigandReceptor, pair: int, k: int = 1000) -> EdgeSignals:
    """The `k` edges (fewer where fewer carry any) with the strongest signal of the pair at position `pair`.

    O(E) in time and memory for one pair. Raises GraphError for a position that is not there and for k below 1.
    """
    n_pairs = problem.lig_P.numel()
    if not 0 <= pair < n_pairs or k < 1:
        raise GraphError(f"Expected a pair in [0, {n_pairs}) and k >= 1, found {pair} and {k}.")
    ligand, receptor = (
        torch.from_numpy(to_scipy(side)[:, [int(columns[pair])]].toarray()[:, 0])
        for side, columns in ((problem.ligand_NL, problem.lig_P), (problem.receptor_NR, problem.rec_P))
    )
    sender = problem.indices.long()
    receiver = rows_of(problem.indptr)
    signal = ligand[sender] * receptor[receiver]
    if problem.half_saturation is not None:
        power = (signal / problem.half_saturation) ** problem.exponent
        signal = power / (1 + power)
    signal = signal * problem.weight_E
    top = torch.topk(signal, min(k, int((signal > 0).sum())))
    return EdgeSignals(sender[top.indices], receiver[top.indices], top.values)


def sent_direction(
    problem: LigandReceptor, graph: CellGraph, group_P: Tensor | None = None, n_groups: int | None = None
) -> Tensor:
    """Where each cell's signals go: its unit vectors to receivers, summed with their signals.

    .. math:: v_{jg} = \\sum_{p \\in g} \\sum_i s_{ijp} \\frac{x_i - x_j}{|x_i - x_j|}

    The vector field of COMMOT (Cang et al. 2023, doi:10.1038/s41592-022-01728-4). Receivers at the very place of the
    sender have no direction and add nothing.

    Parameters
    ----------
    problem
        Over the edges of `graph`, all of them.
    group_P, n_groups
        As in `ops.sent_signal`.

    Returns
    -------
    (N, G, 2 or 3) float32, in units of the signal. Raises GraphError when the problem has other edges than the graph.
    """
    if problem.indices.numel() != graph.n_edges:
        raise GraphError(
            f"Expected a problem over the {graph.n_edges} edges of the graph, found {problem.indices.numel()}. "
            "Directions need the positions of both ends of every edge."
        )
    step = graph.pos_um[graph.receivers()] - graph.pos_um[graph.indices.long()]
    length = step.norm(dim=1, keepdim=True)
    unit = torch.where(length > 0, step / length.clamp(min=1e-12), 0.0)
    along = [
        sent_signal(replace(problem, weight_E=problem.weight_E * unit[:, axis]), group_P, n_groups)
        for axis in range(unit.shape[1])
    ]
    return torch.stack(along, dim=2)
