"""Does the answer hang on the pairs and edges said to carry it? They are taken away, and put back, beside random ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from metaniche.data.batch import Batch
from metaniche.data.outcome import of_event
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Task
from metaniche.errors import ConfigError, InputError
from metaniche.graph import CellGraph
from metaniche.models import MIL
from metaniche.predict import Predictor

STEPS = 12
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CURVES = ("deletion", "insertion")


@torch.inference_mode()
def deletion_curves(
    predictor: Predictor,
    samples: Sequence[PreparedSample],
    order: Sequence[int],
    patients: pd.DataFrame | None = None,
    *,
    n_random: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """How much of the risk's differences between units is left as pairs fall away in `order`, or come in by it.

    A ranking of pairs that means anything loses the risk early when its first pairs are deleted, and gains it early when
    they are inserted; the ranking of a network with randomised weights does no better than random ones. What is left is
    the slope of the units' logits on those of the whole network: 1 with all pairs; without any, the share of the variance
    that seed and soil have (see `variance_shares`).

    Parameters
    ----------
    predictor
        Of a bundle whose network hears pairs.
    samples, patients
        As in `Predictor.score`; at least three units.
    order
        Positions in `predictor.pairs.pairs`, most important first, each once.
    n_random, seed
        Random orders beside it.

    Returns
    -------
    A row per number of pairs and kind: `n_pairs` deleted or inserted, `curve` (deletion or insertion), `left` for `order`,
    and of the random orders `random` (mean), `random_low` and `random_high` (smallest and largest).
    """
    if predictor.pairs is None:
        raise ConfigError(
            f"Expected a bundle whose network hears pairs, found {predictor.bundle.architecture} without."
        )
    n_pairs = predictor.pairs.n_pairs
    if sorted(order) != list(range(n_pairs)):
        raise ConfigError(f"Expected each of {n_pairs} pairs once in `order`, found {len(order)} positions.")
    batches = [batch for _, _, batch in predictor.batches(samples, patients)]
    families = predictor.pairs.pairs["signaling_type"].to_numpy()
    whole = _comparable(_logits(predictor.task, predictor.members, batches))
    rng = np.random.default_rng(seed)
    orders = [np.asarray(order), *(rng.permutation(n_pairs) for _ in range(n_random))]
    rows = []
    for k in np.unique(np.linspace(0, n_pairs, min(STEPS, n_pairs + 1)).round().astype(int)):
        for curve in CURVES:
            left = []
            for each in orders:
                silent = each[:k] if curve == "deletion" else each[k:]
                networks = [_silenced(m, silent, families) for m in predictor.members]
                left.append(_slope(whole, _logits(predictor.task, networks, batches)))
            rows.append({"n_pairs": int(k), "curve": curve, "left": left[0]} | _of_random(left[1:]))
    return pd.DataFrame(rows).sort_values(["curve", "n_pairs"], ignore_index=True)


@torch.inference_mode()
def edge_deletion_curves(
    predictor: Predictor,
    samples: Sequence[PreparedSample],
    rankings: Mapping[str, Predictor],
    patients: pd.DataFrame | None = None,
    *,
    n_random: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """As `deletion_curves`, with the edges along which signals are heard: those of every unit fall away in equal shares.

    An edge ranks by the size of what it adds to its unit's logit, :math:`A_i c_{ij}` with the attention of the receiver (see
    `SeedSoil.edge_contributions`). Only edges that add something are ranked, and a random order has edges of the same
    relation, as long as those, at every place: it is not beaten by telling near from far, nor those who can speak from those
    who cannot. Seed, soil and the attention of cells stay as they are.

    Parameters
    ----------
    predictor
        Of a bundle whose network has a signals term, with or without pairs.
    samples, patients
        As in `Predictor.score`; at least three units.
    rankings
        Name -> the predictor by whose account edges are ranked: this one, or one of the same architecture.
    n_random, seed
        Random orders beside them.

    Returns
    -------
    A row per `share` of the edges deleted or inserted and `curve`: what is left by each ranking, in a column of its name, and
    of the random orders `random` (mean), `random_low` and `random_high` (smallest and largest).
    """
    if not predictor.members[0].families:
        raise ConfigError(f"Expected networks with a signals term, found {predictor.bundle.architecture} without.")
    rng = np.random.default_rng(seed)
    whole, parts = [], []
    for _, _, batch in predictor.batches(samples, patients):
        logit, n_edges = _heard_along(predictor, batch), batch.graph.n_edges
        added = {name: _added(ranking, batch) for name, ranking in rankings.items()}
        speaking = np.flatnonzero(_added(predictor, batch))
        orders = [speaking[np.argsort(-size[speaking], kind="stable")] for size in added.values()]
        alike = _alike(batch.graph)
        orders += [_shuffled_within(orders[0], alike, rng) for _ in range(n_random)]
        whole.append(logit(torch.ones(n_edges, dtype=torch.bool)))
        parts.append(
            [[[logit(_kept(order, share, curve, n_edges)) for order in orders] for curve in CURVES] for share in SHARES]
        )
    whole, rows = _comparable(np.array(whole)), []
    for share, of_share in zip(SHARES, np.moveaxis(np.array(parts), 0, -1)):
        for curve, of_curve in zip(CURVES, of_share):
            left = [_slope(whole, part) for part in of_curve]
            of_rankings = dict(zip(rankings, left))
            rows.append({"share": share, "curve": curve} | of_rankings | _of_random(left[len(rankings) :]))
    return pd.DataFrame(rows).sort_values(["curve", "share"], ignore_index=True)


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


def _alike(graph: CellGraph) -> np.ndarray:
    """(E,) number of the group of edges of one relation and, in tenths, of one length."""
    distance = graph.distance_um.numpy()
    tenths = np.searchsorted(np.quantile(distance, np.linspace(0.1, 0.9, 9)), distance) if len(distance) else 0
    return 10 * graph.relation.numpy().astype(int) + tenths


def _shuffled_within(order: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same edges with those of each group (E,) in random order among the places that it has."""
    out, group = order.copy(), group[order]
    for each in np.unique(group):
        places = group == each
        out[places] = rng.permutation(order[places])
    return out


def _kept(order: np.ndarray, share: float, curve: str, n_edges: int) -> Tensor:
    """(E,) bool: all edges but the first of the order, or those only."""
    first = torch.zeros(n_edges, dtype=torch.bool)
    first[torch.from_numpy(order[: round(share * len(order))])] = True
    return first if curve == "insertion" else ~first


def _silenced(network: MIL, pairs: np.ndarray, families: np.ndarray) -> MIL:
    """A copy that does not hear these pairs."""
    out = copy.deepcopy(network)
    for family, listen in out.families.items():
        mine = np.flatnonzero(families == family)
        listen.scale[torch.from_numpy(np.isin(mine, pairs))] = 0.0
    return out


def _logits(task: Task, networks: Sequence[MIL], batches: Sequence[Batch]) -> np.ndarray:
    """(units,) mean over members and the outputs that speak of the event."""
    of_units = (torch.stack([m(*b.tissue).bag_logits for m in networks]) for b in batches)
    return np.array([float(of_event(task, logits).mean()) for logits in of_units])


def _comparable(whole: np.ndarray) -> np.ndarray:
    """The logits of units, where there are enough of them and they differ. Raises InputError elsewhere."""
    if len(whole) < 3:
        raise InputError(f"Expected at least 3 units to compare, found {len(whole)}.")
    if np.ptp(whole) < 1e-9:
        raise InputError(f"Expected risks that differ between units, found the same for all {len(whole)}.")
    return whole


def _of_random(left: Sequence[float]) -> dict[str, float]:
    left = left or [np.nan]
    return {"random": np.mean(left), "random_low": np.min(left), "random_high": np.max(left)}


def _slope(whole: np.ndarray, part: np.ndarray) -> float:
    centred = whole - whole.mean()
    return float(centred @ part / (centred @ centred))
