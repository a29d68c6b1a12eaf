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
from metaniche.errors import ConfigError, InputError
from metaniche.models import MIL
from metaniche.predict import Predictor

STEPS = 12
CURVES = ("deletion", "insertion")


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
    the slope of the units' logits on those of the whole network: 1 with all pairs; without any, the share of the variance
    that seed and soil have (see `variance_shares`). It passes 1 where what is gone worked against the rest.

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
    if predictor.pairs is None:
        raise ConfigError(
            f"Expected a bundle whose network hears pairs, found {predictor.bundle.architecture} without."
        )
    n_pairs = predictor.pairs.n_pairs
    if sorted(order) != list(range(n_pairs)):
        raise ConfigError(f"Expected each of {n_pairs} pairs once in `order`, found {len(order)} positions.")
    batches = [batch for _, _, batch in predictor.batches(samples, patients)]
    families = predictor.pairs.pairs["signaling_type"].to_numpy()
    rng = np.random.default_rng(seed)
    orders = [*map(np.asarray, (order, *shuffled)), *(rng.permutation(n_pairs) for _ in range(n_random))]

    def logits(k: int, curve: str, each: np.ndarray) -> np.ndarray:
        silent = each[:k] if curve == "deletion" else each[k:]
        return _logits(predictor, [_silenced(m, silent, families) for m in predictor.members], batches)

    whole = _logits(predictor, predictor.members, batches)
    if len(whole) < 3:
        raise InputError(f"Expected at least 3 units to compare, found {len(whole)}.")
    if np.ptp(whole) < 1e-9:
        raise InputError(f"Expected risks that differ between units, found the same for all {len(whole)}.")
    steps = _steps(n_pairs)
    parts = [[[logits(k, curve, each) for each in orders] for curve in CURVES] for k in steps]
    centred = whole - whole.mean()
    return curve_table("n_pairs", steps, np.array(parts) @ centred / (centred @ centred), len(shuffled))


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


def _silenced(network: MIL, pairs: np.ndarray, families: np.ndarray) -> MIL:
    """A copy that does not hear these pairs."""
    out = copy.deepcopy(network)
    for family, listen in out.families.items():
        mine = np.flatnonzero(families == family)
        listen.scale[torch.from_numpy(np.isin(mine, pairs))] = 0.0
    return out


def _logits(predictor: Predictor, networks: Sequence[MIL], batches: Sequence[Batch]) -> np.ndarray:
    """(units,) mean over members and the outputs that speak of the event; one batch is on the device at a time."""
    tissues = (batch.to(predictor.device).tissue for batch in batches)
    of_units = (torch.stack([m(*tissue).bag_logits for m in networks]) for tissue in tissues)
    return np.array([float(of_event(predictor.task, logits).mean()) for logits in of_units])
