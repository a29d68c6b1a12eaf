"""Hyperparameter search by nested cross-validation: inner folds choose, outer folds judge.

Every outer fold has a study of its own, whose trials see nothing but the fold's training patients. Studies live in one
journal file, so that many processes or cluster jobs may work on them at the same time, and a killed one is gone on with.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import Trial, TrialState

from metaniche.data.sample import PreparedSample
from metaniche.data.splits import Fold, inner_folds
from metaniche.data.task import Targets
from metaniche.errors import ConfigError, MetanicheError
from metaniche.evaluation.crossval import Cohort, cross_validate
from metaniche.evaluation.estimator import Estimator, Prediction
from metaniche.evaluation.fold_store import code_digest, data_digests
from metaniche.evaluation.heartbeat import BEAT_S, beating, counts, retry_killed
from metaniche.evaluation.network import NetworkEstimator
from metaniche.evaluation.scores import metric_names, score_model
from metaniche.io.progress import Tell
from metaniche.io.wording import listed, nearest

log = logging.getLogger(__name__)

Values = Mapping[str, Any]  # key of the config -> value
Make = Callable[[Values], NetworkEstimator]
KEYS = ("choices", "low", "high", "log", "step")


@dataclass(frozen=True)
class SearchConfig:
    """What is searched, and for how long.

    Parameters
    ----------
    space
        Shaped as the config; at a key that is searched `{choices: [...]}`, or `{low, high}` with `log: true` or `step`
        where wanted; whole numbers where both bounds are whole.
    n_trials
        Of each outer fold; the first takes the config as it is. `changes` asked for after these come on top.
    changes
        Tried next, one trial each: values at dotted keys of `space` (`{pretrain.epochs: 15}`), in place of the config's. With
        `n_trials` one more than there are changes, each is tried by itself and nothing else is.
    n_inner_folds
        Folds within the training patients, fewer where a class is small.
    startup
        Trials drawn at random before the sampler (TPE) learns from them.
    retries
        How often a trial that was killed is tried again.
    stale_minutes
        A trial on another machine (on Windows on this one, too) that has said nothing for so long is taken for killed.
    """

    space: Mapping[str, Any]
    n_trials: int = 20
    changes: Sequence[Mapping[str, Any]] = ()
    n_inner_folds: int = 4
    startup: int = 8
    retries: int = 2
    stale_minutes: float = 60.0

    def __post_init__(self) -> None:
        if not self.space:
            raise ConfigError("Expected at least one key in hparams_search.space, found none.")
        least = {"n_trials": 1, "n_inner_folds": 2, "startup": 1, "retries": 0, "stale_minutes": 0}
        for name, low in least.items():
            if not isinstance(getattr(self, name), (int, float)) or getattr(self, name) < low:
                raise ConfigError(f"Expected hparams_search.{name} >= {low}, found {getattr(self, name)!r}.")
        self._check_changes()

    def _check_changes(self) -> None:
        if not isinstance(self.changes, Sequence) or not all(isinstance(c, Mapping) for c in self.changes):
            raise ConfigError(
                f"Expected hparams_search.changes to be a list of changes like {{pretrain.epochs: 15}}, found {self.changes!r}."
            )
        if self.changes and self.n_trials <= len(self.changes):
            raise ConfigError(
                f"Expected hparams_search.n_trials >= {1 + len(self.changes)}, one for the config as it is and one for each "
                f"of hparams_search.changes, found {self.n_trials}."
            )
        space = self.distributions()
        for key, value in ((k, v) for change in self.changes for k, v in change.items()):
            if key not in space:
                raise ConfigError(
                    f"Expected hparams_search.changes to hold keys of hparams_search.space, found {key!r}. "
                    f"{nearest(key, space)}The space has {listed(space, 20)}."
                )
            if not _holds(space[key], value):
                raise ConfigError(
                    f"Expected hparams_search.changes to hold values of hparams_search.space, found {key}: {value!r}. "
                    f"It is searched in {space[key]}."
                )

    def distributions(self) -> dict[str, BaseDistribution]:
        """Of every key, dotted, as Optuna takes them. Raises ConfigError for what is none."""
        return {key: _distribution(key, values) for key, values in _leaves(self.space)}


def _leaves(space: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, values in space.items():
        key = f"{path}{name}"
        if not isinstance(values, Mapping) or not values:
            raise ConfigError(
                f"Expected hparams_search.space.{key} to hold choices, or low and high, found {values!r}."
            )
        if set(values) & set(KEYS):
            yield key, dict(values)
        else:
            yield from _leaves(values, f"{key}.")


def _distribution(key: str, values: dict[str, Any]) -> BaseDistribution:
    unknown = sorted(set(values) - set(KEYS))
    if unknown or ("choices" in values) == ("low" in values):
        raise ConfigError(f"Expected hparams_search.space.{key} to hold choices, or low and high, found {values}.")
    try:
        if "choices" in values:
            return CategoricalDistribution(tuple(values["choices"]))
        whole = isinstance(values["low"], int) and isinstance(values["high"], int)
        return (IntDistribution if whole else FloatDistribution)(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"hparams_search.space.{key} cannot be searched: {error}") from error


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in distribution.choices)
    if isinstance(value, bool) or not isinstance(
        value, int if isinstance(distribution, IntDistribution) else (int, float)
    ):
        return False
    steps = (value - distribution.low) / distribution.step if distribution.step else 0
    return distribution.low <= value <= distribution.high and np.isclose(steps, round(steps))


def _with_default(key: str, distribution: BaseDistribution, default: Any) -> BaseDistribution:
    if _holds(distribution, default):
        return distribution
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution((default, *distribution.choices))
    raise ConfigError(
        f"Expected the config's own {key}, which is tried first, within hparams_search.space, found {default!r} outside of "
        f"{distribution}. Widen the bounds, or set {key} within them."
    )


@dataclass
class Search:
    """The studies of a run.

    Parameters
    ----------
    config
        What is searched.
    make
        Values of the searched keys -> the network they configure.
    default
        The values of the config itself: one more choice where they are not among the choices.
    made_with
        All else of the configuration that decides a trial, as text: another text is another study, and so are other samples,
        other clinical variables, and other code.
    """

    config: SearchConfig
    make: Make
    default: Values
    made_with: str
    cohort: Cohort
    targets: Targets
    run_dir: Path
    seed: int = 0

    def __post_init__(self) -> None:
        space = self.config.distributions()
        self._space = {key: _with_default(key, each, self.default[key]) for key, each in space.items()}

    def run(self, fold: Fold, progress: Tell | None = None) -> bool:
        """Make trials until the fold's study has enough of them, or others are at the last. True: all are done."""
        study, train = self.study(fold), self.targets.of(fold.train)
        while True:
            retry_killed(study, self.config.retries, self.config.stale_minutes)
            every = study.get_trials(deepcopy=False)
            in_line = any(t.state == TrialState.WAITING for t in every)  # changes asked for later, and killed ones
            trials = [t for t in every if counts(t)]
            done = sum(t.state.is_finished() for t in trials)
            running = sum(t.state == TrialState.RUNNING for t in trials)
            if done + running >= self.config.n_trials and not in_line:
                return done >= self.config.n_trials and not running
            if progress is not None:
                progress(done, self.config.n_trials, f"trials of repeat {fold.repeat + 1}, fold {fold.fold + 1}")
            self._trial(study, train)

    def run_all(self, folds: Sequence[Fold], progress: Tell | None = None) -> int:
        """Make the trials of these folds; of how many others are still at the last. Such folds are looked at once more at the
        end, so that of several processes the one that ends last finds all done."""
        waiting = [fold for fold in folds if not self.run(fold, progress)]
        return sum(not self.run(fold, progress) for fold in waiting)

    def best(self, fold: Fold) -> Values:
        """The values with the best inner score. Raises ConfigError where no trial has one."""
        study = self.study(fold)
        if not any(t.state == TrialState.COMPLETE for t in study.get_trials(deepcopy=False)):
            reasons = {t.user_attrs.get("why", "unknown") for t in study.get_trials(deepcopy=False)}
            raise ConfigError(f"No trial of fold {fold.fold + 1} could be scored: {'; '.join(sorted(reasons))}")
        return dict(study.best_trial.params)

    def trials(self, folds: Sequence[Fold]) -> pd.DataFrame:
        """A row per trial: repeat, fold, number, state, value, seconds, why it failed, and a column per searched key."""
        rows = [
            {"repeat": fold.repeat, "fold": fold.fold, "number": t.number, "state": t.state.name.lower()}
            | {"value": t.value, "seconds": t.duration.total_seconds() if t.duration else np.nan}
            | {"why": t.user_attrs.get("why")}
            | dict(t.params)
            for fold in folds
            for t in self.study(fold).get_trials(deepcopy=False)
        ]
        return pd.DataFrame(rows)

    def study(self, fold: Fold) -> optuna.Study:
        """The fold's study, made with the config's own values, and then each change to them, as its first trials."""
        space = json.dumps(self.config.space, sort_keys=True, default=str)
        train = self.targets.of(fold.train)
        about = [
            space,
            self.made_with,
            str(self.config.n_inner_folds),
            str(self.seed),
            train.digest,
            code_digest(Path(__file__).parents[1]),
            *data_digests(self.cohort, self.targets.task),
        ]
        digest = hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
        self.run_dir.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = str(self.run_dir / "trials.journal")
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(journal)),
            study_name=f"repeat{fold.repeat}-fold{fold.fold}-{digest}",
            direction="maximize",  # primary metrics are better when higher
            load_if_exists=True,
        )
        n_known = len(study.get_trials(deepcopy=False))
        state = np.random.SeedSequence((self.seed, fold.repeat, fold.fold, n_known)).generate_state(1)
        # Goes on where it stopped, and does not propose what others are at.
        study.sampler = optuna.samplers.TPESampler(
            seed=int(state[0]), n_startup_trials=self.config.startup, constant_liar=True
        )
        lock = JournalFileSymlinkLock(f"{journal}.first")
        lock.acquire()  # else processes that start together each put them in line
        try:
            for change in ({}, *self.config.changes):
                study.enqueue_trial({**self.default, **change}, skip_if_exists=True)
        finally:
            lock.release()
        return study

    def _trial(self, study: optuna.Study, train: Targets) -> None:
        trial = study.ask(self._space)
        with beating(trial, max(1.0, min(BEAT_S, 15 * self.config.stale_minutes))):
            try:
                value, why = self._inner_score(trial, train), None
            except MetanicheError as error:
                value, why = None, str(error)
        try:
            if why is not None:
                trial.set_user_attr("why", why)
            study.tell(trial, value, TrialState.FAIL if why is not None else None)
        except (UpdateFinishedTrialError, ValueError):
            log.warning(
                "Trial %d was silent for more than stale_minutes and another process took it for killed: what it found here is "
                "dropped.",
                trial.number,
            )

    def _inner_score(self, trial: Trial, train: Targets) -> float:
        folds = inner_folds(train, self.config.n_inner_folds, self.seed)
        if not folds:
            raise ConfigError("too few training patients of a class to split them once more")
        network = self.make(trial.params)
        cv = cross_validate(
            [network], self.cohort, train.task, folds, self.seed, targets=train, run_dir=self.run_dir / "inner"
        )
        patients = np.unique(cv.predictions["patient_id"].to_numpy(str))
        found = score_model(cv, network.name, patients, np.ones((1, len(patients))))
        value = found.estimate[metric_names(train.task)[0]]
        if not np.isfinite(value):
            raise ConfigError("the metric is not defined on the inner folds")
        return value


def compared(trials: pd.DataFrame, default: Values) -> pd.DataFrame:
    """What could be scored in every fold, of `Search.trials`, best first: `change` (the values that differ from the config's),
    `inner` (inner score, mean over the folds) and `chosen` (folds in which it is the best).

    Inner scores are of training patients, whom the folds share: they say what was tried and chosen, not how good it is.
    """
    done = trials[trials["value"].notna()].copy()
    done["change"] = [
        ", ".join(f"{key}={_number(row[key])}" for key in default if row[key] != default[key]) or "the config itself"
        for row in done.to_dict("records")
    ]
    by = ["repeat", "fold"]
    done["chosen"] = done.index.isin(done.groupby(by)["value"].idxmax())
    # The sampler may come back to the same values within a fold.
    each = done.groupby(["change", *by], sort=False).agg(inner=("value", "mean"), chosen=("chosen", "sum"))
    found = each.groupby("change", sort=False).agg(
        inner=("inner", "mean"), folds=("inner", "size"), chosen=("chosen", "sum")
    )
    everywhere = found["folds"] == trials.groupby(by).ngroups
    return found[everywhere].drop(columns="folds").sort_values("inner", ascending=False, kind="stable").reset_index()


def _number(value: Any) -> str:
    """Without the point of whole numbers, which a table with gaps holds as floats."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass
class Tuned:
    """An estimator that trains, on every outer fold, the network that the fold's inner folds chose.

    `chosen` holds the values by the training patients; a fold that was not searched is an error.
    """

    name: str
    chosen: Mapping[tuple[str, ...], Values]
    made_with: str
    make: Make = field(repr=False)
    role: str = "model"
    _network: Estimator | None = field(default=None, init=False, repr=False)

    def fit(
        self, samples: Sequence[PreparedSample], targets: Targets, clinical: pd.DataFrame | None, seed: int
    ) -> Self:
        patients = tuple(sorted(map(str, targets.patients)))
        if patients not in self.chosen:
            raise ConfigError(f"Expected a search on these {len(patients)} training patients, found none.")
        self._network = self.make(self.chosen[patients]).fit(samples, targets, clinical, seed)
        return self

    def predict(
        self, samples: Sequence[PreparedSample], clinical: pd.DataFrame | None, unit_ids: Sequence[str]
    ) -> Prediction:
        return self._network.predict(samples, clinical, unit_ids)
