"""A survival task as a binary one: has the event come by a landmark, told by the units whose follow-up lets it be known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from metaniche.data.task import event_kind
from metaniche.evaluation.predictions import CrossValidation
from metaniche.metrics.survival import censoring_survival
from metaniche.metrics.weighting import ratio


def middle(grid: np.ndarray) -> int:
    """Index of the time at which calibration and sets are read."""
    return grid.size // 2


class Landmark(NamedTuple):
    """The middle of the evaluation grid: its time, and of n units whether the event came by it, the predicted probability of
    that, and a weight: one over the chance that it could be known, 0 where follow-up ended before (inverse probability of
    censoring, estimated on the training patients of each unit's fold).
    """

    time: float
    happened: np.ndarray
    probability: np.ndarray
    weight: np.ndarray


def landmark(cv: CrossValidation, rows: pd.DataFrame, own: np.ndarray, on_grid: np.ndarray) -> Landmark:
    """Of rows of a survival task that have curves, and what `censoring` says of them."""
    column, time, event = middle(cv.grid), rows["time"].to_numpy(float), event_kind(rows)
    at = float(cv.grid[column])
    # Who had a competing event is known to stay without this one.
    chance = np.where(time > at, on_grid[:, column], np.where(event > 0, own, 0.0))
    weight = np.nan_to_num(ratio(np.ones(time.size), chance))
    # Sums of probabilities pass 1 by their rounding.
    probability = np.clip(1.0 - np.stack(rows["survival"].to_numpy())[:, column], 0.0, 1.0)
    return Landmark(at, (time <= at) & (event == 1), probability, weight)


def as_binary(cv: CrossValidation, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the predictions with `y`, `risk` as its probability, and `weight`, whatever the task.

    Those of survival tasks are told at a `landmark`, a time; models without curves fall away.
    """
    if not cv.targets.task.is_survival:
        return rows.assign(weight=1.0)
    nothing = rows.iloc[:0].assign(y=[], weight=[], landmark=[])
    if "survival" not in rows or cv.grid.size < 2:
        return nothing
    rows = rows[rows["survival"].notna().groupby(rows["model"]).transform("all")]
    if rows.empty:
        return nothing
    at = landmark(cv, rows, *censoring(cv, rows))
    return rows.drop(columns="survival").assign(
        y=at.happened.astype(float), risk=at.probability, weight=at.weight, landmark=at.time
    )


def censoring(cv: CrossValidation, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """G just before each unit's own time (n,) and at the grid (n, T), from the training patients of its fold."""
    train = {(f.repeat, f.fold): f.train for f in cv.folds}
    own, on_grid = np.zeros(len(rows)), np.zeros((len(rows), cv.grid.size))
    key = list(zip(rows["repeat"], rows["fold"]))
    for fold in set(key):
        table = cv.targets.of(train[fold]).table
        members = np.array([k == fold for k in key])
        trained = table["time"].to_numpy(float), event_kind(table)
        own[members] = censoring_survival(*trained, rows["time"].to_numpy(float)[members], before=True)
        on_grid[members] = censoring_survival(*trained, cv.grid)
    return own, on_grid
