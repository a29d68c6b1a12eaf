"""How far a pair acts: its signal over its null, ring by ring, and the length scale of the decay."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import OptimizeWarning, curve_fit
from torch import Tensor

from metaniche.errors import ConfigError, InputError
from metaniche.graph import CellGraph
from metaniche.signaling.expression import PairExpression
from metaniche.signaling.nulls import position_null
from metaniche.signaling.scoring import signal_problem
from metaniche.signaling.signal_config import SignalConfig


class LengthScale(NamedTuple):
    """Of an exponential decay, in micrometres, with its 95 % interval; NaN where the profile does not decay."""

    length_um: float
    low: float
    high: float


def length_profile(
    expression: PairExpression,
    graph: CellGraph,
    type_N: Tensor,
    n_types: int,
    sender: int,
    receiver: int,
    edges_um: Sequence[float],
    config: SignalConfig | None = None,
) -> pd.DataFrame:
    """Signal of each pair between two types over its null of positions, in rings of distance.

    Parameters
    ----------
    expression, graph
        The pairs, and the neighbours up to the last of `edges_um`, all of them (`max_paracrine=None`).
    type_N, n_types
        (N,) int32 type of each cell, and T.
    sender, receiver
        Types that send and receive.
    edges_um
        Ascending bounds of the rings; an edge as long as the first bound is in the first ring.
    config
        How a signal is scored (None: the product of the two): any score but mass_action, whose null has no closed form.

    Returns
    -------
    A row per pair and ring that has edges: `pair` (ligand - receptor), `distance_um` (mean of its edges), `enrichment`
    (signal over its mean under the null: 1 where cells of the two types stand anyhow), `low` and `high` (1.96 standard
    deviations of the null around the enrichment) and `n_edges`.

    Raises
    ------
    ConfigError for bounds that do not ascend and for mass_action, InputError where no ring has an edge between the two types,
    GraphError for a graph that holds a draw of neighbours.
    """
    graph.check_complete("a profile of distances")
    bounds = np.asarray(edges_um, dtype=float)
    if len(bounds) < 2 or (np.diff(bounds) <= 0).any():
        raise ConfigError(f"Expected at least two ascending bounds in edges_um, found {list(edges_um)}.")
    between = (type_N[graph.indices.long()] == sender) & (type_N[graph.receivers()] == receiver)
    names, config = np.array(expression.names), config or SignalConfig(null_model="none")
    rings = []
    for near, far in pairwise(bounds):
        beyond = graph.distance_um >= near if near == bounds[0] else graph.distance_um > near
        inside = between & beyond & (graph.distance_um <= far)
        if not bool(inside.any()):
            continue
        problem = signal_problem(expression, graph, inside.to(torch.float32), config)
        null = position_null(problem, type_N, n_types)
        score, mean, variance = (part[sender, receiver] for part in (null.score, null.mean, null.variance))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, half = score / mean, 1.96 * np.sqrt(variance) / mean
        about = {"distance_um": float(graph.distance_um[inside].mean()), "n_edges": int(inside.sum())}
        rings.append(
            pd.DataFrame({"pair": names, "enrichment": ratio, "low": ratio - half, "high": ratio + half, **about})
        )
    if not rings:
        raise InputError(
            f"Expected edges between the two types of {bounds[0]:g} to {bounds[-1]:g} um, found none. Raise radius_um of "
            "the graph, or change edges_um."
        )
    columns = ["pair", "distance_um", "enrichment", "low", "high", "n_edges"]
    return pd.concat(rings, ignore_index=True).sort_values(["pair", "distance_um"], ignore_index=True)[columns]


def length_scale(profile: pd.DataFrame) -> LengthScale:
    """Fit `enrichment = 1 + A exp(-d / length)` to the profile of one pair, each ring weighted by its null's spread.

    The interval is that of the fit (normal, on the log of the length). It takes rings as independent, which they are
    not quite: cells stand in several of them. Where senders or receivers lie in patches, the length is that of the patches if
    they are larger than the signal's own range: nothing in the tissue tells the two apart.
    """
    rows = profile[np.isfinite(profile["enrichment"]) & (profile["high"] > profile["low"])]
    missing = LengthScale(np.nan, np.nan, np.nan)
    if len(rows) < 3:
        return missing
    d, excess = rows["distance_um"].to_numpy(), rows["enrichment"].to_numpy() - 1
    spread = (rows["high"] - rows["low"]).to_numpy() / (2 * 1.96)
    start = max(excess.max(), 1e-3), np.log(np.median(d))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # no covariance: looked at below
            (height, log_length), covariance = curve_fit(
                lambda x, a, b: a * np.exp(-x / np.exp(b)), d, excess, start, spread, absolute_sigma=True, maxfev=5000
            )
    except RuntimeError:
        return missing
    error = np.sqrt(covariance[1, 1])
    # Nothing above the null, or no end to it within the profile: there is no scale to name.
    if height <= 1.96 * np.sqrt(covariance[0, 0]) or not np.isfinite(error) or np.exp(log_length) > 4 * d.max():
        return missing
    return LengthScale(*(float(np.exp(log_length + k * error)) for k in (0.0, -1.96, 1.96)))
