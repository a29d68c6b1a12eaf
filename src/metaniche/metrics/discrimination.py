"""How well a score separates two classes: AUROC, AUPRC, sensitivity at a fixed specificity."""

from __future__ import annotations

import numpy as np

from metaniche.metrics.weighting import as_rows, ratio, unwrap

SPECIFICITY_TOLERANCE = 1e-12


def auroc(y: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float | np.ndarray:
    """Area under the ROC curve; ties count one half. NaN where only one class is present or a score is NaN.

    Parameters
    ----------
    y
        (n,) 0 or 1.
    score
        (n,) higher means more likely 1.
    weight
        None, (n,), or (B, n) for B weightings at once.

    Returns
    -------
    float, or (B,) for a (B, n) weight.
    """
    tp, fp = _curve(y, score, weight)
    gained = np.diff(fp, axis=1, prepend=0.0)
    height = tp - np.diff(tp, axis=1, prepend=0.0) / 2
    return unwrap(ratio((gained * height).sum(1), tp[:, -1] * fp[:, -1]), weight)


def auprc(y: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float | np.ndarray:
    """Average precision: precision at each distinct threshold times the recall it gains. Arguments as in `auroc`."""
    tp, fp = _curve(y, score, weight)
    gained = np.diff(tp, axis=1, prepend=0.0)
    precision = np.nan_to_num(ratio(tp, tp + fp))
    area = ratio((gained * precision).sum(1), tp[:, -1])
    return unwrap(np.where(fp[:, -1] > 0, area, np.nan), weight)


def sensitivity_at_specificity(
    y: np.ndarray, score: np.ndarray, specificity: float, weight: np.ndarray | None = None
) -> float | np.ndarray:
    """Largest sensitivity among the thresholds whose specificity is at least `specificity`. Arguments as in `auroc`."""
    tp, fp = _curve(y, score, weight)
    allowed = ratio(fp, fp[:, -1:]) <= 1.0 - specificity + SPECIFICITY_TOLERANCE
    reached = np.where(allowed, tp, 0.0).max(1)
    return unwrap(np.where(fp[:, -1] > 0, ratio(reached, tp[:, -1]), np.nan), weight)


def within_group_auroc(
    y: np.ndarray, score: np.ndarray, group: np.ndarray, weight: np.ndarray | None = None
) -> float | np.ndarray:
    """Mean over groups (patients) of the AUROC within each; groups with one class only are left out.

    `weight` counts groups: the weight of a group is that of its units, which must be the same for all of them.
    """
    _, first, index = np.unique(np.asarray(group), return_index=True, return_inverse=True)
    areas = np.array([auroc(y[index == g], score[index == g]) for g in range(first.size)])
    defined = np.isfinite(areas)
    rows = as_rows(weight, index.size)[:, first[defined]]
    return unwrap(ratio(rows @ areas[defined], rows.sum(1)), weight)


def _curve(y: np.ndarray, score: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weight of true and of false positives at each distinct threshold, highest first: two (B, T)."""
    y, score = np.asarray(y, dtype=float), np.asarray(score, dtype=float)
    rows = as_rows(weight, y.size)
    if y.size == 0 or np.isnan(score).any():
        undefined = np.zeros((rows.shape[0], 1))
        return undefined, undefined
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), y.size - 1)
    positive = np.cumsum(rows[:, order] * y[order], axis=1)[:, last]
    negative = np.cumsum(rows[:, order] * (1.0 - y[order]), axis=1)[:, last]
    return positive, negative
