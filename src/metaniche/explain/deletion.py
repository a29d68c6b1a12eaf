"""Does the answer hang on the pairs that are said to carry it? They are taken away, and put back, beside random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from metaniche.data.batch import Batch
from metaniche.data.outcome import of_event
from metaniche.data.sample import PreparedSample
from metaniche.errors import ConfigError, InputError
from metaniche.predict import Predictor

STEPS = 12
CURVES = ("deletion", "insertion")


def hears_neighbours(predictor: Predictor) -> bool:
    """Whether its networks have a signals term."""
    return bool(getattr(predictor.members[0], "families", None))


@torch.no_grad()
def deletion_curves(
    predictor: Predictor,
    samples: Sequence[PreparedSample],
    order: Sequence[int],
    patients: pd.DataFrame | None = None,
    *,
    shuffled: Sequence[Sequence[int]] = (),
    n_random: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """How much of the risk's differences between units is left as pairs fall away in `order`, or come in by it.

    A ranking of pairs that means anything loses the risk early when its first pairs are deleted, and gains it early when
    they are inserted; the ranking of a network with randomised weights does no better than random ones. What is left is
    the slope of the units' logits, before clinical variables, on those of the whole network: 1 with all pairs; without any, the
    share of the variance that seed and soil have (see `variance_shares`). It passes 1 where what is gone worked against the
    rest. Pairs are ranked by and taken from the same units: it is tried whether the ranking describes the network.

    Parameters
    ----------
    predictor
        Of a bundle whose network hears pairs.
    samples, patients
        As in `Predictor.score`; at least three units.
    order
        Positions in `predictor.pairs.pairs`, most important first, each once.
    shuffled
        Orders by networks whose weights were shuffled.
    n_random, seed
        Random orders beside it.

    Returns
    -------
    A row per number of pairs and kind: `n_pairs` deleted or inserted, `curve` (deletion or insertion), `left` for `order`,
    `shuffled` (mean over those orders, NaN without any), and of the random orders `random` (mean), `random_low` and
    `random_high` (smallest and largest).
    """
    if predictor.pairs is None or not hears_neighbours(predictor):
        raise ConfigError(
            f"Expected a bundle whose network hears pairs, found {predictor.bundle.architecture} without."
        )
    n_pairs = predictor.pairs.n_pairs
    if sorted(order) != list(range(n_pairs)):
        raise ConfigError(f"Expected each of {n_pairs} pairs once in `order`, found {len(order)} positions.")
    rng = np.random.default_rng(seed)
    orders = [*map(np.asarray, (order, *shuffled)), *(rng.permutation(n_pairs) for _ in range(n_random))]
    steps = _steps(n_pairs)
    heard = np.array([[[_heard(each, k, curve) for each in orders] for curve in CURVES] for k in steps])
    units = [
        _of_unit(predictor, batch.to(predictor.device), heard.reshape(-1, n_pairs))
        for _, _, batch in predictor.batches(samples, patients)
    ]
    if len(units) < 3:
        raise InputError(f"Expected at least 3 units to compare, found {len(units)}.")
    whole, left = (np.stack(part, axis=-1) for part in zip(*units))
    if np.ptp(whole) < 1e-9:
        raise InputError(f"Expected risks that differ between units, found the same for all {len(whole)}.")
    centred = whole - whole.mean()
    left = left.reshape(*heard.shape[:-1], len(whole)) @ centred / (centred @ centred)
    return curve_table("n_pairs", steps, left, len(shuffled))


def curve_table(step: str, steps: Sequence, left: np.ndarray, n_shuffled: int) -> pd.DataFrame:
    """Rows as `deletion_curves` gives them; left (steps, CURVES, orders): of the ranking, shuffled and random orders."""
    rows = []
    for i, at in enumerate(steps):
        for j, curve in enumerate(CURVES):
            own, shuffled, random = np.split(left[i, j], [1, 1 + n_shuffled])
            row = {step: at, "curve": curve, "left": own[0], "shuffled": shuffled.mean() if n_shuffled else np.nan}
            random = random if len(random) else np.array([np.nan])
            rows.append(row | {"random": random.mean(), "random_low": random.min(), "random_high": random.max()})
    return pd.DataFrame(rows).sort_values(["curve", step], ignore_index=True)


def _steps(n_pairs: int) -> np.ndarray:
    """Numbers of pairs from none to all, one among them: of hundreds the first matter most."""
    return np.unique(np.r_[0, np.geomspace(1, n_pairs, STEPS - 1)].round().astype(int))


def _heard(order: np.ndarray, k: int, curve: str) -> np.ndarray:
    """(P,) bool: which pairs are left when the first k of an order are deleted, or nothing but these is inserted."""
    first = np.zeros(len(order), dtype=bool)
    first[order[:k]] = True
    return first if curve == "insertion" else ~first


def _of_unit(predictor: Predictor, batch: Batch, heard: np.ndarray) -> tuple[float, np.ndarray]:
    """Logit of the batch's one unit before clinical variables, mean over members and the outputs that speak of the event; and
    (S,) when only the pairs in each row of `heard` (S, P) are. All else stays as it is, and so does the attention of its cells.
    """
    families = predictor.pairs.pairs["signaling_type"].to_numpy()
    kept = torch.from_numpy(np.vstack([np.ones(heard.shape[1], dtype=bool), heard])).to(predictor.device)
    logits = []
    for network in predictor.members:
        by_family = np.concatenate([np.flatnonzero(families == family) for family in network.families])
        whole = network(*replace(batch, clinical=None).tissue)
        signals = network.signals_under(whole.attention, batch.signals, batch.graph, kept[:, by_family])
        logits.append(whole.bag_logits + signals - signals[:1])
    found = of_event(predictor.task, torch.stack(logits)).mean((0, 2)).double().cpu().numpy()
    return found[0], found[1:]
