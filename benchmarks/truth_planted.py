"""Planted communication between single cells: which scores find the (sender, receiver, pair) triples that signal.

Prints tables for docs/benchmarks.md. 54 tissues: {grid, uniform, mixed} x {pattern, random} x {none, low, high} noise x 3
seeds. The generator was written down before any score was computed and was not changed afterwards:

- 1,024 cells in a square of 320 um: on a grid of 10 um, uniform at random, or half on random sites of the grid and half
  uniform. Four cell types, drawn for every cell alike.
- Four ligands and four receptors, each allowed in two of the types. Half of the allowed cells express it. `pattern`: those
  above the median of a smooth random field of the gene (length 40 um), fields independent; `random`: drawn at random.
- Six pairs, which share ligands and receptors. Four communicate, over up to 15, 40, 25 and 30 um; two never do, though
  expressed (one shares both of its sides with pairs that do).
- Half of the cells that express a ligand of a pair that communicates, drawn at random, are active. A triple is true where an
  active sender, a cell that expresses the receptor, and a distance within the pair's range meet. Nothing is used up, which
  is the assumption of plain products rather than of transport. The ranges are sharp, unlike any weight or cost scored here.
- Means: 0.3 where a gene is not expressed, 4 where it is, x 3 for ligands of active cells and x 1.5 for receptors of cells that
  truly hear by them; all times the cell's size, log-normal with sd 0.3. Noise `none`: rounded means; `low`, `high`: negative
  binomial of dispersion 0.2 or 1, then a dropout of 10 or 40 % of the entries.

Every score sees log1p of the counts. Candidates: all triples of edges up to 100 um, whatever is expressed. An edge beyond the
reach of the transport (50 um) has a transport score of 0. COMMOT runs in the Python that COMMOT_PYTHON names, at its
defaults (the mean of four transports) and the same reach (commot_worker.py).
"""

from __future__ import annotations

import sys
import warnings
from itertools import product
from typing import NamedTuple

import commot_worker
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from metaniche.graph import CellGraph, build_graph
from metaniche.signaling import (
    DECAYS,
    GRAPH,
    PairExpression,
    Resource,
    SignalConfig,
    compete,
    pair_expression,
    signal_problem,
    strongest_edges,
)  # fmt: skip

PLACES, ORDERS, NOISES, SEEDS = ("grid", "uniform", "mixed"), ("pattern", "random"), ("none", "low", "high"), (0, 1, 2)
SIDE, SPACING, TYPES, FIELD_UM = 32, 10.0, 4, 40.0
GENES = {"L1": (0, 1), "L2": (1, 2), "L3": (2, 3), "L4": (3, 0), "R1": (2, 3), "R2": (3, 0), "R3": (0, 1), "R4": (1, 2)}
NAMES = list(GENES)
# Range in um; 0: never communicates.
PAIRS = {
    ("L1", "R1"): 15.0, ("L1", "R2"): 40.0, ("L2", "R2"): 25.0, ("L3", "R3"): 30.0, ("L2", "R3"): 0.0, ("L4", "R4"): 0.0,
}  # fmt: skip
BACKGROUND, EXPRESSED, ACTIVE, HEARS, SIZE_SD = 0.3, 4.0, 3.0, 1.5, 0.3
DISPERSION_DROPOUT = {"low": (0.2, 0.1), "high": (1.0, 0.4)}
REACH = 50.0
METRICS = {"AUROC": roc_auc_score, "AUPRC": average_precision_score}
NAIVE, WEIGHTED, COMMOT = "naive product", "product, distance-weighted", "COMMOT"


class Tissue(NamedTuple):
    pos_um: np.ndarray
    counts: np.ndarray
    graph: CellGraph
    truth: np.ndarray
    """(P, E) bool."""


def main() -> None:
    warnings.filterwarnings("ignore")
    rows = []
    for place, order, noise, seed in product(PLACES, ORDERS, NOISES, SEEDS):
        made = tissue(place, order, noise, seed)
        truth = made.truth.ravel()
        for name, score in scores(made).items():
            found = {metric: of(truth, score.ravel()) for metric, of in METRICS.items()}
            rows.append(
                {"cells": place, "expression": order, "noise": noise, "score": name, **found, "true": truth.mean()}
            )
        print(f"{place} {order} {noise} {seed}", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    if COMMOT not in set(table["score"]):
        print(commot_worker.HINT, end="\n\n")
    for metric in METRICS:
        print_table(table, metric)
    print_losses(table)


def positions(place: str, rng: np.random.Generator) -> np.ndarray:
    n, width = SIDE**2, SIDE * SPACING
    sites = np.stack(np.divmod(np.arange(n), SIDE), 1) * SPACING + SPACING / 2
    anywhere = rng.uniform(0, width, (n, 2))
    if place == "mixed":
        return np.concatenate((rng.permutation(sites)[: n // 2], anywhere[n // 2 :]))
    return sites if place == "grid" else anywhere


def expressing(pos: np.ndarray, order: str, types: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, G) bool: half of the cells of the types that may express a gene."""
    on = np.zeros((len(pos), len(GENES)), bool)
    for gene, allowed in enumerate(GENES.values()):
        cells = np.flatnonzero(np.isin(types, allowed))
        wave, phase = rng.normal(0, 1 / FIELD_UM, (2, 200)), rng.uniform(0, 2 * np.pi, 200)
        rank = np.cos(pos @ wave + phase).sum(1) if order == "pattern" else rng.random(len(pos))
        on[cells[rank[cells] > np.median(rank[cells])], gene] = True
    return on


def tissue(place: str, order: str, noise: str, seed: int) -> Tissue:
    rng = np.random.default_rng([PLACES.index(place), ORDERS.index(order), NOISES.index(noise), seed])
    pos = positions(place, rng)
    on = expressing(pos, order, rng.integers(TYPES, size=len(pos)), rng)
    active = on & (rng.random(on.shape) < 0.5)
    graph = build_graph(torch.from_numpy(pos.astype(np.float32)), torch.tensor([0, len(pos)]), GRAPH)
    sender, receiver, distance = graph.indices.long().numpy(), graph.receivers().numpy(), graph.distance_um.numpy()
    mean = np.where(on, EXPRESSED, BACKGROUND)
    hears, truth = np.zeros_like(on), []
    for (ligand, receptor), reach in PAIRS.items():
        lig, rec = NAMES.index(ligand), NAMES.index(receptor)
        true = active[sender, lig] & on[receiver, rec] & (distance <= reach)
        truth.append(true)
        hears[receiver[true], rec] = True
    talks = {ligand for (ligand, _), reach in PAIRS.items() if reach}
    mean *= np.where(active & np.isin(NAMES, list(talks)), ACTIVE, 1.0) * np.where(hears, HEARS, 1.0)
    mean *= rng.lognormal(0, SIZE_SD, (len(pos), 1))
    return Tissue(pos, counted(mean, noise, rng), graph, np.stack(truth))


def counted(mean: np.ndarray, noise: str, rng: np.random.Generator) -> np.ndarray:
    if noise == "none":
        return np.round(mean)
    dispersion, dropout = DISPERSION_DROPOUT[noise]
    drawn = rng.poisson(rng.gamma(1 / dispersion, mean * dispersion)).astype(float)
    return drawn * (rng.random(mean.shape) >= dropout)


def scores(made: Tissue) -> dict[str, np.ndarray]:
    """Name of a score -> (P, E) values; larger says more that the edge carries the pair."""
    x, graph = np.log1p(made.counts).astype(np.float32), made.graph
    pairs = pd.DataFrame(list(PAIRS), columns=["ligand", "receptor"]).assign(signaling_type="secreted")
    expression = pair_expression(x, NAMES, Resource(pairs, "planted"))
    weight = DECAYS["secreted"].weights(graph.distance_um)
    within = graph.distance_um <= REACH
    solved = compete(expression, graph, REACH)
    shared = np.zeros((len(PAIRS), graph.n_edges))
    shared[:, within.numpy()] = [solved.plan(pair).numpy() for pair in range(len(PAIRS))]
    found = {
        NAIVE: on_edges(expression, graph, torch.ones_like(weight), "product"),
        WEIGHTED: on_edges(expression, graph, weight, "product"),
        "hill, distance-weighted": on_edges(expression, graph, weight, "hill"),
        "metaniche, competition": shared,
    }
    ligands, receptors = map(list, zip(*PAIRS))
    given = {"genes": NAMES, "pos_um": made.pos_um, "ligands": ligands, "receptors": receptors, "reach_um": REACH}
    of_commot = commot_worker.run("communicate", x=x.astype(float), **given)
    if of_commot is not None:
        found[COMMOT] = np.zeros_like(shared)
        other = of_commot["sender"] != of_commot["receiver"]  # COMMOT lets a cell signal to itself; no candidate does
        pair, sender, receiver, amount = (of_commot[k][other] for k in ("pair", "sender", "receiver", "amount"))
        found[COMMOT][pair, place_of(graph, sender, receiver)] = amount
    return found


def on_edges(expression: PairExpression, graph: CellGraph, weight: torch.Tensor, score: str) -> np.ndarray:
    problem = signal_problem(expression, graph, weight, SignalConfig(score=score))
    out = np.zeros((len(PAIRS), graph.n_edges))
    for pair in range(len(PAIRS)):
        sender, receiver, signal = (x.numpy() for x in strongest_edges(problem, pair, graph.n_edges))
        out[pair, place_of(graph, sender, receiver)] = signal
    return out


def place_of(graph: CellGraph, sender: np.ndarray, receiver: np.ndarray) -> np.ndarray:
    """Position of edges in the graph, which holds them by receiver, then sender."""
    keys = graph.receivers().numpy() * graph.n_cells + graph.indices.numpy()
    return np.searchsorted(keys, receiver.astype(np.int64) * graph.n_cells + sender)


def print_table(table: pd.DataFrame, metric: str) -> None:
    names = list(dict.fromkeys(table["score"]))
    print(f"{metric}, mean (range) over {len(SEEDS)} seeds\n")
    print(f"| cells | expression | noise | true, % | {' | '.join(names)} |\n|{'---|' * (4 + len(names))}")
    parts = list(table.groupby(["cells", "expression", "noise"], sort=False))
    parts += [(("**all**", order, "all"), part) for order, part in table.groupby("expression", sort=False)]
    for where, part in parts:
        values = [part.loc[part["score"] == name, metric] for name in names]
        cells = [f"{100 * part['true'].mean():.2f}"]
        cells += [f"{v.mean():.3f} ({v.min():.3f} to {v.max():.3f})" for v in values]
        print(f"| {' | '.join((*where, *cells))} |")
    print()


def print_losses(table: pd.DataFrame) -> None:
    """Whether distance costs anything where expression has no pattern."""
    design = ["cells", "expression", "noise"]
    for metric in METRICS:
        mean = table[table["expression"] == "random"].pivot_table(index=design, columns="score", values=metric)
        below = [" ".join(where) for where in mean.index[mean[WEIGHTED] < mean[NAIVE]]]
        print(f"{metric}: the distance-weighted product is below the naive one in {below or 'no random design'}.")


if __name__ == "__main__":
    main()
