import json

import numpy as np
import pandas as pd
import pytest

from metaniche.data.splits import Fold, patient_folds
from metaniche.data.task import Targets
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.predictions import CrossValidation, evaluation_grid, fold_rows
from metaniche.metrics import auroc


def constant(units, value):
    return Prediction(pd.Series(value, index=units))


def test_a_model_that_knows_nothing_scores_half_where_its_risk_scores_less(cohort, tasks):
    """An intercept alone ranks each held-out patient against its own label; relative to the base rate it is chance."""
    targets = cohort.targets(tasks["binary"])
    rows = []
    for fold in patient_folds(targets, "leave_one_out", n_repeats=1):
        train, test = targets.of(fold.train), targets.of(fold.test)
        rows.append(fold_rows(constant(test.table.index, train.table["y"].mean()), train, test, np.zeros(0)))
    table = pd.concat(rows)
    assert auroc(table["y"], table["risk"]) == 0.0
    assert auroc(table["y"], table["score"].round(9)) == 0.5


def test_score_keeps_the_order_within_a_fold(cohort, tasks):
    targets = cohort.targets(tasks["binary"])
    train, test = targets.of(targets.patients[:16]), targets.of(targets.patients[16:])
    risk = pd.Series(np.random.default_rng(0).uniform(size=8), index=test.table.index)
    rows = fold_rows(Prediction(risk), train, test, np.zeros(0))
    assert rows["score"].rank().equals(rows["risk"].rank())
    assert {"unit_id", "patient_id", "y", "risk", "score"} <= set(rows)


def test_sites_give_a_row_per_known_label(cohort, tasks):
    targets = cohort.targets(tasks["sites"])
    train, test = targets.of(targets.patients[:16]), targets.of(targets.patients[16:])
    sites = pd.DataFrame({"liver": 0.3, "lung": 0.6}, index=test.table.index)
    rows = fold_rows(Prediction(sites.mean(axis=1), sites=sites), train, test, np.zeros(0))
    assert len(rows) == test.table[["liver", "lung"]].notna().sum().sum()
    assert not {"liver", "lung"} & set(rows)
    for site, part in rows.groupby("site"):
        assert (part["risk"] == sites[site].iloc[0]).all()
        np.testing.assert_array_equal(part.set_index("unit_id")["y"], test.table[site].dropna())


def test_sites_without_labels_on_a_side_give_no_rows(cohort, tasks):
    targets = cohort.targets(tasks["sites"])
    train, test = targets.of(targets.patients[:16]), targets.of(targets.patients[16:])
    blind = Targets(train.task, train.table.assign(liver=np.nan, lung=np.nan))
    assert fold_rows(constant(test.table.index, 0.5), blind, test, np.zeros(0)).empty


def test_survival_rows_carry_curves_at_the_grid(cohort, tasks):
    targets = cohort.targets(tasks["cox"])
    grid = evaluation_grid(targets)
    train, test = targets.of(targets.patients[:16]), targets.of(targets.patients[16:])
    curves = pd.DataFrame(0.5, index=test.table.index, columns=[0.0001])
    rows = fold_rows(Prediction(test.table["time"], curves), train, test, grid)
    assert (np.stack(rows["survival"].to_numpy()) == 0.5).all()
    assert rows["score"].equals(rows["risk"])
    shifted = fold_rows(Prediction(test.table["time"] + 3.0, train_scale=(3.0, 1.0)), train, test, grid)
    np.testing.assert_allclose(shifted["score"], test.table["time"])
    assert "survival" not in fold_rows(Prediction(test.table["time"]), train, test, grid)


def test_grid_ascends_and_ends_where_one_in_ten_is_still_uncensored(tasks):
    time = np.arange(1.0, 41.0)
    table = pd.DataFrame({"patient_id": [f"p{i}" for i in range(40)], "time": time, "event": 0.0})
    table.loc[:19, "event"] = 1.0
    grid = evaluation_grid(Targets(tasks["cox"], table))
    assert (np.diff(grid) > 0).all()
    assert grid[0] == 1.0
    assert grid[-1] == 38.0  # of 20 censorings from time 21 on, 18 are passed: G = 2 / 20
    assert evaluation_grid(Targets(tasks["binary"], table)).size == 0


def test_saved_predictions_and_folds_are_plain_files(tmp_path, tasks):
    table = pd.DataFrame({"model": ["a"], "unit_id": ["p"], "risk": [0.25], "survival": [np.array([0.9, 0.8])]})
    fold = Fold(0, 1, ("a",), ("b",))
    cv = CrossValidation(table, (fold,), Targets(tasks["cox"], table), np.array([1.0, 2.0]))
    cv.save(tmp_path / "run")
    assert pd.read_parquet(tmp_path / "run" / "predictions.parquet")["survival"][0].tolist() == [0.9, 0.8]
    assert json.loads((tmp_path / "run" / "folds.json").read_text()) == [
        {"repeat": 0, "fold": 1, "train": ["a"], "test": ["b"]}
    ]
    assert cv.models == ["a"]
    assert pytest.approx(cv.predictions["risk"][0]) == 0.25
