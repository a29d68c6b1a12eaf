from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.data.splits import patient_folds
from metaniche.data.task import Targets
from metaniche.evaluation.conformal import coverage_table, cross_conformal
from metaniche.evaluation.landmark import as_binary, censoring, landmark, middle
from metaniche.evaluation.predictions import CrossValidation
from metaniche.metrics.survival import censoring_survival


def survival_cv(task, n=200, seed=0, censored_by=12.0, competing=False):
    """Exponential times with known hazards, lost at random: by 7, two in three before the landmark."""
    rng = np.random.default_rng(seed)
    names = [f"p{i:04d}" for i in range(n)]
    log_hazard = rng.normal(size=n)
    true = rng.exponential(10 / np.exp(log_hazard))
    lost = rng.uniform(0, censored_by, n)
    table = pd.DataFrame(
        {"patient_id": names, "time": np.minimum(true, lost), "event": (true <= lost) * 1.0},
        index=pd.Index(names, name="unit_id"),
    )
    if competing:
        table["competing"] = ((table["event"] == 0) & (np.arange(n) % 2 == 0)) * 1.0
    targets = Targets(task, table)
    folds = tuple(patient_folds(targets, n_folds=4, n_repeats=1))
    grid = np.linspace(1.0, 7.0, 6)
    curves = list(np.exp(-np.outer(np.exp(log_hazard), grid) / 10))
    fold = [next(f.fold for f in folds if name in f.test) for name in names]
    rows = table.reset_index().assign(model="m", role="model", repeat=0, fold=fold, risk=log_hazard, score=log_hazard)
    return CrossValidation(rows.assign(survival=curves), folds, targets, grid), true


def of_all(cv):
    return landmark(cv, cv.predictions, *censoring(cv, cv.predictions))


def test_a_unit_counts_by_the_chance_to_be_followed_so_long(tasks):
    cv, _ = survival_cv(tasks["cox"])
    rows, found = cv.predictions, of_all(cv)
    assert (middle(cv.grid), found.time) == (3, cv.grid[3])
    for fold in cv.folds:
        train, own = cv.targets.of(fold.train).table, (rows["fold"] == fold.fold).to_numpy()
        time, event = rows["time"].to_numpy()[own], rows["event"].to_numpy()[own]
        at = censoring_survival(train["time"], train["event"], [found.time])[0]
        before = censoring_survival(train["time"], train["event"], time, before=True)
        chance = np.where(time > found.time, at, np.where(event == 1, before, np.inf))
        expected = 1 / chance  # who is lost counts nothing
        np.testing.assert_allclose(found.weight[own], expected)
    assert (found.weight == 0).sum() > 20
    np.testing.assert_allclose(found.probability, 1 - np.stack(rows["survival"])[:, 3])
    assert found.weight.sum() == pytest.approx(len(rows), rel=0.05)  # the known stand for all


def test_a_competing_event_is_known_to_end_without_this_one(tasks):
    cv, _ = survival_cv(replace(tasks["cox"], kind="discrete_time", competing="died"), competing=True)
    found, rows = of_all(cv), cv.predictions
    died = ((rows["competing"] == 1) & (rows["time"] <= found.time)).to_numpy()
    assert died.any()
    assert (found.weight[died] > 0).all()
    assert not found.happened[died].any()


def test_binary_tasks_stay_as_they_are_and_models_without_curves_fall_away(tasks):
    cv, _ = survival_cv(tasks["cox"], n=40)
    without = cv.predictions.assign(model="bare", survival=None)
    both = replace(cv, predictions=pd.concat([cv.predictions, without], ignore_index=True))
    binary = as_binary(both, both.predictions)
    assert set(binary["model"]) == {"m"}
    assert set(binary["landmark"]) == {cv.grid[3]}
    nothing = (
        as_binary(cv, cv.predictions.drop(columns="survival")),
        as_binary(cv, without),
        as_binary(replace(cv, grid=cv.grid[:1]), cv.predictions),
    )
    for none in nothing:
        assert none.empty
        assert {"y", "weight", "risk"} <= set(none)
    rows = pd.DataFrame({"model": ["m"], "y": [1.0], "risk": [0.3]})
    plain = as_binary(CrossValidation(rows, (), Targets(tasks["binary"], rows), np.zeros(0)), rows)
    pd.testing.assert_frame_equal(plain, rows.assign(weight=1.0))


@pytest.mark.parametrize("past", [-1e-9, 1.0 + 1e-9])
def test_curves_that_round_beyond_0_and_1_are_probabilities(tasks, past):
    cv, _ = survival_cv(tasks["cox"], n=40)
    beyond = cv.predictions.assign(survival=[np.full(cv.grid.size, past)] * 40)
    judged = cross_conformal(as_binary(cv, beyond))
    assert judged["risk"].isin((0.0, 1.0)).all()
    assert judged["p0"].notna().all()


@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_sets_hold_what_comes_although_two_in_three_would_be_lost(tasks, alpha):
    """The truth is known here, of the lost too: coverage over all units, and the estimate of it from those that were kept."""
    kept, estimated, unweighted = [], [], []
    for seed in range(30):
        cv, true = survival_cv(tasks["cox"], seed=seed, censored_by=7.0)
        binary = as_binary(cv, cv.predictions)
        judged = cross_conformal(binary)
        happened = (true <= cv.grid[3]).astype(int)
        for table, into in ((judged, kept), (cross_conformal(binary.assign(weight=binary["weight"] > 0)), unweighted)):
            p = table[["p0", "p1"]].to_numpy()[np.arange(len(table)), happened]
            into.append([(p[happened == c] > alpha).mean() for c in (0, 1)])
        estimated.append(coverage_table(judged, (alpha,))["coverage"].iloc[0])
    of_label = np.mean(kept, axis=0)
    assert (of_label > 1 - alpha - 0.015).all()
    assert (of_label < 1 - alpha + 0.05).all()
    assert np.mean(estimated) == pytest.approx(np.mean(of_label), abs=0.03)
    assert np.mean(unweighted, axis=0)[1] < of_label[1] - 0.02  # early events are seen more often, and foretold better
