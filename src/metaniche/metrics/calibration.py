"""Do predicted probabilities mean what they say: recalibration slope and intercept, ECE, reliability curve."""

from __future__ import annotations

import numpy as np

from metaniche.metrics.weighting import as_rows, ratio, unwrap

CLIP = 1e-6
MAX_STEPS = 50
LARGEST_STEP = 2.0
SEPARATED = 30.0  # a standardised coefficient beyond this is a likelihood without a maximum


def calibration_slope(
    y: np.ndarray, prob: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, float] | tuple[np.ndarray, np.ndarray]:
    """Slope and intercept of a logistic regression of y on logit(prob) (Cox 1958, doi:10.1093/biomet/45.3-4.562).

    1 and 0 are perfect; a slope below 1 says that predictions are too extreme. NaN with one class, with constant
    predictions, and where the predictions separate the classes (no finite slope).

    Parameters
    ----------
    y, prob
        (n,) 0 or 1, and predicted probability of 1.
    weight
        None, (n,), or (B, n) for B weightings at once.
    """
    y, prob = np.asarray(y, dtype=float), np.clip(np.asarray(prob, dtype=float), CLIP, 1.0 - CLIP)
    rows = as_rows(weight, y.size)
    predictor, centre, scale = _standardised(np.log(prob / (1.0 - prob)))
    if scale == 0 or not np.isfinite(scale):
        undefined = unwrap(np.full(rows.shape[0], np.nan), weight)
        return undefined, undefined

    def newton(beta: np.ndarray) -> np.ndarray:
        p = 1.0 / (1.0 + np.exp(-np.clip(beta[:, :1] + beta[:, 1:] * predictor, -50, 50)))
        residual, curvature = rows * (y - p), rows * p * (1.0 - p)
        g0, g1 = residual.sum(1), residual @ predictor
        h00, h01, h11 = curvature.sum(1), curvature @ predictor, curvature @ predictor**2
        determinant = h00 * h11 - h01**2
        return np.stack((ratio(h11 * g0 - h01 * g1, determinant), ratio(h00 * g1 - h01 * g0, determinant)), axis=1)

    beta = _maximise(newton, np.zeros((rows.shape[0], 2)))
    slope = beta[:, 1] / scale
    return unwrap(slope, weight), unwrap(beta[:, 0] - slope * centre, weight)


def cox_calibration_slope(
    time: np.ndarray, event: np.ndarray, log_hazard: np.ndarray, weight: np.ndarray | None = None
) -> float | np.ndarray:
    """Slope of a Cox regression of the outcome on the predicted log-hazard (van Houwelingen 2000,
    doi:10.1002/1097-0258(20001230)19:24<3401::AID-SIM554>3.0.CO;2-2).

    1 is perfect, ties by Breslow; NaN without an event, with constant predictions, or where no finite slope exists.
    Arguments as in `calibration_slope`, with (n,) times, events and predicted log-hazards.
    """
    time, event = np.asarray(time, dtype=float), np.asarray(event, dtype=float)
    rows = as_rows(weight, time.size)
    predictor, _, scale = _standardised(np.asarray(log_hazard, dtype=float))
    if scale == 0 or not np.isfinite(scale):
        return unwrap(np.full(rows.shape[0], np.nan), weight)
    order = np.argsort(-time, kind="stable")
    x, rows = predictor[order], rows[:, order]
    last = np.searchsorted(-time[order], -time[order], side="right") - 1
    leads = rows * event[order]

    def newton(beta: np.ndarray) -> np.ndarray:
        hazard = rows * np.exp(np.clip(beta * x, -50, 50))
        total, first, second = (np.cumsum(hazard * x**k, axis=1)[:, last] for k in range(3))
        mean = np.nan_to_num(ratio(first, total))
        variance = np.nan_to_num(ratio(second, total)) - mean**2
        return ratio((leads * (x - mean)).sum(1), (leads * variance).sum(1))[:, None]

    return unwrap(_maximise(newton, np.zeros((rows.shape[0], 1)))[:, 0] / scale, weight)


def ece(y: np.ndarray, prob: np.ndarray, n_bins: int = 10, weight: np.ndarray | None = None) -> float | np.ndarray:
    """Expected calibration error over `n_bins` bins of equal width (doi:10.1609/aaai.v29i1.9602).

    With few units it is biased upwards: compare it between models of the same units, not with zero.
    """
    y, prob = np.asarray(y, dtype=float), np.asarray(prob, dtype=float)
    rows = as_rows(weight, y.size)
    if np.isnan(prob).any():
        return unwrap(np.full(rows.shape[0], np.nan), weight)
    member = np.eye(n_bins)[_bin_of(prob, n_bins)]
    gap = np.abs((rows * (y - prob)) @ member).sum(1)
    return unwrap(ratio(gap, rows.sum(1)), weight)


def _bin_of(prob: np.ndarray, n_bins: int) -> np.ndarray:
    return np.clip((prob * n_bins).astype(np.int64), 0, n_bins - 1)


def _standardised(x: np.ndarray) -> tuple[np.ndarray, float, float]:
    centre, scale = float(np.mean(x)) if x.size else np.nan, float(np.std(x)) if x.size else np.nan
    if not scale > CLIP:
        return x, centre, 0.0
    return (x - centre) / scale, centre, scale


def _maximise(newton, beta: np.ndarray) -> np.ndarray:
    """Newton's method on B small problems at once; NaN for those without a finite maximum.

    `newton` gives the (B, k) steps. Steps are capped, so that a separated problem walks away and is recognised by that.
    """
    step = np.full_like(beta, np.inf)
    for _ in range(MAX_STEPS):
        step = np.clip(newton(beta), -LARGEST_STEP, LARGEST_STEP)
        beta = beta + step
        if not (np.abs(np.nan_to_num(step)) > 1e-8).any():
            break
    solved = (np.abs(step) < 1e-6).all(1) & (np.abs(beta) < SEPARATED).all(1)
    return np.where(solved[:, None], beta, np.nan)
