"""Cell-cell communication of one sample: every measured pair between every two cell types, with its null, and per cell."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.stats import false_discovery_control
from torch import Tensor

from metaniche.errors import InputError
from metaniche.graph import CellGraph, kept_pointers
from metaniche.io.progress import Tell
from metaniche.ops import LigandReceptor, hill, received_signal, sent_signal, type_pair_sums
from metaniche.signaling.by_type import TypeCodes, sums_by_type, type_codes
from metaniche.signaling.csr import map_values
from metaniche.signaling.expression import PairExpression, pair_expression
from metaniche.signaling.matched_pairs import matched_pairs_null
from metaniche.signaling.nulls import SignalNull, label_null, permutation_null, position_null
from metaniche.signaling.resources import Resource
from metaniche.signaling.shifts import KEPT_BYTES, KeptShifts, shift_null
from metaniche.signaling.signal_config import SignalConfig

log = logging.getLogger(__name__)

COLUMNS = (
    "sender", "receiver", "ligand", "receptor", "signaling_type", "pathway", "score", "expected", "sd", "z", "p", "q",
    "n_edges", "sender_share", "receiver_share",
)  # fmt: skip


@dataclass(frozen=True)
class Communication:
    """Signals of one sample.

    Attributes
    ----------
    table
        A row per sender type, receiver type and pair that was tested, with COLUMNS, smallest p first. `score` is the mean
        signal over the weight of the edges between the two types, `expected` and `sd` its mean and standard deviation
        under the null; `p` is one-sided (larger than under the null), `q` is Benjamini and Hochberg's over the sample.
        `sender_share` and `receiver_share` of the two types express their side.
    sent, received
        (N, K) float32 per cell, summed over its receivers or senders and over the pairs of each of the K pathways (or
        signaling types, where the resource names no pathway).
    provenance
        Resource, config, null and what was measured, as plain values.
    """

    table: pd.DataFrame
    sent: pd.DataFrame
    received: pd.DataFrame
    provenance: dict


class Panel(NamedTuple):
    """What nulls ask for beside the pairs: all that a sample measures, where its cells are, and their shifts."""

    x: np.ndarray | sparse.csr_array
    features: Sequence[str]
    pos_um: Tensor
    shifts: KeptShifts | None


def communicate(
    x: np.ndarray | sparse.csr_array,
    features: Sequence[str],
    cell_types: pd.Categorical,
    graph: CellGraph,
    resource: Resource,
    config: SignalConfig | None = None,
    progress: Tell | None = None,
) -> Communication:
    """Score and test all pairs of a resource in one sample.

    Parameters
    ----------
    x
        (N, G) finite expression of 0 or above, cells as in `graph`: log-normalised counts (see
        `io.matrices.log_normalised`) or intensities.
    cell_types
        (N,) types; cells without one neither send nor receive in the table.
    graph
        Of one sample, on the device that does the work. Edges beyond its radius carry no signal, whatever the decay.

    Raises
    ------
    InputError
        When no pair is measured, shapes do not fit, expression is negative or not finite, or fewer than four cells have
        a type.
    """
    config = config or SignalConfig()
    if x.shape[0] != graph.n_cells or len(cell_types) != graph.n_cells:
        raise InputError(
            f"Expected expression and a type for each of the {graph.n_cells} cells of the graph, found {x.shape[0]} rows "
            f"and {len(cell_types)} types."
        )
    n_typed = int((cell_types.codes >= 0).sum())
    if n_typed < 4:
        raise InputError(f"Expected at least 4 cells with a cell type, found {n_typed}. Fill obs['cell_type'].")
    device = graph.pos_um.device
    types = type_codes(cell_types, device)
    expression = pair_expression(x, features, resource, config.complexes, device)
    pairs_of_kind = {kind: expression.select(mine).names for kind, mine in expression.by_signaling_type()}
    _check_reach(list(pairs_of_kind), graph, config)
    panel = Panel(x, features, graph.pos_um, _shifts(graph, types, config))
    tables, sent, received, n_kinds = [], [], [], len(pairs_of_kind)
    for number, (kind, part, problem) in enumerate(by_signaling_type(expression, graph, config)):
        if progress is not None:
            progress(number, n_kinds, f"{part.n_pairs} {kind} pairs")
        tell = progress and partial(inside, progress, number, n_kinds, kind)
        tables.append(_tested(part, problem, kind, types, panel, config, tell))
        codes, names = pd.factorize(part.pairs["pathway"].fillna(kind), sort=True)
        group_P = torch.from_numpy(codes).to(device, torch.int32)
        for side, signal in ((sent, sent_signal), (received, received_signal)):
            of_groups = signal(problem, group_P, len(names)).numpy(force=True)
            side.append(pd.DataFrame(of_groups, columns=list(names)))
    if progress is not None:
        progress(n_kinds, n_kinds, "done")
    table = pd.concat(tables, ignore_index=True)
    if config.null_model != "none":
        tested = table["p"].notna()
        table.loc[tested, "q"] = false_discovery_control(table.loc[tested, "p"]) if tested.any() else np.nan
    order = "score" if config.null_model == "none" else "p"
    table = table.sort_values(order, ascending=order == "p", kind="stable", ignore_index=True)[list(COLUMNS)]
    about = {
        **resource.provenance(),
        "n_measured": expression.n_pairs,
        "n_features": len(features),
        "score": config.score,
        "complexes": config.complexes,
        "null_model": config.null_model,
        "n_permutations": config.n_permutations,
        "half_saturation": config.half_saturation if config.score in ("hill", "mass_action") else None,
        "min_share": config.min_share,
        "decays": {kind: f"{config.decay(kind).kind} {config.decay(kind).length_um:g} um" for kind in pairs_of_kind},
        "signaling_types": pairs_of_kind,
        "n_cells": graph.n_cells,
        "n_untyped": graph.n_cells - n_typed,
        "n_tested": len(table),
    }
    return Communication(
        table, *(pd.concat(side, axis=1).T.groupby(level=0).sum().T for side in (sent, received)), about
    )


def estimate_memory(n_cells: int, n_edges: int, nnz: int, n_types: int, n_pairs: int, n_shifts: int = 0) -> int:
    """Bytes that `communicate` is expected to take at most, beside its arguments.

    The ligands and receptors of the pairs (at most every stored value, twice, 12 bytes each), six numbers per edge of one
    signaling type at a time and its transposed graph, blocks of 4,096 cells by pairs, and some thirty numbers for every two
    types and pair: in tables, and in the rows made of them. The null of shifts keeps KEPT_BYTES of them at most.
    """
    shifts = min(4 * n_cells * n_shifts, KEPT_BYTES)
    tables = 30 * 8 * n_types**2 * n_pairs
    return 4 * 12 * nnz + n_edges * (6 * 4 + 12) + n_cells * 40 + 4 * 4096 * n_pairs * 8 + tables + shifts


def _check_reach(kinds: Sequence[str], graph: CellGraph, config: SignalConfig) -> None:
    """InputError where no edge carries any signal; a warning where those of a signaling type carry none."""
    nearest = graph.distance_um.min()[None] if graph.n_edges else graph.distance_um  # no weight grows with distance
    silent = [kind for kind in kinds if not bool((config.decay(kind).weights(nearest) > 0).any())]
    if not silent:
        return
    shortest = f"the shortest edge is {float(graph.distance_um.min()):.0f} um" if graph.n_edges else "there is no edge"
    rules = ", ".join(f"{kind}: {config.decay(kind).kind} {config.decay(kind).length_um:g} um" for kind in silent)
    if len(silent) == len(kinds):
        raise InputError(
            f"Expected edges that carry a signal, found none: {shortest} ({rules}). Check the units of the coordinates; "
            "for spots take signaling=spots and graph=spots, or longer decays."
        )
    log.warning("No edge carries signals of %s: %s. Their pairs are left out.", rules, shortest)


def by_signaling_type(
    expression: PairExpression, graph: CellGraph, config: SignalConfig
) -> Iterator[tuple[str, PairExpression, LigandReceptor]]:
    """(signaling type, its pairs, their signal problem): types differ in how far they reach."""
    for kind, mine in expression.by_signaling_type():
        part = expression.select(mine)
        weight = config.edge_weights(kind, graph)
        yield kind, part, signal_problem(part, graph, weight, config)


def signal_problem(
    expression: PairExpression, graph: CellGraph, weight_E: Tensor, config: SignalConfig
) -> LigandReceptor:
    """The signals of these pairs over the edges that have a weight; transforms make separable scores products."""
    ligand, receptor = expression.ligand_NL, expression.receptor_NR
    if config.score == "geometric_mean":
        ligand, receptor = (map_values(side, side.values().sqrt()) for side in (ligand, receptor))
    if config.score == "hill":
        ligand, receptor = (hill(side, config.half_saturation) for side in (ligand, receptor))
    indptr, indices = graph.indptr, graph.indices
    keep = weight_E > 0
    if not bool(keep.all()):
        indptr, indices, weight_E = kept_pointers(indptr, keep), indices[keep], weight_E[keep]
    saturation = config.half_saturation if config.score == "mass_action" else None
    return LigandReceptor(
        ligand, receptor, expression.lig_P, expression.rec_P, indptr, indices, weight_E, half_saturation=saturation
    )


def inside(progress: Tell, number: int, total: int, kind: str, done: int, of: int, text: str) -> None:
    """Steps within one step of `total`, such as a signaling type, told as that step's text."""
    progress(number, total, f"{kind}: {text}, {done} of {of}")


def _tested(
    expression: PairExpression,
    problem: LigandReceptor,
    kind: str,
    types: TypeCodes,
    panel: Panel,
    config: SignalConfig,
    progress: Tell | None,
) -> pd.DataFrame:
    """The rows of one signaling type."""
    names, type_N, n_types = types
    found = _null(expression, problem, panel, type_N, n_types, config, progress)
    weight, n_edges = (x.numpy(force=True) for x in type_pair_sums(problem.weights_alone(), type_N, n_types))
    share = [
        _shares(side, type_N, n_types)[:, columns.numpy(force=True)]
        for side, columns in ((problem.ligand_NL, problem.lig_P), (problem.receptor_NR, problem.rec_P))
    ]
    sender_share, receiver_share = share[0][:, None, :], share[1][None, :, :]
    tested = (n_edges > 0)[:, :, None] & (sender_share.max(0) > 0) & (receiver_share.max(1) > 0)
    if not config.tests_all_types:
        tested &= (sender_share >= max(config.min_share, 1e-12)) & (receiver_share >= max(config.min_share, 1e-12))
    tested[len(names) :] = tested[:, len(names) :] = False
    a, b, p = np.nonzero(tested)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_weight = 1 / weight[a, b, 0]
    pairs = expression.pairs.iloc[p].reset_index(drop=True)
    return pd.DataFrame(
        {
            "sender": pd.Categorical.from_codes(a, names),
            "receiver": pd.Categorical.from_codes(b, names),
            "ligand": pairs["ligand"],
            "receptor": pairs["receptor"],
            "signaling_type": kind,
            "pathway": pairs["pathway"],
            "score": found.score[a, b, p] * per_weight,
            "expected": found.mean[a, b, p] * per_weight,
            "sd": np.sqrt(found.variance[a, b, p]) * per_weight,
            "z": found.z[a, b, p],
            "p": found.p[a, b, p],
            "q": np.nan,
            "n_edges": n_edges[a, b],
            "sender_share": share[0][a, p],
            "receiver_share": share[1][b, p],
        }
    )


def _null(
    expression: PairExpression,
    problem: LigandReceptor,
    panel: Panel,
    type_N: Tensor,
    n_types: int,
    config: SignalConfig,
    progress: Tell | None,
) -> SignalNull:
    if config.null_model == "none":
        score = type_pair_sums(problem, type_N, n_types)[0].numpy(force=True)
        return SignalNull(score, *(np.full(score.shape, np.nan) for _ in range(4)))
    if config.null_model == "matched_pairs":
        column = {name: i for i, name in enumerate(panel.features)}
        genes = np.array(
            [[column.get(gene, -1) for gene in expression.pairs[side]] for side in ("ligand", "receptor")]
        ).T
        how = {"n_random": config.n_permutations, "seed": config.seed, "progress": progress}
        return matched_pairs_null(problem, panel.x, genes, type_N, n_types, **how)
    n_draws, how = config.n_permutations, {"stop_after": config.stop_after, "seed": config.seed, "progress": progress}
    if config.null_model == "shifts":
        return shift_null(problem, panel.pos_um, type_N, n_types, n_draws, sources=panel.shifts, **how)
    if n_draws:
        return permutation_null(problem, type_N, n_types, config.null_model, n_draws, **how)
    return (position_null if config.null_model == "positions" else label_null)(problem, type_N, n_types)


def _shifts(graph: CellGraph, types: TypeCodes, config: SignalConfig) -> KeptShifts | None:
    """Those of all signaling types, where they are the null."""
    if config.null_model != "shifts":
        return None
    return KeptShifts(graph.pos_um, types.code_N, config.n_permutations, True, config.seed)


def _shares(x: Tensor, type_N: Tensor, n_types: int) -> np.ndarray:
    """(T, G) share of each type's cells that express each gene."""
    n = torch.bincount(type_N, minlength=n_types).clamp(min=1).numpy(force=True)
    return sums_by_type(map_values(x, torch.ones_like(x.values())), type_N, n_types) / n[:, None]
