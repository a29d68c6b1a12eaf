"""A + B: two models with equal weight, nothing more is fitted: what B adds to the clinical model, or to composition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from metaniche.data.sample import PreparedSample
from metaniche.data.task import Targets, Task
from metaniche.errors import ConfigError
from metaniche.evaluation.estimator import Estimator, Prediction

CLIP = 1e-6


@dataclass
class Fused:
    """`other + base`, in the role of `base`. cross_validate makes its rows of what both predicted on the fold already."""

    base: Estimator
    other: Estimator
    task: Task | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.other.name} + {self.base.name}"

    @property
    def role(self) -> str:
        return self.base.role

    def fit(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> Fused:
        """Fit both models; for use outside cross_validate."""
        self.task = targets.task
        self._train = (samples, clinical, list(targets.table.index))
        for model in (self.other, self.base):
            model.fit(samples, targets, clinical, seed)
        return self

    def predict(
        self, samples: Sequence[PreparedSample], clinical: pd.DataFrame | None, unit_ids: Sequence[str]
    ) -> Prediction:
        parts = [with_scale(m, m.predict(samples, clinical, unit_ids), *self._train) for m in (self.other, self.base)]
        return fuse(self.task, *parts)


def fuse(task: Task, other: Prediction, base: Prediction) -> Prediction:
    """Combine two predictions of the same units with equal weight.

    Binary and sites: mean of the two logits. Survival: sum of the two risks, each standardised on its training units;
    the survival curves, where both have them, are averaged on the scale of log cumulative hazard, where Cox models add.

    Raises ConfigError where a survival prediction has no `train_scale`.
    """
    if task.kind == "sites":
        sites = _mean_logit(other.sites, base.sites)
        return Prediction(sites.mean(axis=1), sites=sites)
    if task.kind == "binary":
        return Prediction(_mean_logit(other.risk, base.risk))
    risk = _standardised(other) + _standardised(base).reindex(other.risk.index)
    if other.survival is None or base.survival is None:
        return Prediction(risk)
    grid = np.union1d(other.survival.columns.to_numpy(float), base.survival.columns.to_numpy(float))
    hazards = [np.log(-np.log(_inside(on_grid(p.survival, grid)))) for p in (other, base)]
    survival = np.exp(-np.exp((hazards[0] + hazards[1].reindex(hazards[0].index)) / 2))
    return Prediction(risk, survival)


def with_scale(
    model: Estimator,
    prediction: Prediction,
    samples: Sequence[PreparedSample],
    clinical: pd.DataFrame | None,
    unit_ids: Sequence[str],
) -> Prediction:
    """The prediction with `train_scale`; a model that gave none predicts its training units once more."""
    if prediction.train_scale is None:
        risk = model.predict(samples, clinical, unit_ids).risk
        prediction.train_scale = (float(risk.mean()), float(risk.std(ddof=0)))
    return prediction


def on_grid(survival: pd.DataFrame, grid: np.ndarray) -> pd.DataFrame:
    """Survival curves at the times of `grid`: linear between their own times, from 1 at 0, constant after the last."""
    own = survival.columns.to_numpy(float)
    times, start = (own, 0) if own.size and own[0] == 0 else (np.append(0.0, own), 1)
    rows = [np.interp(grid, times, np.append(np.ones(start), row)) for row in survival.to_numpy(float)]
    return pd.DataFrame(rows, index=survival.index, columns=grid)


def _mean_logit(a: pd.Series | pd.DataFrame, b: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    return expit((logit(_inside(a)) + logit(_inside(b.reindex(a.index)))) / 2)


def _inside(prob: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    return prob.clip(CLIP, 1.0 - CLIP)


def _standardised(prediction: Prediction) -> pd.Series:
    if prediction.train_scale is None:
        raise ConfigError(
            "Expected `train_scale` of a survival prediction to fuse it with another model, found None. "
            "Let the estimator's predict() return Prediction(..., train_scale=(mean, sd)) of its training risks."
        )
    mean, scale = prediction.train_scale
    return (prediction.risk - mean) / (scale if scale > CLIP else 1.0)
