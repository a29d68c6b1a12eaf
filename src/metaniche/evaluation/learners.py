"""Ridge logistic, penalised Cox and random forests on a table of features; penalties by inner patient-grouped CV."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from metaniche.data.outcome import breslow, cox_survival
from metaniche.data.splits import inner_folds
from metaniche.data.task import Targets
from metaniche.metrics.survival import partial_log_likelihood

INNER_FOLDS = 5
N_TREES = 300
FLAT = 1e-8


class Learner(Protocol):
    """Fits a table (a row per row of `targets.table`); `train_risk` then holds its risks, out of fold where it can."""

    train_risk: np.ndarray

    def fit(self, x: pd.DataFrame, targets: Targets, seed: int) -> Self: ...

    def risk(self, x: pd.DataFrame) -> np.ndarray: ...

    def survival(self, x: pd.DataFrame) -> pd.DataFrame | None: ...


@dataclass
class RidgeLogistic:
    """L2-penalised logistic regression; C by inner cross-validated log loss. One class in training: its frequency."""

    c_grid: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    c: float = field(default=np.nan, init=False, repr=False)
    model: Pipeline | None = field(default=None, init=False, repr=False)
    prior: float = field(default=np.nan, init=False, repr=False)
    train_risk: np.ndarray = field(default=None, init=False, repr=False)

    def fit(self, x: pd.DataFrame, targets: Targets, seed: int) -> RidgeLogistic:
        y = targets.table["y"].to_numpy()
        self.prior, self.model = float(y.mean()), None
        if y.min() == y.max():
            self.train_risk = self.risk(x)
            return self
        values, folds = x.to_numpy(float), _inner_rows(targets, seed)
        held_out = {c: self._out_of_fold(c, values, y, folds) for c in self.c_grid}
        losses = {c: log_loss(y, p, labels=[0, 1]) for c, p in held_out.items()}
        self.c = min(losses, key=losses.get)
        self.model = self._pipeline(self.c).fit(values, y)
        self.train_risk = held_out[self.c] if folds else self.risk(x)
        return self

    def risk(self, x: pd.DataFrame) -> np.ndarray:
        if self.model is None:
            return np.full(len(x), self.prior)
        return self.model.predict_proba(x.to_numpy(float))[:, 1]

    def survival(self, x: pd.DataFrame) -> None:
        return None

    def _out_of_fold(self, c: float, x: np.ndarray, y: np.ndarray, folds: list) -> np.ndarray:
        held_out = np.full(y.size, y.mean())
        for train, test in folds:
            if y[train].min() < y[train].max():
                held_out[test] = self._pipeline(c).fit(x[train], y[train]).predict_proba(x[test])[:, 1]
        return held_out

    def _pipeline(self, c: float) -> Pipeline:
        return make_pipeline(*_clean(), LogisticRegression(C=c, max_iter=2000))


@dataclass
class PenalisedCox:
    """Ridge Cox regression (lifelines); penalty by cross-validated partial likelihood (doi:10.1002/sim.4780122407).

    Features are rotated to their principal components before the fit: the same model as on the features, in at most as
    many dimensions as there are units.
    """

    penalizer_grid: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)
    penalizer: float = field(default=np.nan, init=False, repr=False)
    model: _RotatedCox | None = field(default=None, init=False, repr=False)
    train_risk: np.ndarray = field(default=None, init=False, repr=False)

    def fit(self, x: pd.DataFrame, targets: Targets, seed: int) -> PenalisedCox:
        time, event = (targets.table[c].to_numpy(float) for c in ("time", "event"))
        values, folds = x.to_numpy(float), _inner_rows(targets, seed)
        scored = {p: self._cross_validated(p, values, time, event, folds) for p in self.penalizer_grid}
        # The strongest of equals: without folds, or without an event in them, nothing speaks for a weaker one.
        self.penalizer = max(sorted(scored, reverse=True), key=lambda p: scored[p][0])
        self.model = _RotatedCox(self.penalizer).fit(values, time, event)
        self.train_risk = scored[self.penalizer][1] if folds else self.risk(x)
        return self

    def risk(self, x: pd.DataFrame) -> np.ndarray:
        return self.model.log_risk(x.to_numpy(float))

    def survival(self, x: pd.DataFrame) -> pd.DataFrame:
        return cox_survival(self.risk(x), *self.model.baseline, x.index)

    @staticmethod
    def _cross_validated(
        penalizer: float, x: np.ndarray, time: np.ndarray, event: np.ndarray, folds: list
    ) -> tuple[float, np.ndarray]:
        total, held_out = 0.0, np.zeros(time.size)
        for train, test in folds:
            log_risk = _RotatedCox(penalizer).fit(x[train], time[train], event[train]).log_risk(x)
            total += partial_log_likelihood(time, event, log_risk)
            total -= partial_log_likelihood(time[train], event[train], log_risk[train])
            held_out[test] = log_risk[test]
        return total, held_out


class _RotatedCox:
    """One ridge Cox fit at a given penalty; without events, or where Newton's method fails, all have log-risk 0."""

    def __init__(self, penalizer: float) -> None:
        self.penalizer = penalizer

    def fit(self, x: np.ndarray, time: np.ndarray, event: np.ndarray) -> _RotatedCox:
        from lifelines import CoxPHFitter
        from lifelines.exceptions import ConvergenceError

        self.rotate = make_pipeline(*_clean(), PCA()).fit(x)
        scores = self.rotate.transform(x)
        spread = scores.std(0, ddof=1)
        self.used = np.flatnonzero(spread > FLAT)
        self.beta = np.zeros(self.used.size)
        if event.any() and self.used.size:
            table = pd.DataFrame(scores[:, self.used]).assign(time=time, event=event).rename(columns=str)
            # lifelines penalises coefficients of columns scaled to unit spread; dividing by it undoes the scaling
            fitter = CoxPHFitter(penalizer=self.penalizer / spread[self.used] ** 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    self.beta = fitter.fit(table, "time", "event").params_.to_numpy()
                except ConvergenceError:
                    self.beta = np.zeros(self.used.size)
        self.baseline = breslow(self.log_risk(x), time, event)
        return self

    def log_risk(self, x: np.ndarray) -> np.ndarray:
        return self.rotate.transform(x)[:, self.used] @ self.beta


@dataclass
class ForestClassifier:
    """Random forest; risks are vote shares pulled off 0 and 1 by one vote each, training risks are out of bag."""

    n_trees: int = N_TREES
    model: Pipeline | None = field(default=None, init=False, repr=False)
    prior: float = field(default=np.nan, init=False, repr=False)
    train_risk: np.ndarray = field(default=None, init=False, repr=False)

    def fit(self, x: pd.DataFrame, targets: Targets, seed: int) -> ForestClassifier:
        y = targets.table["y"].to_numpy()
        self.prior, self.model = float(y.mean()), None
        if y.min() == y.max():
            self.train_risk = self.risk(x)
            return self
        forest = RandomForestClassifier(self.n_trees, oob_score=True, random_state=_state(seed))
        self.model = make_pipeline(*_clean(), forest).fit(x.to_numpy(float), y)
        self.train_risk = self._smoothed(forest.oob_decision_function_[:, 1])
        return self

    def risk(self, x: pd.DataFrame) -> np.ndarray:
        if self.model is None:
            return np.full(len(x), self.prior)
        return self._smoothed(self.model.predict_proba(x.to_numpy(float))[:, 1])

    def survival(self, x: pd.DataFrame) -> None:
        return None

    def _smoothed(self, share: np.ndarray) -> np.ndarray:
        return (share * self.n_trees + 1.0) / (self.n_trees + 2.0)


@dataclass
class ForestHazard:
    """Random forest on the martingale residuals of the null Cox model (Therneau 1990, doi:10.1093/biomet/77.1.147).

    The risk is the predicted residual (observed minus expected events); survival is Breslow's on out-of-bag risks.
    """

    n_trees: int = N_TREES
    model: Pipeline | None = field(default=None, init=False, repr=False)
    baseline: tuple[list[float], list[float]] = field(default=((), ()), init=False, repr=False)
    train_risk: np.ndarray = field(default=None, init=False, repr=False)

    def fit(self, x: pd.DataFrame, targets: Targets, seed: int) -> ForestHazard:
        time, event = (targets.table[c].to_numpy(float) for c in ("time", "event"))
        forest = RandomForestRegressor(self.n_trees, oob_score=True, max_features="sqrt", random_state=_state(seed))
        self.model = make_pipeline(*_clean(), forest).fit(x.to_numpy(float), null_martingale(time, event))
        self.train_risk = forest.oob_prediction_
        self.baseline = breslow(self.train_risk, time, event)
        return self

    def risk(self, x: pd.DataFrame) -> np.ndarray:
        return self.model.predict(x.to_numpy(float))

    def survival(self, x: pd.DataFrame) -> pd.DataFrame:
        return cox_survival(self.risk(x), *self.baseline, x.index)


def null_martingale(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """(n,) event minus Nelson-Aalen cumulative hazard at each unit's time; sums to 0."""
    times, hazard = breslow(np.zeros(time.size), time, event)
    accumulated = np.append(0.0, hazard)
    return event - accumulated[np.searchsorted(times, time, side="right")]


def _clean() -> tuple[Any, Any]:
    """Median imputation and standardisation, to be fitted where they stand in a pipeline."""
    return SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()


def _inner_rows(targets: Targets, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Row numbers of the training table on both sides of each inner, patient-grouped fold."""
    patient = targets.table["patient_id"].astype(str)
    return [
        (np.flatnonzero(patient.isin(f.train)), np.flatnonzero(patient.isin(f.test)))
        for f in inner_folds(targets, INNER_FOLDS, seed)
    ]


def _state(seed: int) -> int:
    return int(seed) % (2**32)
