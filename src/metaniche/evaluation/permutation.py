"""Label-permutation control: what the whole procedure reports when there is nothing to find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from metaniche.data.splits import Fold
from metaniche.data.task import Targets, Task
from metaniche.data.units import target_columns
from metaniche.evaluation.crossval import Cohort, cross_validate
from metaniche.evaluation.estimator import Estimator
from metaniche.evaluation.scores import metric_names, score_model
from metaniche.io.progress import Tell
from metaniche.metrics.bootstrap import interval, resample_weights


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
    """
    targets = cohort.targets(task) if targets is None else targets
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
    """Whole patients exchange their labels; where units of one patient differ, labels are shuffled within the patient.

    The second keeps how many units of each label a patient has, and breaks which of them they are.
    """
    table, task = targets.table.copy(), targets.task
    columns = target_columns(task)
    patient = table["patient_id"].astype(str)
    rng = np.random.default_rng(seed)
    first = table.groupby(patient)[columns].transform("first") if task.kind != "sites" else None
    constant = first is not None and (first == table[columns]).all(axis=None)
    if constant or not patient.duplicated().any():
        of_patient = table[columns].groupby(patient).nth(0).set_axis(patient.drop_duplicates())
        shuffled = of_patient.set_axis(rng.permutation(of_patient.index))
        table[columns] = shuffled.loc[patient].to_numpy()
    else:
        for rows in patient.groupby(patient).indices.values():
            values = table[columns].to_numpy()[rows]
            table.iloc[rows, table.columns.get_indexer(columns)] = rng.permutation(values)
    return replace(targets, table=table)


def _shifted(progress: Tell | None, index: int, n_permutations: int) -> Tell | None:
    if progress is None:
        return None
    return lambda done, total, text: progress(
        index * total + done, n_permutations * total, f"permutation {index + 1}: {text}"
    )
