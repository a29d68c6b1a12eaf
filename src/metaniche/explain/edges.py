"""Does the answer hang on the neighbours that are said to speak? Their edges are cut, and put back, beside others alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.data.batch import Batch
from metaniche.data.outcome import of_event
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Task
from metaniche.errors import ConfigError
from metaniche.explain.deletion import CURVES, curve_table, hears_neighbours
from metaniche.graph import CellGraph
from metaniche.models import MIL
from metaniche.predict import Predictor

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
Listeners = list[tuple[MIL, Tensor, Tensor]]
Along = list[tuple[Callable[[Tensor], Tensor], Tensor]]
ALIKE = 20  # edges of one relation, about one length and weight among which other orders may choose


@torch.no_grad()
def edge_deletion_curves(
    predictor: Predictor,
    samples: Sequence[PreparedSample],
    patients: pd.DataFrame | None = None,
    *,
    shuffled: Sequence[Predictor] = (),
    n_random: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """How much is left of what signals add to units' logits as edges fall away, in every unit an equal share, or come in.

    An edge ranks by the size of what it adds to its unit's logit, the attention of the receiver times its share of the
    signals term (see `SeedSoil.edge_contributions`); edges that add nothing are not counted. Every other order has, at every
    place, an edge of the same relation and nearly the same length and weight (`CellGraph.weight`), so that knowing near from
    far is worth nothing; by that of a network with shuffled weights, those come first to which it gives most. Seed, soil and
    the attention of cells stay as they are. Neighbours compete, or saturate a receiver: what an edge adds grows when others
    are gone.

    What is left is the sum over units of the signals term that is left times the whole one, over the sum of squares of that:
    1 with all edges, 0 without any. It passes 1 where what is gone worked against the rest.

    Parameters
    ----------
    predictor
        Of a bundle whose network has a signals term, with or without pairs.
    samples, patients
        As in `Predictor.score`.
    shuffled
        Predictors of the same architecture whose weights were shuffled.
    n_random, seed
        Random orders beside it.

    Returns
    -------
    A row per `share` of the edges deleted or inserted and `curve`; the other columns as in `deletion_curves`. Empty where
    nothing is heard in any unit. Raises ConfigError for networks without a signals term.
    """
    if not hears_neighbours(predictor):
        raise ConfigError(f"Expected networks with a signals term, found {predictor.bundle.architecture} without.")
    rng = np.random.default_rng(seed)
    found = [
        _of_unit(predictor, batch.to(predictor.device), shuffled, n_random, rng)
        for _, _, batch in predictor.batches(samples, patients)
    ]
    whole = np.array([of_all for of_all, _ in found])
    if np.abs(whole).max(initial=0.0) < 1e-9:
        return pd.DataFrame()
    inner = np.stack([of_steps for _, of_steps in found], axis=-1) @ whole / (whole @ whole)
    ends = np.broadcast_to([[[1.0], [0.0]], [[0.0], [1.0]]], (2, len(CURVES), inner.shape[-1]))
    return curve_table("share", SHARES, np.concatenate([ends[:1], inner, ends[1:]]), len(shuffled))


def _of_unit(
    predictor: Predictor, batch: Batch, shuffled: Sequence[Predictor], n_random: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """What is heard along all edges of a unit, and along those of every step between none and all, (steps, CURVES, orders)."""
    task, listeners, n_edges = predictor.task, _listeners(predictor, batch), batch.graph.n_edges
    heard, size = partial(_heard, task, _along(listeners, batch)), _added(task, listeners, batch)
    own, every = np.flatnonzero(size), torch.ones(n_edges, dtype=torch.bool, device=batch.x.device)
    own = own[np.argsort(-size[own], kind="stable")]
    group = _groups(batch.graph, own)
    others = [_added(task, _listeners(other, batch), batch) for other in shuffled] + [
        rng.random(n_edges) for _ in range(n_random)
    ]
    orders = [own, *(_alike(own, other, group, rng) for other in others)]
    steps = [
        [[heard(_kept(order, share, curve, every)) for order in orders] for curve in CURVES] for share in SHARES[1:-1]
    ]
    return heard(every), np.array(steps)


def _listeners(predictor: Predictor, batch: Batch) -> Listeners:
    """Members with their embedding of the cells and the cells' attention in the batch's one unit."""
    return [(m, m.embed(batch.x), m(*batch.tissue).attention) for m in predictor.members]


def _along(listeners: Listeners, batch: Batch) -> Along:
    """Of each member: mask of edges -> its signals term, and the attention."""
    return [(m.signals_along(own, batch.signals, batch.graph), attention) for m, own, attention in listeners]


def _heard(task: Task, along: Along, edges: Tensor) -> float:
    """What signals along the edges of a mask (E,) add to the unit's logit, in the mean over members."""
    added = [attention @ signals(edges) for signals, attention in along]
    return float(of_event(task, torch.stack(added)).mean())


def _added(task: Task, listeners: Listeners, batch: Batch) -> np.ndarray:
    """(E,) size of what each edge adds to the unit's logit, in the mean over members."""
    receivers, added = batch.graph.receivers(), []
    for network, own, attention in listeners:
        of_edges = of_event(task, network.edge_contributions(own, batch.signals, batch.graph)).mean(1)
        added.append(attention[receivers] * of_edges)
    return torch.stack(added).mean(0).abs().cpu().numpy()


def _groups(graph: CellGraph, edges: np.ndarray) -> np.ndarray:
    """Number of the group of each of these edges: `ALIKE` of one kind that are next to one another in length.

    A kind is a relation and an octave of the weight: an edge that stands for many neighbours is given much for that alone.
    """
    octave = graph.weights().log2().round()
    relation, octave, distance = (x.cpu().numpy()[edges] for x in (graph.relation, octave, graph.distance_um))
    kind = relation.astype(np.int64) * 256 + octave.astype(np.int64)  # float32 has fewer octaves
    by_length = np.lexsort((distance, kind))
    of_kind = kind[by_length]
    place = np.arange(len(edges)) - np.searchsorted(of_kind, of_kind)
    group = np.empty(len(edges), np.int64)
    group[by_length] = of_kind * len(edges) + place // ALIKE
    return group


def _alike(order: np.ndarray, size: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The edges of an order, those of each group changed about among their places: there the largest come first."""
    out, by_chance = np.empty_like(order), rng.random(len(order))  # not by the order, where sizes are equal
    out[np.argsort(group, kind="stable")] = order[np.lexsort((by_chance, -size[order], group))]
    return out


def _kept(order: np.ndarray, share: float, curve: str, every: Tensor) -> Tensor:
    """(E,) bool, as `every`: all edges but the first of the order, or those only."""
    first = torch.zeros_like(every)
    first[torch.from_numpy(order[: round(share * len(order))]).to(every.device)] = True
    return first if curve == "insertion" else ~first
