"""Signals between cell types on a GPU, with their nulls, competition and relays: the tables against those of the CPU."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import torch

from metaniche.graph import CellGraph, GraphConfig, build_graph
from metaniche.ops.backend import use_backend
from metaniche.signaling import (
    PairExpression,
    Resource,
    SignalConfig,
    communicate,
    competing_signals,
    pair_expression,
    relays,
)

GENES, TYPES, DRAWS = 24, ["a", "b", "c"], 3
LIMIT = 1e-3  # float32 in another order; z is a difference of two numbers
REACH_UM, COMPETING, EPS = 20.0, 2, 1.0  # the more blurred, the sooner solved
CONFIGS = {
    "positions": SignalConfig(),
    "positions of hill": SignalConfig(score="hill"),
    "labels": SignalConfig(null_model="labels"),
    "permuted mass action": SignalConfig(score="mass_action", n_permutations=DRAWS),
    "permuted labels": SignalConfig(null_model="labels", n_permutations=DRAWS),
    "shifts": SignalConfig(null_model="shifts", n_permutations=DRAWS),
    "matched pairs": SignalConfig(null_model="matched_pairs", n_permutations=DRAWS),
}


def compare(n: int, device: str = "cuda") -> list[str]:
    """What differs, or fails, of every kind of table on tissue of `n` cells."""
    with use_backend("auto"):
        x, types, graph = random_tissue(n)
    names, half = [f"g{i}" for i in range(GENES)], GENES // 2
    kinds = ["contact", "secreted", "ecm"] * GENES
    pairs = {
        "ligand": names[:half],
        "receptor": names[half:],
        "signaling_type": kinds[:half],
        "pathway": kinds[1 : half + 1],
    }
    resource = Resource(pd.DataFrame(pairs), "random")
    links = pd.DataFrame({"receptor": names[half : half + 3], "target": names[3:6]})

    def expression(graph: CellGraph) -> PairExpression:
        return pair_expression(x, names, resource, device=graph.pos_um.device)

    def signals(graph: CellGraph, config: SignalConfig) -> pd.DataFrame:
        return communicate(x, names, types, graph, resource, config).table

    def flows(graph: CellGraph) -> pd.DataFrame:
        return competing_signals(expression(graph).select(range(COMPETING)), types, graph, REACH_UM, eps=EPS)

    def chains(graph: CellGraph, config: SignalConfig) -> pd.DataFrame:
        return relays(expression(graph), types, graph, links, config)

    asked = {name: partial(signals, config=config) for name, config in CONFIGS.items()} | {
        "competition": flows,
        "relays": partial(chains, config=CONFIGS["positions"]),
        "shifted relays": partial(chains, config=CONFIGS["shifts"]),
    }
    failures = []
    for name, make in asked.items():
        with use_backend("auto"):
            expected = make(graph)
        try:
            found = make(graph.to(device))
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
            continue
        failures += [f"{name}, {column}: {what}" for column, what in differences(found, expected)]
    return failures


def random_tissue(n: int) -> tuple[np.ndarray, pd.Categorical, CellGraph]:
    """Expression, types and graph of cells at random places, a quarter of them without a type."""
    pos, codes = torch.rand(n, 2) * 10 * n**0.5, torch.randint(-1, len(TYPES), (n,))
    x = torch.rand(n, GENES) * (torch.rand(n, GENES) < 0.5)
    graph = build_graph(pos, torch.tensor([0, n]), GraphConfig(radius_um=30.0, max_paracrine=None))
    return x.numpy(), pd.Categorical.from_codes(codes.numpy(), TYPES), graph


def differences(found: pd.DataFrame, expected: pd.DataFrame) -> list[tuple[str, str]]:
    """(column, what is wrong with it); rows with about the same p may change places."""
    if len(found) != len(expected):
        return [("rows", f"{len(found)} and not {len(expected)}")]
    numbers = [c for c in expected if expected[c].dtype.kind == "f"]
    names = [c for c in expected if c not in numbers]
    found, expected = (table.sort_values(names, ignore_index=True) for table in (found, expected))
    wrong = [(c, "other values") for c in names if not found[c].astype(str).equals(expected[c].astype(str))]
    for column in numbers:
        own, right = found[column].to_numpy(), expected[column].to_numpy()
        off = ~np.isclose(own, right, rtol=LIMIT, atol=LIMIT * np.nanmean(np.abs(right)), equal_nan=True)
        if off.any():
            wrong.append(
                (column, f"{off.sum()} of {len(off)} differ, such as {own[off][0]:.6g} and {right[off][0]:.6g}")
            )
    return wrong
