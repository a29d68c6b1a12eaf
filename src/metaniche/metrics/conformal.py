"""Sets of labels that hold the truth as often as promised, whatever the model: split and Mondrian conformal prediction."""

from __future__ import annotations

import numpy as np

from metaniche.errors import ConfigError, InputError
from metaniche.metrics.weighting import ratio


def conformal_p(
    probability: np.ndarray,
    calibration: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    mondrian: bool = True,
) -> np.ndarray:
    """(n, 2) conformal p-values of the labels 0 and 1 of new units.

    .. math:: p_c = \\frac{1 + \\#\\{i \\in cal_c : s_i \\ge s_c\\}}{1 + |cal_c|}, \\quad s_c = 1 - \\hat P(y = c)

    A label whose p-value exceeds alpha belongs to the set; the set then misses the true label of at most a share alpha of
    units that are exchangeable with the calibration ones (Vovk, Gammerman and Shafer 2005, doi:10.1007/b106715).

    Parameters
    ----------
    probability
        (n,) of label 1, of the new units.
    calibration, y
        (m,) the same model's probabilities of units it was not trained on, and their labels.
    weight
        (m,) of the calibration units, 0 where the label is not known; None: all alike. Units whose labels are known with
        different chances count one over them (Tibshirani et al. 2019, arXiv:1904.06019): weights are summed where the formula
        counts units, and the heaviest of them stands for the new unit, its 1.
    mondrian
        Compare with the calibration units of label c only, so that the promise holds for either label by itself; else with
        all of them.

    Raises
    ------
    InputError
        For probabilities outside [0, 1], labels other than 0 and 1, or a label without calibration units.
    """
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=float)
    known = weight > 0
    probability = np.asarray(probability, dtype=float)
    calibration, y, weight = (np.asarray(x, dtype=float)[known] for x in (calibration, y, weight))
    for x in (probability, calibration):
        if not ((x >= 0) & (x <= 1)).all():
            raise InputError(f"Expected probabilities in [0, 1], found {np.nanmin(x):.3g} to {np.nanmax(x):.3g}.")
    if not np.isin(y, (0, 1)).all() or len(np.unique(y)) < 2:
        raise InputError(
            f"Expected calibration units of both labels, 0 and 1, found {sorted(np.unique(y))}. Hold out more patients."
        )
    of_truth = np.where(y == 1, 1 - calibration, calibration)
    out = np.empty((len(probability), 2))
    for label, score in ((0, probability), (1, 1 - probability)):
        peers = y == label if mondrian else np.ones(len(y), dtype=bool)
        order = np.argsort(of_truth[peers])
        below = np.append(0.0, np.cumsum(weight[peers][order]))
        stranger = below[-1] - below[np.searchsorted(of_truth[peers][order], score, side="left")]
        out[:, label] = (weight.max() + stranger) / (weight.max() + below[-1])
    return out


def conformal_sets(p: np.ndarray, alpha: float = 0.1) -> np.ndarray:
    """(n, 2) bool: the labels whose p exceeds alpha; both where the model cannot tell, none where a unit is like none."""
    if not 0 < alpha < 1:
        raise ConfigError(f"Expected alpha between 0 and 1, found {alpha}.")
    return p > alpha


def coverage(sets: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Share of units, or of their weight, whose true label is in their set; NaN without any."""
    held = sets[np.arange(len(y)), np.asarray(y, dtype=int)]
    weight = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=float)
    return float(ratio(held @ weight, weight.sum()))
