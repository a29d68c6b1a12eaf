"""Sets of labels that hold the truth as often as promised, whatever the model: split and Mondrian conformal prediction."""

from __future__ import annotations

import numpy as np

from metaniche.errors import ConfigError, InputError


def conformal_p(
    probability: np.ndarray, calibration: np.ndarray, y: np.ndarray, *, mondrian: bool = True
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
    mondrian
        Compare with the calibration units of label c only, so that the promise holds for either label by itself; else with
        all of them.

    Raises
    ------
    InputError
        For probabilities outside [0, 1], labels other than 0 and 1, or a label without calibration units.
    """
    probability, calibration, y = (np.asarray(x, dtype=float) for x in (probability, calibration, y))
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
        peers = np.sort(of_truth[y == label] if mondrian else of_truth)
        at_least = len(peers) - np.searchsorted(peers, score, side="left")
        out[:, label] = (1 + at_least) / (1 + len(peers))
    return out


def conformal_sets(p: np.ndarray, alpha: float = 0.1) -> np.ndarray:
    """(n, 2) bool: the labels whose p exceeds alpha; both where the model cannot tell, none where a unit is like none."""
    if not 0 < alpha < 1:
        raise ConfigError(f"Expected alpha between 0 and 1, found {alpha}.")
    return p > alpha


def coverage(sets: np.ndarray, y: np.ndarray) -> float:
    """Share of units whose true label is in their set."""
    return float(sets[np.arange(len(y)), np.asarray(y, dtype=int)].mean())
