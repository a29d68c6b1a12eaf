"""Bootstrap over patients: intervals and paired differences that respect how patients, not cells, were sampled."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray | None], "float | np.ndarray"]

MANY_UNDEFINED = 0.05


def resample_weights(patients: np.ndarray, n_boot: int, seed: int) -> np.ndarray:
    """(B, n) how often each unit is drawn when patients are drawn with replacement; a patient's units stay together.

    The draw depends on the sorted set of patients and the seed only, so models compared on the same patients share it.
    """
    unique, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(unique.size, np.full(unique.size, 1.0 / unique.size), size=n_boot)
    return counts[:, index].astype(float)


def bootstrap_ci(
    fn: Metric, units: np.ndarray, n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Estimate and percentile interval of a metric under resampling of patients.

    Parameters
    ----------
    fn
        Takes None or a (B, n) weight and gives a float or (B,): `lambda w: auroc(y, score, w)`.
    units
        (n,) patient id of each unit.

    Returns
    -------
    estimate, low, high. Resamples in which the metric is undefined are left out; a warning says when they are many.
    """
    replicates = np.asarray(fn(resample_weights(units, n_boot, seed)))
    low, high, skipped = interval(replicates, level)
    _warn_skipped(skipped, n_boot)
    return float(fn(None)), low, high


def paired_difference(
    fn_a: Metric, fn_b: Metric, units: np.ndarray, n_boot: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float, float]:
    """fn_a - fn_b on the same resamples: estimate, low, high and two-sided bootstrap p. See `bootstrap_ci`."""
    weight = resample_weights(units, n_boot, seed)
    replicates = np.asarray(fn_a(weight)) - np.asarray(fn_b(weight))
    low, high, skipped = interval(replicates, level)
    _warn_skipped(skipped, n_boot)
    return float(fn_a(None) - fn_b(None)), low, high, two_sided_p(replicates)


def interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float, int]:
    """Percentile interval of the defined replicates, and how many were undefined."""
    defined = replicates[np.isfinite(replicates)]
    skipped = replicates.size - defined.size
    if defined.size == 0:
        return float("nan"), float("nan"), skipped
    low, high = np.quantile(defined, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high), skipped


def two_sided_p(replicates: np.ndarray) -> float:
    """Twice the smaller tail of the replicates around zero, by the (b + 1) / (n + 1) rule, so that it is never 0."""
    defined = replicates[np.isfinite(replicates)]
    if defined.size == 0:
        return float("nan")
    smaller = min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2.0 * (smaller + 1) / (defined.size + 1)))


def _warn_skipped(skipped: int, n_boot: int) -> None:
    if skipped > MANY_UNDEFINED * n_boot:
        warnings.warn(
            f"The metric was undefined (one class, or no comparable pair) in {skipped} of {n_boot} patient resamples; "
            "they are left out of the interval, which is then too narrow.",
            stacklevel=3,
        )
