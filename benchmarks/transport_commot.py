"""`signaling.compete` beside COMMOT's own solver on her2st. Prints tables for docs/benchmarks.md.

METANICHE_MIRROR names the folder that holds the files, COMMOT_PYTHON a Python that has COMMOT (commot_worker.py). Both solve
the same problem: all pairs share ligands and receptors, cost is the distance of spots up to 500 um, in units of the largest;
masses are divided by the larger total. A spot is no neighbour of its own (COMMOT's cost is infinite there), or one at cost 0,
as COMMOT has it (edges from each spot to itself are added to ours).

COMMOT stops when its potentials change by less than `stopthr` (1e-8, relative) or after `nitermax` turns (10,000), whatever
its marginals. A smaller and a larger number show what is left of the difference when it goes on.
"""

from __future__ import annotations

import time

import commot_worker
import numpy as np
import pandas as pd
import torch

from metaniche.graph import CellGraph, GraphConfig, build_graph
from metaniche.io.datasets import her2st
from metaniche.io.matrices import log_normalised
from metaniche.ops import Transport, transport
from metaniche.signaling import PairExpression, Resource, compete, pair_expression

REACH, EPS, RHO = 500.0, 0.1, 10.0
PAIRS = ["CXCL12-CXCR4", "COL1A1-ITGB1", "COL1A1-CD44", "FN1-CD44", "FN1-ITGB1", "SPP1-CD44", "VEGFA-FLT1", "MIF-CD74"]
BY_PAIR = "A1"  # the section that is shown pair by pair
STOPS = {"default": (10_000, 1e-8), "tight": (100_000, 1e-14)}  # nitermax, stopthr


def main() -> None:
    samples, _ = her2st.tables()
    rows = [row for section in samples.index[samples["annotated"]] for row in compared(section)]
    table = pd.DataFrame(rows)
    print("Difference: sum of |difference| over sum, COMMOT with its default stop; with a tight one.\n")
    heads = "amount sent, share", "plan", "received by spots"
    print(f"| {BY_PAIR}, no spot its own neighbour | {' | '.join(heads)} |\n|---|---|---|---|")
    one = table[(table["section"] == BY_PAIR) & ~table["own"]]
    for pair, of_pair in one.groupby("pair", sort=False):
        print(f"| {pair} | {of_pair['share'].iloc[0]:.3f} | {each(of_pair['plan'])} | {each(of_pair['received'])} |")
    heads = "spots", "own neighbour", "pairs", "plan", "received by spots", "COMMOT, s", "ours, s", "our marginal error"
    print(f"\n| section | {' | '.join(heads)} |\n|{'---|' * 9}")
    for (name, own), part in table.groupby(["section", "own"], sort=False):
        total = part[part["pair"] == "all"]
        seconds, first = "; ".join(f"{x:.2g}" for x in total["theirs_s"]), total.iloc[0]
        cells = [name, first["spots"], "yes" if own else "no", part["pair"].nunique() - 1, each(total["plan"])]
        cells += [each(total["received"]), seconds, f"{first['ours_s']:.2g}", f"{first['error']:.1e}"]
        print(f"| {' | '.join(map(str, cells))} |")


def each(values: pd.Series) -> str:
    return "; ".join(f"{value:.1e}" for value in values)


def compared(section: str) -> list[dict]:
    """A row per problem, stop and pair, and for all pairs."""
    expression, graph = read(section)
    names = [*(expression.pairs["ligand"] + "-" + expression.pairs["receptor"]), "all"]
    rows = []
    for own in (False, True):
        cost = cost_of(graph, own)
        started = time.perf_counter()
        solved = ours(expression, graph, cost, own)
        seconds = time.perf_counter() - started
        plan = plans(solved, cost, expression.n_pairs)
        amount = np.append(plan.sum((1, 2)), plan.sum())
        for turns, stop in STOPS.values():
            theirs, theirs_s = commots(expression, cost, turns, stop)
            found = {"plan": differences(plan, theirs), "received": differences(plan.sum(1), theirs.sum(1))}
            about = {"section": section, "own": own, "spots": graph.n_cells, "ours_s": seconds, "theirs_s": theirs_s}
            about["error"] = float(solved.marginal_error_S.max())
            values = {"pair": names, "share": amount / amount[-1], **found}
            rows += [{**about, **{k: v[i] for k, v in values.items()}} for i in range(len(names))]
    return rows


def read(section: str) -> tuple[PairExpression, CellGraph]:
    slide = her2st.read_sample(section)
    pairs = pd.DataFrame([pair.split("-") for pair in PAIRS], columns=["ligand", "receptor"])
    expression = pair_expression(log_normalised(slide.X), list(slide.var_names), Resource(pairs, "chosen"))
    pos = torch.from_numpy(np.asarray(slide.obsm["spatial"], np.float32) * np.float32(her2st.UM_PER_UNIT))
    config = GraphConfig(contact_um=215.0, radius_um=REACH, max_paracrine=None)
    return expression, build_graph(pos, torch.tensor([0, len(pos)]), config)


def cost_of(graph: CellGraph, own: bool) -> np.ndarray:
    """(N, N), sender first; infinite where nothing may go."""
    cost = np.full((graph.n_cells, graph.n_cells), np.inf)
    cost[graph.indices.long().numpy(), graph.receivers().numpy()] = graph.distance_um.numpy()
    if own:
        np.fill_diagonal(cost, 0.0)
    return cost


def ours(expression: PairExpression, graph: CellGraph, cost: np.ndarray, own: bool) -> Transport:
    if not own:
        return compete(expression, graph, REACH, eps=EPS, rho=RHO)
    receiver, sender = np.nonzero(np.isfinite(cost.T))
    indptr = torch.from_numpy(np.searchsorted(receiver, np.arange(len(cost) + 1)))
    sides = expression.ligand_NL.to_dense(), expression.receptor_NR.to_dense()
    pairs = torch.stack((expression.lig_P, expression.rec_P), 1).long()
    edges = indptr, torch.from_numpy(sender.astype(np.int32)), torch.from_numpy(cost[sender, receiver])
    return transport(*sides, pairs, *edges, eps=EPS, rho=RHO)


def plans(solved: Transport, cost: np.ndarray, n_pairs: int) -> np.ndarray:
    """(P, N, N), sender first; the edges are by receiver, then sender."""
    receiver, sender = np.nonzero(np.isfinite(cost.T))
    plan = np.zeros((n_pairs, *cost.shape))
    for pair in range(n_pairs):
        plan[pair, sender, receiver] = solved.plan(pair).numpy()
    return plan


def commots(expression: PairExpression, cost: np.ndarray, turns: int, stop: float) -> tuple[np.ndarray, float]:
    """Its plan (P, N, N), sender first, and the seconds of its solver alone."""
    found = commot_worker.run(
        "transport",
        supply=expression.ligand_NL.to_dense().double().numpy(),
        demand=expression.receptor_NR.to_dense().double().numpy(),
        pairs=torch.stack((expression.lig_P, expression.rec_P), 1).numpy(),
        cost=cost, reach_um=REACH, eps=EPS, rho=RHO, turns=turns, stop=stop,
    )  # fmt: skip
    if found is None:
        raise SystemExit(commot_worker.HINT)
    plan = np.zeros((expression.n_pairs, *cost.shape))
    plan[found["pair"], found["sender"], found["receiver"]] = found["amount"]
    return plan, float(found["seconds"])


def differences(of_ours: np.ndarray, of_theirs: np.ndarray) -> np.ndarray:
    """By pair, and over all."""
    apart, amount = (abs(x).reshape(len(x), -1).sum(1) for x in (of_ours - of_theirs, of_ours))
    return np.append(apart, apart.sum()) / np.append(amount, amount.sum())


if __name__ == "__main__":
    main()
