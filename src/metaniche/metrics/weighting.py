"""The weight argument that every metric shares: one row per bootstrap resample."""

from __future__ import annotations

import numpy as np


def as_rows(weight: np.ndarray | None, n: int) -> np.ndarray:
    """(B, n) float64 weights; None counts every unit once, in one row."""
    if weight is None:
        return np.ones((1, n))
    return np.atleast_2d(np.asarray(weight, dtype=float))


def unwrap(values: np.ndarray, weight: np.ndarray | None) -> float | np.ndarray:
    """(B,) values as a float where the caller's weight was None or one row."""
    return values if weight is not None and np.ndim(weight) == 2 else float(values[0])


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, NaN where the denominator is not positive."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1.0), np.nan)
