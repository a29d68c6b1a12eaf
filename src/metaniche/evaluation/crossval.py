"""Cross-validation of every model on the same folds: nothing but the training patients is ever shown to a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from metaniche.data.sample import PreparedSample
from metaniche.data.splits import Fold, check_split
from metaniche.data.task import Targets, Task
from metaniche.errors import ConfigError, MetanicheError
from metaniche.evaluation.estimator import ROLES, Estimator, Prediction
from metaniche.evaluation.fold_store import FoldResult, fold_key, fold_path, load_fold, save_fold
from metaniche.evaluation.fusion import Fused, fuse, with_scale
from metaniche.evaluation.predictions import CrossValidation, evaluation_grid, fold_rows
from metaniche.io.digest import table_digest
from metaniche.io.progress import Tell


class Cohort(Protocol):
    """The part of `metaniche.data.prepare.PreparedCohort` that the harness uses."""

    name: str
    folder: Path
    samples: pd.DataFrame
    patients: pd.DataFrame

    def of(self, patients: Sequence[str]) -> list[PreparedSample]: ...

    def targets(self, task: Task) -> Targets: ...


def cross_validate(
    estimators: Sequence[Estimator],
    cohort: Cohort,
    task: Task,
    folds: Sequence[Fold],
    seed: int = 0,
    progress: Tell | None = None,
    *,
    run_dir: Path | None = None,
    targets: Targets | None = None,
) -> CrossValidation:
    """Fit every estimator on every fold's training patients and predict its test patients.

    Parameters
    ----------
    progress
        Called as `progress(done, total, text)` before each model of each fold.
    run_dir
        Where given, each model and fold is written to `run_dir/folds/` when it is done, and skipped when it is there
        already under the same configuration, labels, folds and seed.
    targets
        Labels in place of those that the cohort gives: permuted ones, or with what binds patients together, which inner folds
        keep whole too.

    Raises
    ------
    SplitError for a fold with a patient on both sides; ConfigError for two models of one name, or for `A + B` without
    its parts; whatever a model raises, with the model's and the fold's name in front.
    """
    targets = cohort.targets(task) if targets is None else targets
    _check_models(estimators)
    clinical = cohort.patients[list(task.clinical)] if task.clinical else None
    grid = evaluation_grid(targets)
    fitted = [e for e in estimators if not isinstance(e, Fused)]
    store = None if run_dir is None else Path(run_dir) / "folds"
    parts, total = [], len(fitted) * len(folds)
    for index, fold in enumerate(folds):
        check_split(fold.train, fold.test)
        run = _FoldRun(cohort, targets, clinical, fold, seed, store)
        results: dict[str, FoldResult] = {}
        for position, estimator in enumerate(fitted):
            if progress is not None:
                progress(index * len(fitted) + position, total, run.describe(estimator))
            results[estimator.name] = run.result(estimator)
        for estimator in estimators:
            if isinstance(estimator, Fused):
                results[estimator.name] = _fused(task, estimator, results)
            rows = fold_rows(results[estimator.name].prediction, run.train, run.test, grid)
            parts.append(run.signed(rows, estimator, results[estimator.name]))
    if progress is not None:
        progress(total, total, "done")
    order = {e.name: i for i, e in enumerate(estimators)}
    table = pd.concat(parts, ignore_index=True)
    table = table.sort_values("model", key=lambda c: c.map(order), kind="stable", ignore_index=True)
    return CrossValidation(table, tuple(folds), targets, grid)


class _FoldRun:
    """One fold: what each estimator may see of it, and its result, from disk where it is there."""

    def __init__(
        self,
        cohort: Cohort,
        targets: Targets,
        clinical: pd.DataFrame | None,
        fold: Fold,
        seed: int,
        store: Path | None,
    ) -> None:
        self.cohort, self.fold, self.store = cohort, fold, store
        self.all_targets, self.all_clinical = targets, clinical
        self.train, self.test = targets.of(fold.train), targets.of(fold.test)
        self.seed = int(np.random.SeedSequence((seed, fold.repeat, fold.fold)).generate_state(1)[0])
        self._samples: tuple[list[PreparedSample], list[PreparedSample]] | None = None

    def describe(self, estimator: Estimator) -> str:
        return f"{estimator.name}, repeat {self.fold.repeat + 1}, fold {self.fold.fold + 1}"

    def signed(self, rows: pd.DataFrame, estimator: Estimator, result: FoldResult) -> pd.DataFrame:
        """Rows of the fold with the model's name in front."""
        where = {"model": estimator.name, "role": estimator.role, "repeat": self.fold.repeat, "fold": self.fold.fold}
        for position, (column, value) in enumerate(where.items()):
            rows.insert(position, column, value)
        return rows.assign(n_variables=result.n_variables)

    def result(self, estimator: Estimator) -> FoldResult:
        path = self._path(estimator)
        saved = load_fold(path) if path else None
        if saved is not None:
            return saved
        try:
            result = self._fit_and_predict(estimator)
        except MetanicheError as error:
            raise type(error)(f"{self.describe(estimator)}: {error}") from error
        except Exception as error:
            raise MetanicheError(f"{self.describe(estimator)}: {type(error).__name__}: {error}") from error
        if path:
            save_fold(path, result)
        return result

    def _fit_and_predict(self, estimator: Estimator) -> FoldResult:
        train, test = self._load()
        seen, unseen = (self._clinical_of(side) for side in (self.fold.train, self.fold.test))
        estimator.fit(train, self.train, seen, self.seed)
        units = list(self.test.table.index)
        prediction = estimator.predict(test, unseen, units).check(units, where=self.describe(estimator))
        if self.test.task.is_survival:
            prediction = with_scale(estimator, prediction, train, seen, list(self.train.table.index))
        return FoldResult(prediction, float(getattr(estimator, "n_variables", np.nan)))

    def _load(self) -> tuple[list[PreparedSample], list[PreparedSample]]:
        if self._samples is None:
            self._samples = (
                self.cohort.of(self.fold.train),
                [_without_label(s, self.test.task) for s in self.cohort.of(self.fold.test)],
            )
        return self._samples

    def _clinical_of(self, patients: Sequence[str]) -> pd.DataFrame | None:
        return None if self.all_clinical is None else self.all_clinical.loc[list(patients)]

    def _path(self, estimator: Estimator) -> Path | None:
        if self.store is None:
            return None
        data = [self.cohort.name, self.cohort.folder.name, table_digest(self.cohort.samples)]
        key = fold_key(estimator, self.all_targets, self.all_clinical, self.fold, self.seed, data)
        return fold_path(self.store, estimator.name, self.fold, key)


def _without_label(sample: PreparedSample, task: Task) -> PreparedSample:
    """A test sample as it would come from outside: the annotation that is to be predicted is not in its cell table."""
    if task.level != "cell" or task.label not in sample.cells:
        return sample
    return replace(sample, cells=sample.cells.drop(columns=task.label))


def _check_models(estimators: Sequence[Estimator]) -> None:
    names = [e.name for e in estimators]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"Expected models of different names, found {sorted(names)}.")
    for estimator in estimators:
        if estimator.role not in ROLES:
            raise ConfigError(
                f"Model {estimator.name!r}: expected a role among {list(ROLES)}, found {estimator.role!r}. It decides what "
                "the model is compared with; set `role` of the estimator."
            )
        if isinstance(estimator, Fused):
            absent = [m.name for m in (estimator.base, estimator.other) if m.name not in names]
            if absent:
                raise ConfigError(
                    f"Model {estimator.name!r} is made of {absent}, not among the models. Add them to the run."
                )


def _fused(task: Task, estimator: Fused, results: dict[str, FoldResult]) -> FoldResult:
    other, base = results[estimator.other.name], results[estimator.base.name]
    prediction: Prediction = fuse(task, other.prediction, base.prediction)
    return FoldResult(prediction, other.n_variables + base.n_variables)
