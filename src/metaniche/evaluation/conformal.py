"""Conformal sets for the units of a cross-validation: calibrated on the other folds, never on a unit's own."""

from __future__ import annotations

import numpy as np
import pandas as pd

from metaniche.metrics.conformal import conformal_p, conformal_sets, coverage

ALPHAS = (0.05, 0.1, 0.2)
_WORDS = {(False, False): "neither", (True, False): "0", (False, True): "1", (True, True): "0 or 1"}


def cross_conformal(predictions: pd.DataFrame, *, mondrian: bool = True) -> pd.DataFrame:
    """p-values of both labels for every unit, model and repeat (and site).

    A unit is compared with the out-of-fold units of the other folds of its repeat: each of them was predicted by a network
    that had not seen it, as the unit was (cross-conformal prediction, Vovk 2015, doi:10.1007/s10472-013-9368-4). The
    networks differ a little from fold to fold, so that the promise is approximate; `coverage_table` shows what was kept.

    Parameters
    ----------
    predictions
        As `landmark.as_binary` gives them, or `CrossValidation.predictions` of a binary task: model, repeat, fold, unit_id, y,
        risk, and `weight` where units count differently or have no known label (0).

    Returns
    -------
    `predictions` with `p0` and `p1`; NaN where the other folds hold one label only.
    """
    out = predictions.assign(p0=np.nan, p1=np.nan)
    out["weight"] = predictions.get("weight", pd.Series(1.0, predictions.index))
    by = ["model", "repeat", "site"] if "site" in out else ["model", "repeat"]
    for _, rows in out.groupby(by):
        for _, own in rows.groupby("fold"):
            others = rows.drop(own.index)
            others = others[others["weight"] > 0]
            if others["y"].nunique() == 2:
                out.loc[own.index, ["p0", "p1"]] = conformal_p(
                    own["risk"], others["risk"], others["y"], others["weight"], mondrian=mondrian
                )
    return out


def in_words(judged: pd.DataFrame, alphas: tuple[float, ...] = ALPHAS) -> pd.DataFrame:
    """`cross_conformal`'s rows with a column of sets per promise (`set_95`, ...): 0, 1, 0 or 1, neither; empty without p."""
    held = judged[["p0", "p1"]].to_numpy()
    known = ~np.isnan(held).any(axis=1)
    for alpha in alphas:
        words = [_WORDS[tuple(row)] for row in conformal_sets(held, alpha).tolist()]
        judged = judged.assign(**{f"set_{100 * (1 - alpha):.0f}": np.where(known, words, "")})
    return judged


def coverage_table(judged: pd.DataFrame, alphas: tuple[float, ...] = ALPHAS) -> pd.DataFrame:
    """What the sets of `cross_conformal` held: a row per model and alpha.

    Columns: `model`, `alpha`, `nominal` (1 - alpha), `coverage`, `coverage_0` and `coverage_1` (of either label), `certain`
    (share of units with one label in their set), `accuracy` (of these) and `empty`. Units of unknown label count among the
    certain and the empty only.
    """
    rows = []
    for model, units in judged.dropna(subset=["p0", "p1"]).groupby("model", sort=False):
        y, weight = units["y"].to_numpy(int), units["weight"].to_numpy(float)
        for alpha in alphas:
            sets = conformal_sets(units[["p0", "p1"]].to_numpy(), alpha)
            held = {
                "coverage": np.ones(len(y), dtype=bool),
                "coverage_0": y == 0,
                "coverage_1": y == 1,
                "accuracy": sets.sum(1) == 1,
            }
            of = {name: coverage(sets[which], y[which], weight[which]) for name, which in held.items()}
            more = {"certain": held["accuracy"].mean(), "empty": (sets.sum(1) == 0).mean()}
            rows.append({"model": model, "alpha": alpha, "nominal": 1 - alpha, **of, **more})
    return pd.DataFrame(rows)
