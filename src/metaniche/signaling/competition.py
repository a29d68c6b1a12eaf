"""Signals when pairs share what cells make: collective optimal transport of ligands to receptors in reach."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.errors import ConfigError, GraphError, InputError
from metaniche.graph import CellGraph
from metaniche.ops import Transport, transport
from metaniche.ops.expression import check_indices
from metaniche.signaling.by_type import Groups, sums_by_type, type_codes
from metaniche.signaling.expression import PairExpression

log = logging.getLogger(__name__)

LARGE_BYTES = 1_000_000_000
COPIES = 4  # float64 of all cells by ligands and receptors: expression, its shares, and scalings as they change


class TypeFlows(NamedTuple):
    """What moves between cell types, sender type first."""

    amount: Tensor
    """(T, T, P) float64."""
    total_P: Tensor
    """(P,) what of each pair moves at all."""
    n_edges: Tensor
    """(T, T) int64 within reach."""


def compete(
    expression: PairExpression, graph: CellGraph, reach_um: float, *, eps: float = 0.1, rho: float = 10.0
) -> Transport:
    """Transport the ligands of all pairs to their receptors over the edges up to `reach_um`, at a cost of their length.

    A ligand that several receptors could take, and a receptor that several ligands could fill, is shared; what finds no
    partner in reach stays unmet. This is COMMOT's model (Cang et al. 2023, doi:10.1038/s41592-022-01728-4); `eps` and
    `rho` as in `ops.transport`, where the problem stands. A cell is not its own neighbour.

    Memory is O(E + N (L + R)). A warning says where the transport did not converge. Raises InputError when no edge is that
    short, ConfigError for a reach that is not above 0, GraphError for a graph that holds a draw of neighbours.
    """
    graph.check_complete("competition")
    if not reach_um > 0:
        raise ConfigError(f"Expected a reach above 0 um, found {reach_um}.")
    within = graph.keep(graph.distance_um <= reach_um)
    if not within.n_edges:
        shortest = f"the shortest is {float(graph.distance_um.min()):.0f} um" if graph.n_edges else "there are none"
        raise InputError(f"Expected edges of up to {reach_um:g} um, found none: {shortest}. Raise reach_um.")
    sides = expression.ligand_NL.shape[1], expression.receptor_NR.shape[1]
    needed = 8 * COPIES * expression.ligand_NL.shape[0] * sum(sides)
    level = logging.WARNING if needed > LARGE_BYTES else logging.DEBUG
    log.log(
        level, "Competition of %d ligands and %d receptors takes about %.1f GB of memory, and its time grows with the pairs "
        "and edges that compete.", *sides, needed / 1e9,
    )  # fmt: skip
    pairs = torch.stack((expression.lig_P, expression.rec_P), 1).long()
    solved = transport(
        expression.ligand_NL.to_dense(),
        expression.receptor_NR.to_dense(),
        pairs,
        within.indptr,
        within.indices,
        within.distance_um,
        sample_ptr=graph.sample_ptr,
        eps=eps,
        rho=rho,
    )
    if not bool(solved.converged_S.all()):
        log.warning(
            "Transport did not converge in %d of %d samples: amounts miss what cells make and take by up to %.1g of it. "
            "A larger eps converges sooner.",
            int((~solved.converged_S).sum()), solved.converged_S.numel(), float(solved.marginal_error_S.max()),
        )  # fmt: skip
    return solved


def flows_between_types(
    solved: Transport, graph: CellGraph, reach_um: float, type_N: Tensor, n_types: int, pairs: Sequence[int]
) -> TypeFlows:
    """What moves from cells of one type to cells of another, for the pairs at these positions.

    `graph` and `reach_um` as given to `compete`; one plan at a time is written out, O(E) for each pair.
    """
    check_indices(type_N.cpu(), n_types, "type_N")
    if type_N.numel() != graph.n_cells:
        raise GraphError(f"Expected a type for each of {graph.n_cells} cells, found {type_N.numel()}.")
    within = graph.keep(graph.distance_um <= reach_um)
    key = type_N[within.indices.long()].long() * n_types + type_N[within.receivers()].long()
    between = Groups.of(key, n_types**2)
    amounts = [between.sums(solved.plan(pair)) for pair in pairs]
    amount = torch.stack(amounts, 1).reshape(n_types, n_types, len(amounts))
    return TypeFlows(amount, amount.sum((0, 1)), between.pointers.diff().reshape(n_types, n_types))


def competing_signals(
    expression: PairExpression,
    cell_types: pd.Categorical,
    graph: CellGraph,
    reach_um: float,
    *,
    eps: float = 0.1,
    rho: float = 10.0,
) -> pd.DataFrame:
    """What every pair moves from each cell type to each other one when all pairs compete (see `compete`).

    Cells without a type compete as well and are not in the table. The device of `expression` and `graph` does the work.

    Returns
    -------
    A row per sender type, receiver type and pair that moves anything: `sender`, `receiver`, `ligand`, `receptor`,
    `signaling_type`, `pathway`, `amount` in units of the expression, `share` of what the sender type makes of the ligand,
    and `n_edges` within reach. Largest amount first. Amounts are not tested: how much moves says nothing of chance.
    """
    types = type_codes(cell_types, graph.pos_um.device)
    solved = compete(expression, graph, reach_um, eps=eps, rho=rho)
    flows = flows_between_types(solved, graph, reach_um, types.code_N, types.n, range(expression.n_pairs))
    made = sums_by_type(expression.ligand_NL, types.code_N, types.n)[:, expression.lig_P.numpy(force=True)]
    named = slice(len(types.names))
    amount = flows.amount.numpy(force=True)[named, named]
    a, b, p = np.nonzero(amount)
    pairs = expression.pairs[["ligand", "receptor", "signaling_type", "pathway"]].iloc[p].reset_index(drop=True)
    pairs.insert(0, "sender", pd.Categorical.from_codes(a, types.names))
    pairs.insert(1, "receiver", pd.Categorical.from_codes(b, types.names))
    table = pairs.assign(
        amount=amount[a, b, p], share=amount[a, b, p] / made[a, p], n_edges=flows.n_edges.numpy(force=True)[a, b]
    )
    return table.sort_values("amount", ascending=False, kind="stable", ignore_index=True)
