from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.data.splits import Fold, patient_folds
from metaniche.data.task import Targets
from metaniche.evaluation import scores as scores_module
from metaniche.evaluation.predictions import LEAST_UNCENSORED, CrossValidation, evaluation_grid
from metaniche.evaluation.scores import metric_names, score_functions, score_model
from metaniche.metrics import auroc, ece, harrell_c, integrated_brier, resample_weights, uno_c
from metaniche.metrics.names import METRICS
from metaniche.metrics.survival import censoring_survival


def binary_cv(tasks, n=20, n_repeats=2, units_per_patient=1, level="patient"):
    rng = np.random.default_rng(0)
    task = replace(tasks["cells"] if level == "cell" else tasks["binary"], level=level)
    patient = np.repeat([f"p{i:02d}" for i in range(n)], units_per_patient)
    unit = [f"u{i}" for i in range(patient.size)]
    y = (np.arange(patient.size) % 2).astype(float)
    table = pd.DataFrame({"patient_id": patient, "y": y}, index=pd.Index(unit, name="unit_id"))
    rows = []
    for repeat in range(n_repeats):
        risk = 1 / (1 + np.exp(-rng.normal(y - 0.5, 1.0)))
        rows.append(table.reset_index().assign(model="m", role="model", repeat=repeat, fold=0, risk=risk, score=risk))
    return CrossValidation(pd.concat(rows, ignore_index=True), (), Targets(task, table), np.zeros(0))


def survival_cv(tasks, n=40):
    rng = np.random.default_rng(1)
    names = [f"p{i:02d}" for i in range(n)]
    table = pd.DataFrame(
        {"patient_id": names, "time": rng.exponential(10, n).round(1) + 0.1, "event": rng.integers(0, 2, n) * 1.0},
        index=pd.Index(names, name="unit_id"),
    )
    targets = Targets(tasks["cox"], table)
    folds = tuple(patient_folds(targets, n_folds=4, n_repeats=1))
    grid = np.linspace(1.0, 8.0, 6)
    risk = rng.normal(size=n)
    curves = list(np.exp(-np.outer(np.exp(risk), grid) / 20))
    fold = [next(f.fold for f in folds if name in f.test) for name in names]
    rows = table.reset_index().assign(model="m", role="model", repeat=0, fold=fold, risk=risk, score=risk)
    return CrossValidation(rows.assign(survival=curves), folds, targets, grid)


def patients_of(cv):
    return np.unique(cv.predictions["patient_id"].to_numpy(str))


def test_estimates_are_means_over_repeats_of_the_pooled_metric(tasks):
    cv = binary_cv(tasks)
    found = score_model(cv, "m", patients_of(cv), np.ones((1, 20)))
    each = [auroc(p["y"].to_numpy(), p["score"].to_numpy()) for _, p in cv.predictions.groupby("repeat")]
    assert found.estimate["auroc"] == pytest.approx(np.mean(each))
    assert found.replicates["auroc"][0] == pytest.approx(np.mean(each))
    assert list(found.estimate) == metric_names(cv.targets.task)
    assert set(found.estimate) <= set(METRICS)


def test_a_replicate_is_the_metric_of_the_drawn_patients_with_all_their_units(tasks):
    cv = binary_cv(tasks, n=8, n_repeats=1, units_per_patient=3, level="sample")
    weight = resample_weights(patients_of(cv), 5, 0)
    found = score_model(cv, "m", patients_of(cv), weight).replicates["auroc"]
    rows = cv.predictions
    for b in range(5):
        drawn = pd.concat(
            [rows[rows["patient_id"] == p] for p, w in zip(patients_of(cv), weight[b]) for _ in range(int(w))]
        )
        assert found[b] == pytest.approx(auroc(drawn["y"].to_numpy(), drawn["score"].to_numpy()))


def test_blocks_of_resamples_change_nothing(tasks, monkeypatch):
    cv = binary_cv(tasks)
    weight = resample_weights(patients_of(cv), 40, 0)
    whole = score_model(cv, "m", patients_of(cv), weight).replicates
    monkeypatch.setattr(scores_module, "CELLS_PER_BLOCK", 50)
    for name, values in score_model(cv, "m", patients_of(cv), weight).replicates.items():
        np.testing.assert_allclose(values, whole[name])


def test_cells_are_scored_within_patients_first_and_pooled_too(tasks):
    cv = binary_cv(tasks, n=6, n_repeats=1, units_per_patient=10, level="cell")
    assert metric_names(cv.targets.task)[0] == "auroc_within"
    rows = cv.predictions
    within = [auroc(g["y"].to_numpy(), g["score"].to_numpy()) for _, g in rows.groupby("patient_id")]
    found = score_model(cv, "m", patients_of(cv), np.ones((1, 6))).estimate
    assert found["auroc_within"] == pytest.approx(np.mean(within))
    assert found["auroc"] == pytest.approx(auroc(rows["y"].to_numpy(), rows["score"].to_numpy()))


def test_a_metric_that_a_repeat_lacks_is_averaged_over_the_others(tasks):
    cv = binary_cv(tasks)
    rows = cv.predictions.copy()
    rows.loc[rows["repeat"] == 0, "risk"] = 0.5
    found = score_model(replace(cv, predictions=rows), "m", patients_of(cv), np.ones((1, 20)))
    second = score_functions(cv, rows[rows["repeat"] == 1])["calibration_slope"](None)
    assert found.estimate["calibration_slope"] == pytest.approx(second)


def test_sites_are_averaged_where_defined(tasks):
    cv = binary_cv(tasks, n_repeats=1)
    one = cv.predictions.assign(site="liver")
    flat = cv.predictions.assign(site="lung", y=0.0)
    both = replace(cv, predictions=pd.concat([one, flat], ignore_index=True))
    found = score_model(both, "m", patients_of(cv), np.ones((1, 20))).estimate["auroc"]
    assert found == pytest.approx(auroc(one["y"].to_numpy(), one["score"].to_numpy()))


def test_survival_metrics_use_the_censoring_of_each_folds_training_patients(tasks):
    cv = survival_cv(tasks)
    rows = cv.predictions
    found = score_model(cv, "m", patients_of(cv), np.ones((1, 40))).estimate
    time, event, risk = (rows[c].to_numpy() for c in ("time", "event", "risk"))
    assert found["harrell_c"] == pytest.approx(harrell_c(time, event, risk))
    brier = 0.0
    for fold in cv.folds:
        train, own = cv.targets.of(fold.train).table, (rows["fold"] == fold.fold).to_numpy()
        curves = np.stack(rows["survival"].to_numpy())[own]
        score = integrated_brier(time[own], event[own], curves, cv.grid, train["time"], train["event"])
        brier += own.sum() * score / 40
    assert found["ibs"] == pytest.approx(brier)


def test_with_one_training_set_uno_is_the_plain_function(tasks):
    cv = survival_cv(tasks)
    fold = replace(cv.folds[0], train=tuple(cv.targets.patients))
    rows = cv.predictions.assign(fold=fold.fold)
    found = score_functions(replace(cv, predictions=rows, folds=(fold,)), rows)["uno_c"](None)
    time, event, risk = (rows[c].to_numpy() for c in ("time", "event", "risk"))
    assert found == pytest.approx(uno_c(time, event, risk, time, event, tau=cv.grid[-1]))


def test_survival_calibration_is_one_for_the_true_hazards_and_nan_without_curves(tasks):
    rng = np.random.default_rng(0)
    cv = survival_cv(tasks, 3000)
    log_hazard = rng.normal(size=3000)
    time = rng.exponential(10 / np.exp(log_hazard))
    event = (time < 9).astype(float)
    time = np.minimum(time, 9.0)
    curves = list(np.exp(-np.outer(np.exp(log_hazard), cv.grid) / 10))
    rows = cv.predictions.assign(time=time, event=event, risk=log_hazard, survival=curves)
    table = cv.targets.table.assign(time=time, event=event)
    true = replace(cv, predictions=rows, targets=Targets(cv.targets.task, table))
    functions = score_functions(true, rows)
    assert functions["calibration_slope"](None) == pytest.approx(1.0, abs=0.1)
    assert functions["ece"](None) < 0.03
    none = score_functions(cv, cv.predictions.drop(columns="survival"))
    assert np.isnan(none["ibs"](None))
    assert np.isnan(none["ece"](np.ones((4, 3000)))).all()
    assert np.isfinite(none["harrell_c"](None))


def test_competing_events_are_known_to_every_metric(tasks):
    """Each by its own function with kinds 0, 1 and 2, censoring from the fold's training patients alike; no slope."""
    plain = survival_cv(tasks, n=80)
    rng = np.random.default_rng(2)
    kind = pd.Series(rng.integers(0, 3, 80), plain.targets.table.index)
    task = replace(tasks["cox"], kind="discrete_time", competing="died", n_bins=3)
    table = plain.targets.table.assign(event=(kind == 1) * 1.0, competing=(kind == 2) * 1.0)
    targets = Targets(task, table)
    names = plain.predictions["unit_id"]
    rows = plain.predictions.assign(
        event=table["event"].loc[names].to_numpy(), competing=table["competing"].loc[names].to_numpy(), fold=0
    )
    everyone = (Fold(0, 0, tuple(table["patient_id"]), ()),)
    grid = evaluation_grid(targets)
    time, kind = table["time"].loc[names].to_numpy(), kind.loc[names].to_numpy()
    uncensored = censoring_survival(time, kind, time)
    assert grid.max() == pytest.approx(time[time <= time[uncensored >= LEAST_UNCENSORED].max()].max())
    curves = np.exp(-np.outer(np.exp(rows["risk"]), grid) / 20)
    cv = CrossValidation(rows.assign(survival=list(curves)), everyone, targets, grid)
    found = score_functions(cv, cv.predictions)
    risk = rows["risk"].to_numpy()
    assert found["harrell_c"](None) == pytest.approx(harrell_c(time, kind, risk))
    assert found["uno_c"](None) == pytest.approx(uno_c(time, kind, risk, time, kind, tau=grid[-1]))
    assert found["ibs"](None) == pytest.approx(integrated_brier(time, kind, curves, grid, time, kind))
    assert np.isnan(found["calibration_slope"](None))
    middle = grid.size // 2
    had = (time <= grid[middle]) & (kind == 1)
    known = np.where(
        time > grid[middle],
        censoring_survival(time, kind, grid)[middle],
        censoring_survival(time, kind, time, before=True),
    )
    weight = np.where((time > grid[middle]) | (kind > 0), 1 / np.where(known > 0, known, np.inf), 0.0)
    assert found["ece"](None) == pytest.approx(ece(had, 1 - curves[:, middle], weight=weight))
