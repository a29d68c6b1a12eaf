"""Does the answer hang on the pairs that are said to carry it? They are taken away, and put back, beside random ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from metaniche.data.batch import Batch
from metaniche.data.outcome import of_event
from metaniche.data.sample import PreparedSample
from metaniche.data.task import Task
from metaniche.errors import ConfigError, InputError
from metaniche.models import MIL
from metaniche.predict import Predictor

STEPS = 12


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
    if len(batches) < 3:
        raise InputError(f"Expected at least 3 units to compare, found {len(batches)}.")
    families = predictor.pairs.pairs["signaling_type"].to_numpy()
    whole = _logits(predictor.task, predictor.members, batches)
    if np.ptp(whole) < 1e-9:
        raise InputError(f"Expected risks that differ between units, found the same for all {len(batches)}.")
    rng = np.random.default_rng(seed)
    orders = [np.asarray(order), *(rng.permutation(n_pairs) for _ in range(n_random))]
    rows = []
    for k in np.unique(np.linspace(0, n_pairs, min(STEPS, n_pairs + 1)).round().astype(int)):
        for curve in ("deletion", "insertion"):
            left = []
            for each in orders:
                silent = each[:k] if curve == "deletion" else each[k:]
                networks = [_silenced(m, silent, families) for m in predictor.members]
                left.append(_slope(whole, _logits(predictor.task, networks, batches)))
            own, random = left[0], left[1:] or [np.nan]
            rows.append((int(k), curve, own, np.mean(random), np.min(random), np.max(random)))
    columns = ["n_pairs", "curve", "left", "random", "random_low", "random_high"]
    return pd.DataFrame(rows, columns=columns).sort_values(["curve", "n_pairs"], ignore_index=True)


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


def _slope(whole: np.ndarray, part: np.ndarray) -> float:
    centred = whole - whole.mean()
    return float(centred @ part / (centred @ centred))
