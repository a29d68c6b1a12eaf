"""A survival task as a binary one: has the event come by a landmark, told by the units whose follow-up lets it be known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from metaniche.data.task import event_kind
from metaniche.evaluation.predictions import CrossValidation
from metaniche.metrics.survival import censoring_survival
from metaniche.metrics.weighting import ratio


class Landmark(NamedTuple):
    """The middle of the evaluation grid: its time, and of n units whether the event came by it, the predicted probability of
    that, and a weight: one over the chance that it could be known, 0 where follow-up ended before (inverse probability of
    censoring, estimated on the training patients of each unit's fold).
    """

    time: float
    happened: np.ndarray
    probability: np.ndarray
    weight: np.ndarray


def landmark(cv: CrossValidation, rows: pd.DataFrame) -> Landmark:
    """Of rows of a survival task that have curves."""
    middle = cv.grid.size // 2
    at, time, event = float(cv.grid[middle]), rows["time"].to_numpy(float), event_kind(rows)
    own, on_grid = censoring(cv, rows)
    # Who had a competing event is known to stay without this one.
    known = np.where(time > at, on_grid[:, middle], np.where(event > 0, own, 0.0))
    weight = np.nan_to_num(ratio(np.ones(time.size), known))
    probability = 1.0 - np.stack(rows["survival"].to_numpy())[:, middle]
    return Landmark(at, (time <= at) & (event == 1), probability, weight)


def as_binary(cv: CrossValidation) -> pd.DataFrame:
    """The predictions with `y`, `risk` as its probability, and `weight`, whatever the task; models without curves fall away."""
    rows = cv.predictions
    if not cv.targets.task.is_survival:
        return rows.assign(weight=1.0)
    if "survival" not in rows or cv.grid.size < 2:
        return rows.iloc[:0].assign(y=[], weight=[])
    complete = rows["survival"].notna().groupby(rows["model"]).transform("all")
    rows = rows[complete].drop(columns="survival")
    at = landmark(cv, cv.predictions[complete]) if complete.any() else Landmark(np.nan, *[np.zeros(0)] * 3)
    return rows.assign(y=at.happened.astype(float), risk=at.probability, weight=at.weight)


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
