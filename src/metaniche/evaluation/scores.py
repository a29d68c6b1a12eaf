"""All metrics of one model, as functions of the patients' weights: the bootstrap calls each of them once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from metaniche.data.task import Task, event_kind
from metaniche.evaluation.landmark import censoring, landmark
from metaniche.evaluation.predictions import CrossValidation
from metaniche.metrics import (
    auprc,
    auroc,
    calibration_slope,
    concordance,
    cox_calibration_slope,
    ece,
    harrell_c,
    sensitivity_at_specificity,
)
from metaniche.metrics.discrimination import within_group_auroc
from metaniche.metrics.survival import brier_contributions
from metaniche.metrics.weighting import as_rows, ratio, unwrap

Score = Callable[[np.ndarray | None], "float | np.ndarray"]

CELLS_PER_BLOCK = 4_000_000
CLIP = 1e-6


def metric_names(task: Task) -> list[str]:
    """Metrics of a task, the primary one first; keys of METRICS."""
    if task.is_survival:
        return ["harrell_c", "uno_c", "ibs", "calibration_slope", "ece"]
    within = ["auroc_within"] if task.level == "cell" else []
    return [*within, "auroc", "auprc", "sens_at_90_spec", "sens_at_95_spec", "calibration_slope", "ece"]


@dataclass(frozen=True)
class ModelScores:
    """Point estimate and bootstrap replicates of each metric of one model, over repeats (and sites)."""

    estimate: dict[str, float]
    replicates: dict[str, np.ndarray]


def score_model(cv: CrossValidation, model: str, patients: np.ndarray, weight: np.ndarray) -> ModelScores:
    """Score one model on weightings of the patients.

    Parameters
    ----------
    patients
        (P,) sorted patient ids.
    weight
        (B, P) how often each patient was drawn in each resample.

    Returns
    -------
    Every metric is computed per repeat (and site) on all folds' units together, then averaged over the repeats and
    sites in which it is defined, inside each resample.
    """
    rows = cv.predictions[cv.predictions["model"] == model]
    parts = [
        _evaluate(score_functions(cv, part), np.searchsorted(patients, part["patient_id"].to_numpy(str)), weight)
        for _, part in rows.groupby(["repeat", "site"] if "site" in rows else ["repeat"], sort=True)
    ]
    estimate, replicates = {}, {}
    for name in metric_names(cv.targets.task):
        estimate[name] = float(_mean_of_defined(np.array([[p[name][0]] for p in parts]))[0])
        replicates[name] = _mean_of_defined(np.stack([p[name][1] for p in parts]))
    return ModelScores(estimate, replicates)


def score_functions(cv: CrossValidation, rows: pd.DataFrame) -> dict[str, Score]:
    """Metrics of one repeat's rows (one site's), each a function of None or a (B, n) weight."""
    if cv.targets.task.is_survival:
        return _survival_functions(cv, rows)
    y, score, risk = (rows[c].to_numpy(float) for c in ("y", "score", "risk"))
    functions: dict[str, Score] = {
        "auroc": lambda w: auroc(y, score, w),
        "auprc": lambda w: auprc(y, score, w),
        "sens_at_90_spec": lambda w: sensitivity_at_specificity(y, score, 0.90, w),
        "sens_at_95_spec": lambda w: sensitivity_at_specificity(y, score, 0.95, w),
        "calibration_slope": lambda w: calibration_slope(y, risk, w)[0],
        "ece": lambda w: ece(y, risk, weight=w),
    }
    if cv.targets.task.level == "cell":
        patient = rows["patient_id"].to_numpy(str)
        functions["auroc_within"] = lambda w: within_group_auroc(y, score, patient, w)
    return functions


def _survival_functions(cv: CrossValidation, rows: pd.DataFrame) -> dict[str, Score]:
    """Censoring is estimated on the training side of each row's fold; calibration is read at the middle of the grid."""
    time, score, event = rows["time"].to_numpy(float), rows["score"].to_numpy(float), event_kind(rows)
    own, on_grid = censoring(cv, rows)
    tau = float(cv.grid[-1])
    functions: dict[str, Score] = {
        "harrell_c": lambda w: harrell_c(time, event, score, w),
        "uno_c": lambda w: concordance(time, event, score, own, tau, w),
    }
    if "survival" not in rows or rows["survival"].isna().any() or cv.grid.size < 2:
        return functions | dict.fromkeys(("ibs", "calibration_slope", "ece"), _undefined)
    curves = np.stack(rows["survival"].to_numpy())
    errors = brier_contributions(time, event, curves, cv.grid, own, on_grid)
    _, happened, probability, counts = landmark(cv, rows, own, on_grid)
    log_hazard = np.log(-np.log(np.clip(1.0 - probability, CLIP, 1.0 - CLIP)))
    return functions | {
        "ibs": lambda w: _weighted_mean(errors, w),
        # Who had a competing event stays at risk, but not to the same end as others: a slope would need weights of its own.
        "calibration_slope": _undefined
        if (event == 2).any()
        else lambda w: cox_calibration_slope(time, event, log_hazard, w),
        "ece": lambda w: ece(
            happened, np.clip(probability, CLIP, 1.0 - CLIP), weight=counts if w is None else w * counts
        ),
    }


def _evaluate(
    functions: dict[str, Score], owner: np.ndarray, weight: np.ndarray
) -> dict[str, tuple[float, np.ndarray]]:
    """Estimate and (B,) replicates of each metric; resamples go in blocks, so that memory does not grow with B."""
    n_blocks = max(1, weight.shape[0] * owner.size // CELLS_PER_BLOCK)
    blocks = np.array_split(weight, n_blocks)
    done = {name: [] for name in functions}
    for block in blocks:
        units = block[:, owner]
        for name, fn in functions.items():
            done[name].append(np.asarray(fn(units)))
    return {name: (float(fn(None)), np.concatenate(done[name])) for name, fn in functions.items()}


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """(R, B) -> (B,) mean over the finite entries, NaN where there is none."""
    finite = np.isfinite(values)
    return ratio(np.where(finite, values, 0.0).sum(0), finite.sum(0))


def _weighted_mean(values: np.ndarray, weight: np.ndarray | None) -> float | np.ndarray:
    rows = as_rows(weight, values.size)
    return unwrap(ratio(rows @ values, rows.sum(1)), weight)


def _undefined(weight: np.ndarray | None) -> float | np.ndarray:
    return float("nan") if weight is None else np.full(len(weight), np.nan)
