"""Conformal sets for the units of a cross-validation: calibrated on the other folds, never on a unit's own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metaniche.metrics.conformal import conformal_p, conformal_sets, coverage

ALPHAS = (0.05, 0.1, 0.2)


def cross_conformal(predictions: pd.DataFrame, *, mondrian: bool = True) -> pd.DataFrame:
    """p-values of both labels for every unit, model and repeat of a binary task.

    A unit is compared with the out-of-fold units of the other folds of its repeat: each of them was predicted by a network
    that had not seen it, as the unit was (cross-conformal prediction, Vovk 2015, doi:10.1007/s10472-013-9368-4). The
    networks differ a little from fold to fold, so that the promise is approximate; `coverage_table` shows what was kept.

    Parameters
    ----------
    predictions
        As `CrossValidation.predictions` of a binary task: model, repeat, fold, unit_id, y and risk.

    Returns
    -------
    `predictions` with `p0` and `p1`; NaN where the other folds hold one label only.
    """
    out = predictions.assign(p0=np.nan, p1=np.nan)
    for _, rows in predictions.groupby(["model", "repeat"]):
        for _, own in rows.groupby("fold"):
            others = rows.drop(own.index)
            if others["y"].nunique() == 2:
                out.loc[own.index, ["p0", "p1"]] = conformal_p(
                    own["risk"], others["risk"], others["y"], mondrian=mondrian
                )
    return out


def coverage_table(judged: pd.DataFrame, alphas: tuple[float, ...] = ALPHAS) -> pd.DataFrame:
    """What the sets of `cross_conformal` held: a row per model and alpha.

    Columns: `model`, `alpha`, `nominal` (1 - alpha), `coverage`, `coverage_0` and `coverage_1` (of either label), `certain`
    (share of units with one label in their set), `accuracy` (of these) and `empty`.
    """
    rows = []
    for model, units in judged.dropna(subset=["p0", "p1"]).groupby("model", sort=False):
        y = units["y"].to_numpy(int)
        for alpha in alphas:
            sets = conformal_sets(units[["p0", "p1"]].to_numpy(), alpha)
            single = sets.sum(1) == 1
            rows.append(
                {
                    "model": model,
                    "alpha": alpha,
                    "nominal": 1 - alpha,
                    "coverage": coverage(sets, y),
                    **{
                        f"coverage_{c}": coverage(sets[y == c], y[y == c]) if (y == c).any() else np.nan for c in (0, 1)
                    },
                    "certain": single.mean(),
                    "accuracy": coverage(sets[single], y[single]) if single.any() else np.nan,
                    "empty": (sets.sum(1) == 0).mean(),
                }
            )
    return pd.DataFrame(rows)
