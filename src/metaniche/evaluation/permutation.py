"""Label-permutation control: what the whole procedure reports when there is nothing to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from metaniche.data.splits import Fold
from metaniche.data.task import Targets, Task
from metaniche.data.units import target_columns
from metaniche.errors import ConfigError
from metaniche.evaluation.crossval import Cohort, cross_validate
from metaniche.evaluation.estimator import Estimator
from metaniche.evaluation.scores import metric_names, score_model
from metaniche.io.progress import Tell
from metaniche.metrics.bootstrap import interval, resample_weights

TRIED = 20  # permutations, to see how many labels change
MOVED = 0.25  # of what would change, were labels shuffled over all units


@dataclass(frozen=True)
class PermutationControl:
    """The primary metric under permuted labels: mean, 95 % interval, and the value of each permutation.

    The interval is that of all permutations' patient-bootstrap replicates together; a sound procedure's holds 0.5.
    """

    model: str
    metric: str
    estimate: float
    low: float
    high: float
    values: tuple[float, ...]

    @property
    def holds_chance(self) -> bool:
        return self.low <= 0.5 <= self.high


def permutation_control(
    estimator: Estimator,
    cohort: Cohort,
    task: Task,
    folds: Callable[[Targets], Sequence[Fold]],
    n_permutations: int = 5,
    seed: int = 0,
    n_boot: int = 1000,
    progress: Tell | None = None,
    run_dir: Path | str | None = None,
    targets: Targets | None = None,
) -> PermutationControl:
    """Permute labels before anything else happens, then split, fit, predict and score as ever.

    Parameters
    ----------
    folds
        Makes the folds of the permuted targets, as the run does: `lambda t: patient_folds(t, n_folds=5, n_repeats=1)`.
    run_dir
        Keeps the folds of every permutation there, as those of the run itself: a control goes on where it stopped.
    targets
        The labels to permute, in place of those that the cohort gives; what binds patients together stays.

    Raises ConfigError where permuting leaves most labels in place, see `why_no_control`.
    """
    targets = cohort.targets(task) if targets is None else targets
    if why := why_no_control(targets, seed):
        raise ConfigError(f"{why} Set permutation_control=false.")
    metric = metric_names(task)[0]
    values, replicates = [], []
    for index in range(n_permutations):
        permuted = permute_labels(targets, seed + index)
        report = _shifted(progress, index, n_permutations)
        cv = cross_validate(
            [estimator], cohort, task, folds(permuted), seed + index, report, targets=permuted, run_dir=run_dir
        )
        patients = np.unique(cv.predictions["patient_id"].to_numpy(str))
        scores = score_model(cv, estimator.name, patients, resample_weights(patients, n_boot, seed + index))
        values.append(scores.estimate[metric])
        replicates.append(scores.replicates[metric])
    low, high, _ = interval(np.concatenate(replicates))
    return PermutationControl(estimator.name, metric, float(np.nanmean(values)), low, high, tuple(values))


def permute_labels(targets: Targets, seed: int) -> Targets:
    """Whole patients exchange their labels; those of cells are shuffled within their patient.

    Where units of one patient differ, patients with as many units exchange all of theirs, and each one's are shuffled: how
    many units of each label a patient has stays together, which of them they are does not.
    """
    table, task = targets.table.copy(), targets.task
    columns = target_columns(task)
    patient = table["patient_id"].astype(str)
    rng = np.random.default_rng(seed)
    known = table[columns].fillna(-1.0)
    constant = (known.groupby(patient).transform("first") == known).all(axis=None)
    if constant or not patient.duplicated().any():
        of_patient = table[columns].groupby(patient).nth(0).set_axis(patient.drop_duplicates())
        shuffled = of_patient.set_axis(rng.permutation(of_patient.index))
        table[columns] = shuffled.loc[patient].to_numpy()
        return replace(targets, table=table)
    rows = patient.groupby(patient).indices
    source = rows if task.level == "cell" else _exchanged(rows, rng)
    values = table[columns].to_numpy()
    for name, own in rows.items():
        table.iloc[own, table.columns.get_indexer(columns)] = rng.permutation(values[source[name]])
    return replace(targets, table=table)


def _exchanged(rows: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Patient -> rows of a patient drawn among those with as many."""
    alike: dict[int, list[str]] = {}
    for name, own in rows.items():
        alike.setdefault(len(own), []).append(name)
    return {name: rows[other] for names in alike.values() for name, other in zip(names, rng.permutation(names))}


def why_no_control(targets: Targets, seed: int = 0) -> str | None:
    """Why permutations of these labels say nothing, where they leave most in place; None where they do not.

    How many labels change is held against how many would, were they shuffled over all units.
    """
    columns = target_columns(targets.task)
    before = targets.table[columns].fillna(-1.0)
    rng = np.random.default_rng(seed)
    drawn = range(TRIED)
    moved = np.mean([_changed(before, permute_labels(targets, seed + i).table[columns].fillna(-1.0)) for i in drawn])
    free = np.mean([_changed(before, before.iloc[rng.permutation(len(before))]) for _ in drawn])
    if free and moved >= MOVED * free:
        return None
    how = (
        "Labels of cells are exchanged within patients, most of whom have one class."
        if targets.task.level == "cell"
        else "Patients exchange labels with those who have as many units."
    )
    return (
        f"Labels cannot be permuted enough for a control: {100 * moved:.0f} % of {len(before)} units change theirs, where "
        f"{100 * free:.0f} % would, were all alike. {how}"
    )


def _changed(before: pd.DataFrame, after: pd.DataFrame) -> float:
    return float((before.to_numpy() != after.to_numpy()).any(axis=1).mean())


def _shifted(progress: Tell | None, index: int, n_permutations: int) -> Tell | None:
    if progress is None:
        return None
    return lambda done, total, text: progress(
        index * total + done, n_permutations * total, f"permutation {index + 1}: {text}"
    )
