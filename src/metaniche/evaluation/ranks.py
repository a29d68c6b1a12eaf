"""Who is at higher risk, from out-of-fold predictions: one rule for what is chosen, drawn and grouped by it."""

from __future__ import annotations

import pandas as pd


def score_column(predictions: pd.DataFrame) -> str:
    """What ranks units across folds: the score (see `CrossValidation`), or the risk where there is none."""
    return "score" if "score" in predictions else "risk"


def ranks(rows: pd.DataFrame) -> pd.Series:
    """Of each row of one model the rank of its score within its repeat, in (0, 1], highest risk last."""
    score = score_column(rows)
    return rows.groupby("repeat")[score].rank(pct=True) if "repeat" in rows else rows[score].rank(pct=True)


def patient_ranks(predictions: pd.DataFrame, model: str | None) -> pd.Series:
    """By patient the mean of `ranks` over repeats and units; units without a score are left out."""
    rows = predictions[predictions["model"] == model].dropna(subset=[score_column(predictions)])
    return ranks(rows).groupby(rows["patient_id"]).mean()
