"""Tail of the Pearson type III distribution: a gamma distribution of any skewness, shifted and scaled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.special import gammainc, gammaincc, ndtr

VALUES_A_THREAD = 1 << 16
SMALLEST = np.finfo(np.float64).tiny
# Below this skewness a normal tail with the first Edgeworth term is nearer than the incomplete gamma function.
NEARLY_SYMMETRIC = 1e-3


def pearson3_tail(z: np.ndarray, skewness: np.ndarray, device: torch.device | None = None) -> np.ndarray:
    """P(Z >= z) of the Pearson III variable with mean 0, variance 1 and this skewness.

    .. math:: Z = (X - a) / \\sqrt{a}, \\; X \\sim \\Gamma(a), \\; a = 4 / skewness^2,
        \\text{ mirrored for negative skewness}

    Never 0: a statistic was seen, so its probability is at least the smallest normal float64. NaN stays NaN. On a GPU as
    `device` torch works them out; they agree with the CPU's to 1e-8.
    """
    z, skewness = np.broadcast_arrays(np.asarray(z, np.float64), np.asarray(skewness, np.float64))
    if device is not None and device.type != "cpu":
        return _tail_by_torch(device, z, skewness)
    parts = -(-z.size // VALUES_A_THREAD)
    if parts <= 1:
        return _tail(z, skewness)
    # scipy's functions let go of the interpreter's lock.
    pieces = (np.array_split(x.ravel(), parts) for x in (z, skewness))
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return np.concatenate(list(threads.map(_tail, *pieces))).reshape(z.shape)


def _tail(z: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    p = np.full(z.shape, np.nan)
    skewed = np.abs(skewness) >= NEARLY_SYMMETRIC
    shape = 4 / skewness[skewed] ** 2
    x = np.maximum(shape + np.sign(skewness[skewed]) * z[skewed] * np.sqrt(shape), 0.0)
    p[skewed] = np.where(skewness[skewed] > 0, gammaincc(shape, x), gammainc(shape, x))
    symmetric = ~skewed & ~np.isnan(skewness)
    y = np.clip(z[symmetric], -1e100, 1e100)
    density = np.exp(-(y**2) / 2) / np.sqrt(2 * np.pi)
    p[symmetric] = ndtr(-y) + skewness[symmetric] / 6 * (y**2 - 1) * density
    p[np.isnan(z)] = np.nan
    return np.clip(p, SMALLEST, 1.0)


def _tail_by_torch(device: torch.device, z: np.ndarray, skewness: np.ndarray) -> np.ndarray:
    """`pearson3_tail` by torch's functions on any device."""
    z, skewness = (torch.tensor(x, device=device) for x in (z, skewness))
    shape = 4 / skewness**2
    x = (shape + skewness.sign() * z * shape.sqrt()).clamp(min=0)
    p = torch.where(skewness > 0, torch.special.gammaincc(shape, x), torch.special.gammainc(shape, x))
    y = z.clamp(-1e100, 1e100)
    normal = (
        torch.special.erfc(y / 2**0.5) / 2 + skewness / 6 * (y**2 - 1) * (-(y**2) / 2).exp() / (2 * torch.pi) ** 0.5
    )
    p = torch.where(skewness.abs() >= NEARLY_SYMMETRIC, p, normal).clamp(SMALLEST, 1.0)
    return torch.where(z.isnan() | skewness.isnan(), torch.nan, p).numpy(force=True)


def gamma_tails(
    score: np.ndarray, mean: np.ndarray, variance: np.ndarray, step: np.ndarray | float = 0.0, positive: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z-scores and the tails above and below, half a `step` beyond each score.

    Of a gamma variable with this mean and variance where scores cannot be negative (`positive`), else of a normal. A
    score of 0 has the p-value above 1, and the one below of a Poisson number of scores.
    """
    z, greater = upper_tail(score, mean, variance, step, positive)
    _, less = upper_tail(-score, -mean, variance, step, positive)
    if positive and np.all(step == 0):
        # A gamma variable is never 0, a sum of rare scores often is.
        with np.errstate(divide="ignore", invalid="ignore"):
            less = np.where(score == 0, np.exp(-(mean**2) / variance), less)
    return z, greater, less


def upper_tail(
    score: np.ndarray, mean: np.ndarray, variance: np.ndarray, step: np.ndarray | float = 0.0, positive: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """z-scores and the upper tails of `gamma_tails`; scores and means of one sign, the tail points away from 0 or to it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(variance)
        z = (score - mean) / spread
        beyond = (score - mean - step / 2) / spread
        tail = pearson3_tail(beyond, 2 * spread / mean if positive else np.zeros_like(mean))
    if positive and np.all(step == 0):
        tail = np.where(score == 0, 1.0, tail)
    return z, tail
