"""The comparison table: every model with patient-bootstrap intervals, beside the best baseline and the clinical one."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from metaniche.data.outcome import bin_edges
from metaniche.data.task import Targets
from metaniche.evaluation.landmark import middle
from metaniche.evaluation.predictions import CrossValidation
from metaniche.evaluation.scores import ModelScores, metric_names, score_functions, score_model
from metaniche.metrics.bootstrap import interval, resample_weights, two_sided_p
from metaniche.metrics.names import METRICS

ENOUGH_EVENTS_PER_VARIABLE = 10.0
ENOUGH_PATIENTS = 20


def comparison_table(cv: CrossValidation, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """One row per model.

    Parameters
    ----------
    n_boot
        Resamples of patients, the same for every model, so that differences are paired.

    Returns
    -------
    Indexed by model: kind (clinical, baseline, network, or fused for `X + network`), role, n_units, n_patients,
    n_events (smaller class, or events), n_variables, events_per_variable; each metric of `metric_names(task)` with
    `_low` and `_high` (95 %); `diff_baseline` (to the best baseline) and `diff_clinical` of the primary metric, each
    with `_low`, `_high` and `_p` (NaN against itself, and without such a row); best_baseline, primary_metric, and
    undefined_resamples, the largest number of resamples that an interval leaves out because the metric was undefined
    there.
    `attrs["caption"]` is a list of sentences that must stand below the table.
    """
    patients = np.unique(cv.predictions["patient_id"].to_numpy(str))
    weight = resample_weights(patients, n_boot, seed)
    scores = {m: score_model(cv, m, patients, weight) for m in cv.models}
    roles = cv.predictions.groupby("model", sort=False)["role"].first()
    primary = metric_names(cv.targets.task)[0]
    best = _best_baseline(scores, roles, primary)
    clinical = next((m for m in cv.models if roles[m] == "clinical"), None)
    rows = {}
    for model, score in scores.items():
        rows[model] = {
            "kind": _kind(model, roles[model]),
            "role": roles[model],
            **_sizes(cv, model),
            **_intervals(score),
            **_difference("diff_baseline", model, best, scores, primary),
            **_difference("diff_clinical", model, clinical, scores, primary),
            "best_baseline": best,
            "primary_metric": primary,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    table.attrs["caption"] = caption(cv, table, n_boot)
    return table


def repeat_table(cv: CrossValidation) -> pd.DataFrame:
    """Every repeat of every model (and site): point estimates, so that all seeds are seen and none is chosen."""
    keys = ["model", "repeat", "site"] if "site" in cv.predictions else ["model", "repeat"]
    rows = []
    for key, part in cv.predictions.groupby(keys, sort=False):
        functions = score_functions(cv, part)
        rows.append({**dict(zip(keys, key)), **{name: functions[name](None) for name in metric_names(cv.targets.task)}})
    return pd.DataFrame(rows)


def events_per_variable(targets: Targets, n_variables: float) -> float:
    """Patients of the smaller class (or with an event) per variable of a model; NaN at cell level and where unknown."""
    if targets.task.level == "cell" or not n_variables > 0:
        return float("nan")
    return n_events(targets) / n_variables


def n_events(targets: Targets) -> int:
    """Units with an event; binary: of the smaller class; several sites: of the smaller class of the smallest site."""
    table = targets.table
    if targets.task.is_survival:
        return int((table["event"] == 1).sum())
    columns = targets.task.sites if targets.task.kind == "sites" else ["y"]
    return int(min(min((table[c] == 1).sum(), (table[c] == 0).sum()) for c in columns))


def caption(cv: CrossValidation, table: pd.DataFrame, n_boot: int) -> list[str]:
    """Sentences without which the table would promise too much."""
    task = cv.targets.task
    repeats = cv.predictions["repeat"].nunique()
    design = "one split" if len(cv.folds) == 1 else f"{repeats} repeat(s) of cross-validation"
    primary = table["primary_metric"].iloc[0]
    lines = [
        f"{table['n_units'].max()} {task.level}s of {table['n_patients'].max()} patients, {n_events(cv.tested)} "
        f"{'events' if task.is_survival else 'in the smaller class'}; {design} by "
        f"patient. Intervals: 95 % percentile bootstrap over patients, {n_boot} resamples; metrics are averaged over "
        "repeats inside each resample. They hold the fitted models fixed and leave out the variation of training."
    ]
    if task.competing:
        lines.append(
            "Networks predict the share with the event where competing events happen, and are judged by it. Cox models and "
            "forests censor competing events and predict what would be without them: their IBS and ECE are those of another "
            "quantity, and only ranks (Harrell's and Uno's C) compare."
        )
    best = table["best_baseline"].iloc[0]
    if best is not None:
        lines.append(
            f"The best baseline ({best}) was chosen after the fact by {METRICS[primary].label} on these same patients: its "
            "own figure is optimistic, and differences to it are pessimistic for the other models. p values are "
            "two-sided bootstrap values without correction for the number of models."
        )
    if task.is_survival and cv.grid.size:
        lines.append(
            f"Uno's C and the integrated Brier score are read up to time {cv.grid[-1]:g}, ECE at "
            f"{cv.grid[middle(cv.grid)]:g}."
        )
        lines += _beyond_the_edges(cv)
    if task.kind == "sites" and "site" in cv.predictions:
        lines.append("Metrics are averaged over the sites in which they are defined; unknown labels are left out.")
    lines += _warnings(cv, table, n_boot)
    return lines


def _beyond_the_edges(cv: CrossValidation) -> list[str]:
    """Where a discrete-time network's curve says nothing more, and how much of what is judged lies there."""
    if cv.targets.task.kind != "discrete_time":
        return []
    last = np.mean([bin_edges(cv.targets.of(fold.train))[-1] for fold in cv.folds])
    first, end = cv.grid[0], cv.grid[-1]
    share = (end - min(max(last, first), end)) / max(end - first, np.finfo(float).tiny)
    return [
        f"Curves of discrete-time networks are constant after their last inner edge (time {last:.3g}, mean over folds): "
        f"{100 * share:.0f} % of the time of the integrated Brier score lies beyond, where other models may still fall."
    ]


def _warnings(cv: CrossValidation, table: pd.DataFrame, n_boot: int) -> list[str]:
    lines = []
    primary = table["primary_metric"].iloc[0]
    below = table.index[table[f"{primary}_high"] < 0.5]
    if len(below):
        lines.append(
            f"{METRICS[primary].label} lies below 0.5 with its whole interval for {', '.join(below)}: no sign of a "
            "reversed effect. Holding a unit out moves what is learnt away from it, so models without signal score "
            "below 0.5 on few units, and an interval over patients does not show that."
        )
    if table["n_patients"].max() < ENOUGH_PATIENTS:
        lines.append(
            f"With {table['n_patients'].max()} patients the intervals are too narrow and the p values too small: in "
            "simulation a nominal 95 % interval of an AUROC covers 83 % at 8 patients and 89 % at 12."
        )
    thin = table["events_per_variable"].dropna()
    thin = thin[thin < ENOUGH_EVENTS_PER_VARIABLE]
    if len(thin):
        lines.append(
            f"Fewer than {ENOUGH_EVENTS_PER_VARIABLE:g} events per variable in {len(thin)} model(s) (least: "
            f"{thin.idxmin()}, {thin.min():.2g}): expect unstable coefficients; none of these figures is a validation."
        )
    if table["undefined_resamples"].max() > 0:
        lines.append(
            f"Up to {table['undefined_resamples'].max()} of {n_boot} resamples left a metric undefined (one class, or "
            "a slope without a finite value) and were left out of its interval."
        )
    if cv.targets.left_out:
        lines.append(f"{len(cv.targets.left_out)} unit(s) without a usable label were left out.")
    return lines


def _kind(model: str, role: str) -> str:
    if role != "model":
        return role
    return "fused" if " + " in model else "network"


def _best_baseline(scores: dict[str, ModelScores], roles: pd.Series, primary: str) -> str | None:
    """The simple model, clinical ones and `clinical + baseline` included, with the best primary metric."""
    value = {m: s.estimate[primary] for m, s in scores.items() if roles[m] in ("baseline", "clinical")}
    value = {m: v for m, v in value.items() if np.isfinite(v)}
    return max(value, key=value.get) if value else None


def _intervals(score: ModelScores) -> dict[str, float]:
    row, undefined = {}, 0
    for name, estimate in score.estimate.items():
        low, high, skipped = interval(score.replicates[name])
        row |= {name: estimate, f"{name}_low": low, f"{name}_high": high}
        undefined = max(undefined, skipped if np.isfinite(estimate) else 0)
    return row | {"undefined_resamples": undefined}


def _difference(
    prefix: str, model: str, other: str | None, scores: dict[str, ModelScores], primary: str
) -> dict[str, float]:
    names = [prefix, f"{prefix}_low", f"{prefix}_high", f"{prefix}_p"]
    if other is None or other == model:
        return dict.fromkeys(names, float("nan"))
    replicates = scores[model].replicates[primary] - scores[other].replicates[primary]
    low, high, _ = interval(replicates)
    difference = scores[model].estimate[primary] - scores[other].estimate[primary]
    return dict(zip(names, (difference, low, high, two_sided_p(replicates))))


def _sizes(cv: CrossValidation, model: str) -> dict[str, float]:
    rows = cv.predictions[cv.predictions["model"] == model]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        n_variables = float(np.nanmax(rows["n_variables"]))
    return {
        "n_units": rows["unit_id"].nunique(),
        "n_patients": rows["patient_id"].nunique(),
        "n_events": n_events(cv.tested),
        "n_variables": n_variables,
        "events_per_variable": events_per_variable(cv.tested, n_variables),
    }
