"""Out-of-fold predictions of all models in one table, and the times at which survival curves are judged."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit

from metaniche.data.splits import Fold
from metaniche.data.task import Targets, event_kind
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.fusion import CLIP, on_grid
from metaniche.evaluation.sites import per_label
from metaniche.io.run_files import FOLDS, PREDICTIONS
from metaniche.io.write import replacing, write_parquet
from metaniche.metrics.survival import censoring_survival

GRID_POINTS = 32
LEAST_UNCENSORED = 0.1


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold predictions of all models.

    Attributes
    ----------
    predictions
        A row per model, repeat and test unit (and site): model, role, repeat, fold, unit_id, patient_id, the labels
        (`y`, or `time` and `event`), `risk`, and `score`, which ranks units across folds. For probabilities `score` is
        logit(risk) minus the logit of the training fold's base rate: an intercept alone would otherwise rank held-out
        units against their own label, since taking a case out lowers the base rate it is predicted with (Parker 2007,
        doi:10.1186/1471-2105-8-326); this removes a part of that bias, not all. For survival `score` is the risk less its
        mean over the fold's training units, of whatever model: each fit of a Cox network has a zero of its own. `survival` is
        a list of probabilities at `grid`.
    folds
        As evaluated.
    targets
        Of the patients of both sides of the folds.
    grid
        Evaluation times of survival tasks, else empty; its last is `tau`.
    """

    predictions: pd.DataFrame
    folds: tuple[Fold, ...]
    targets: Targets
    grid: np.ndarray

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(self.predictions["model"]))

    @property
    def tested(self) -> Targets:
        """The targets of the patients that are predicted."""
        return self.targets.of(self.predictions["patient_id"].unique())

    def save(self, folder: Path) -> None:
        """Write predictions.parquet and folds.json, each atomically."""
        folder = Path(folder)
        write_parquet(self.predictions, folder / PREDICTIONS)
        with replacing(folder / FOLDS) as temporary:
            temporary.write_text(json.dumps([asdict(f) for f in self.folds], indent=1))


def evaluation_grid(targets: Targets) -> np.ndarray:
    """Times at which survival curves are judged: quantiles of the follow-up, up to the last time at which at least
    10 % of the cohort is still uncensored. Empty for other tasks. Models never see it."""
    if not targets.task.is_survival:
        return np.zeros(0)
    time, event = targets.table["time"].to_numpy(float), event_kind(targets.table)
    uncensored = censoring_survival(time, event, time)
    tau = time[uncensored >= LEAST_UNCENSORED].max(initial=time.min())
    return np.unique(np.quantile(time[time <= tau], np.linspace(0.0, 1.0, GRID_POINTS)))


def fold_rows(prediction: Prediction, train: Targets, test: Targets, grid: np.ndarray) -> pd.DataFrame:
    """A row per test unit, and per site with a known label: unit_id, patient_id, labels, risk, score (and survival)."""
    task = test.task
    if task.is_survival:
        centre = prediction.train_scale[0] if prediction.train_scale else 0.0  # a fused risk is standardised already
        table = test.table.assign(risk=prediction.risk, score=prediction.risk - centre)
        if prediction.survival is not None:
            table["survival"] = list(on_grid(prediction.survival.loc[table.index], grid).to_numpy())
        return table.rename_axis("unit_id").reset_index()
    if task.kind == "binary":
        return _scored(test, prediction.risk, train).rename_axis("unit_id").reset_index()
    known, trained = per_label(test), per_label(train)
    parts = [
        _scored(known[site], prediction.sites[site], trained[site]).drop(columns=list(task.sites)).assign(site=site)
        for site in task.sites
        if site in known and site in trained
    ]
    return pd.concat(parts).rename_axis("unit_id").reset_index() if parts else pd.DataFrame()


def _scored(test: Targets, risk: pd.Series, train: Targets) -> pd.DataFrame:
    table = test.table.assign(risk=risk)
    base_rate = np.clip(train.table["y"].mean(), CLIP, 1.0 - CLIP)
    return table.assign(score=logit(table["risk"].clip(CLIP, 1.0 - CLIP)) - logit(base_rate))
