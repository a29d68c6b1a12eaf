"""Does the answer hang on the neighbours that are said to speak? Their edges are cut, and put back, beside others alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.data.batch import Batch
from metaniche.data.outcome import of_event
from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError
from metaniche.explain.deletion import CURVES, curve_table
from metaniche.graph import CellGraph
from metaniche.predict import Predictor

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
ALIKE = 20  # edges of one relation and about one length among which other orders may choose


def hears_neighbours(predictor: Predictor) -> bool:
    """Whether its networks have a signals term."""
    return bool(getattr(predictor.members[0], "families", None))


@torch.inference_mode()
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
    place, an edge of the same relation and nearly the same length, so that knowing near from far is worth nothing; by that of
    a network with shuffled weights, those come first to which it gives most. Seed, soil and the attention of cells stay as
    they are. Neighbours compete, or saturate a receiver: what an edge adds grows when others are gone.

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
    nothing is heard in any unit.
    """
    if not hears_neighbours(predictor):
        raise ConfigError(f"Expected networks with a signals term, found {predictor.bundle.architecture} without.")
    rng = np.random.default_rng(seed)
    parts, heard = [], []
    for _, _, batch in predictor.batches(samples, patients):
        logit, size = _heard_along(predictor, batch), _added(predictor, batch)
        own = np.flatnonzero(size)
        own = own[np.argsort(-size[own], kind="stable")]
        others = [_added(other, batch) for other in shuffled] + [rng.random(len(size)) for _ in range(n_random)]
        group = _groups(batch.graph, own)
        orders = [own, *(_alike(own, other, group) for other in others)]
        silent = logit(torch.zeros(len(size), dtype=torch.bool))
        heard.append(logit(torch.ones(len(size), dtype=torch.bool)) - silent)
        parts.append(
            [
                [[logit(_kept(order, share, curve, len(size))) - silent for order in orders] for curve in CURVES]
                for share in SHARES
            ]
        )
    whole = np.array(heard)
    if not whole.any():
        return pd.DataFrame()
    return curve_table("share", SHARES, np.stack(parts, axis=-1) @ whole / (whole @ whole), len(shuffled))


def _heard_along(predictor: Predictor, batch: Batch) -> Callable[[Tensor], float]:
    """From a mask (E,) of edges to the logit of the batch's one unit when signals are heard along these only."""
    parts = []
    for network in predictor.members:
        out, own = network(*batch.tissue), network.embed(batch.x)
        parts.append((network, own, out.attention, out.bag_logits[0] - out.of_bag()[network.terms.index("signals")]))

    def logit(edges: Tensor) -> float:
        heard = batch.graph.keep(edges)
        logits = [rest + a @ network.signals_over(own, batch.signals, heard) for network, own, a, rest in parts]
        return float(of_event(predictor.task, torch.stack(logits)).mean())

    return logit


def _added(predictor: Predictor, batch: Batch) -> np.ndarray:
    """(E,) size of what each edge adds to the logit of the batch's one unit, in the mean over members."""
    receivers, added = batch.graph.receivers(), []
    for network in predictor.members:
        of_edges = network.edge_contributions(network.embed(batch.x), batch.signals, batch.graph)
        added.append(network(*batch.tissue).attention[receivers] * of_event(predictor.task, of_edges).mean(1))
    return torch.stack(added).mean(0).abs().numpy()


def _groups(graph: CellGraph, edges: np.ndarray) -> np.ndarray:
    """Number of the group of each of these edges: `ALIKE` of one relation that are next to one another in length."""
    relation, distance = graph.relation.numpy()[edges], graph.distance_um.numpy()[edges]
    by_length = np.lexsort((distance, relation))
    sorted_relation = relation[by_length]
    place = np.arange(len(edges)) - np.searchsorted(sorted_relation, sorted_relation)
    group = np.empty(len(edges), np.int64)
    group[by_length] = sorted_relation.astype(np.int64) * len(edges) + place // ALIKE
    return group


def _alike(order: np.ndarray, size: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The edges of an order with those of each group changed about among their places, so that there the largest come first."""
    out = np.empty_like(order)
    out[np.argsort(group, kind="stable")] = order[np.lexsort((-size[order], group))]
    return out


def _kept(order: np.ndarray, share: float, curve: str, n_edges: int) -> Tensor:
    """(E,) bool: all edges but the first of the order, or those only."""
    first = torch.zeros(n_edges, dtype=torch.bool)
    first[torch.from_numpy(order[: round(share * len(order))])] = True
    return first if curve == "insertion" else ~first
