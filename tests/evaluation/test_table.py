from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.data.outcome import bin_edges
from metaniche.data.splits import Fold, patient_folds
from metaniche.data.task import Targets, Task
from metaniche.evaluation.baselines import standard_baselines
from metaniche.evaluation.crossval import cross_validate
from metaniche.evaluation.predictions import CrossValidation, evaluation_grid
from metaniche.evaluation.scores import metric_names
from metaniche.evaluation.table import _beyond_the_edges, comparison_table, events_per_variable, n_events, repeat_table


def made_up(tasks, quality, n=40, n_repeats=2, seed=0):
    """Predictions whose AUROC grows with `quality[model] = (role, separation)`."""
    rng = np.random.default_rng(seed)
    names = [f"p{i:02d}" for i in range(n)]
    y = (np.arange(n) % 2).astype(float)
    table = pd.DataFrame({"patient_id": names, "y": y}, index=pd.Index(names, name="unit_id"))
    rows = []
    for model, (role, separation) in quality.items():
        for repeat in range(n_repeats):
            score = rng.normal(separation * y, 1.0)
            risk = 1 / (1 + np.exp(separation / 2 - score))
            rows.append(
                table.reset_index().assign(model=model, role=role, repeat=repeat, fold=0, risk=risk, score=score)
            )
    predictions = pd.concat(rows, ignore_index=True).assign(n_variables=4.0)
    return CrossValidation(predictions, (), Targets(tasks["binary"], table, {"p99": "no label"}), np.zeros(0))


@pytest.fixture(scope="module")
def table(tasks):
    models = {
        "deep": ("model", 3.0),
        "clinical": ("clinical", 0.2),
        "weak": ("baseline", 0.0),
        "strong": ("baseline", 1.5),
    }
    return comparison_table(made_up(tasks, models), n_boot=300)


def test_a_row_per_model_in_order_with_intervals_around_the_estimate(table, tasks):
    assert list(table.index) == ["deep", "clinical", "weak", "strong"]
    for name in metric_names(tasks["binary"]):
        assert (table[f"{name}_low"] <= table[f"{name}_high"]).all()
    for name in ("auroc", "auprc"):
        assert table[name].between(table[f"{name}_low"], table[f"{name}_high"]).all()
    assert table.loc["weak", "auroc_low"] < 0.5 < table.loc["weak", "auroc_high"]


def test_the_best_simple_model_is_the_opponent_and_the_caption_says_how_it_was_chosen(table):
    assert set(table["best_baseline"]) == {"strong"}
    assert table.loc["deep", "diff_baseline"] == pytest.approx(
        table.loc["deep", "auroc"] - table.loc["strong", "auroc"]
    )
    assert np.isnan(table.loc["strong", "diff_baseline"])
    assert np.isnan(table.loc["clinical", "diff_clinical"])
    assert table.loc["deep", "diff_clinical_low"] > 0
    assert table.loc["deep", "diff_clinical_p"] < 0.05
    text = " ".join(table.attrs["caption"])
    for word in (
        "strong",
        "optimistic",
        "chosen after the fact",
        "without correction",
        "1 unit(s) without",
        "20 in the",
    ):
        assert word in text


def test_sizes_and_events_per_variable(table):
    row = table.loc["deep"]
    assert (row["n_units"], row["n_patients"], row["n_events"], row["events_per_variable"]) == (40, 40, 20, 5.0)
    assert "Fewer than 10 events per variable in 4 model(s)" in " ".join(table.attrs["caption"])


def test_equal_models_do_not_differ_and_p_is_uniform_enough(tasks):
    small = 0
    for seed in range(40):
        cv = made_up(tasks, {"a": ("baseline", 1.0), "b": ("model", 1.0)}, n_repeats=1, seed=seed)
        small += comparison_table(cv, n_boot=200).loc["b", "diff_baseline_p"] < 0.05
    assert small <= 6


def test_without_baseline_or_clinical_the_differences_are_empty(tasks):
    row = comparison_table(made_up(tasks, {"deep": ("model", 1.0)}), n_boot=50).iloc[0]
    assert row["best_baseline"] is None
    assert np.isnan(row[["diff_baseline", "diff_baseline_p", "diff_clinical_low"]].astype(float)).all()


def test_unknown_numbers_of_variables_are_no_error(tasks):
    cv = made_up(tasks, {"deep": ("model", 1.0)})
    cv = replace(cv, predictions=cv.predictions.assign(n_variables=np.nan))
    table = comparison_table(cv, n_boot=20)
    assert table["events_per_variable"].isna().all()


def test_undefined_resamples_are_counted_and_said(tasks):
    cv = made_up(tasks, {"m": ("model", 1.0)}, n=40)
    rare = cv.predictions["patient_id"].isin(["p01", "p03"]).astype(float)
    targets = Targets(tasks["binary"], cv.targets.table.assign(y=cv.targets.table.index.isin(["p01", "p03"]) * 1.0))
    table = comparison_table(replace(cv, predictions=cv.predictions.assign(y=rare), targets=targets), 200)
    assert table.loc["m", "undefined_resamples"] > 10
    assert "left a metric undefined" in " ".join(table.attrs["caption"])


def test_an_interval_below_chance_is_explained_and_one_around_it_is_not(tasks):
    cv = made_up(tasks, {"worse than chance": ("model", -3.0), "chance": ("baseline", 0.0)})
    text = " ".join(comparison_table(cv, n_boot=100).attrs["caption"])
    assert "whole interval for worse than chance: no sign of a reversed effect" in text
    fine = made_up(tasks, {"chance": ("baseline", 0.0), "good": ("model", 2.0)})
    assert "reversed" not in " ".join(comparison_table(fine, n_boot=100).attrs["caption"])


def test_few_patients_are_said_to_make_intervals_too_narrow(tasks):
    for n, said in ((8, True), (40, False)):
        table = comparison_table(made_up(tasks, {"m": ("model", 0.5)}, n=n), n_boot=50)
        assert ("too narrow" in " ".join(table.attrs["caption"])) == said


def test_every_repeat_is_shown(tasks):
    cv = made_up(tasks, {"a": ("model", 1.0), "b": ("baseline", 1.0)}, n_repeats=3)
    each = repeat_table(cv)
    assert len(each) == 6
    table = comparison_table(cv, n_boot=20)
    np.testing.assert_allclose(each.groupby("model")["auroc"].mean()[table.index], table["auroc"])


@pytest.mark.parametrize("kind", ["binary", "cox", "sites", "cells"])
def test_the_whole_way_on_a_small_cohort(cohort, tasks, kind):
    task = tasks[kind]
    if kind == "cox":  # by chance alone the small cohort's times hardly follow its label
        patients = cohort.patients
        cohort = replace(
            cohort, patients=patients.assign(time=patients["time"] + 60 * (1 - patients["spread"]), event=1)
        )
    models = standard_baselines(task, "none", True, bool(task.clinical))
    models = [m for m in models if "forest" not in m.name and "CLR" not in m.name and "neigh" not in m.name]
    folds = patient_folds(cohort.targets(task), n_folds=3, n_repeats=1)
    if kind == "cells":
        models = standard_baselines(task, "none", True, False)[:1]
    cv = cross_validate(models, cohort, task, folds)
    table = comparison_table(cv, n_boot=50)
    assert list(table.index) == [m.name for m in models]
    primary = metric_names(task)[0]
    assert table[primary].between(0, 1).all()
    best = (
        "own features (ridge)" if kind == "cells" else "composition (Cox)" if kind == "cox" else "composition (ridge)"
    )
    assert table.loc[best, primary] > 0.7
    assert pd.read_csv(pd.io.common.StringIO(table.to_csv()), index_col=0).shape == table.shape


def test_event_counts_by_kind_of_task(cohort, tasks):
    patients = cohort.patients
    assert n_events(cohort.targets(tasks["binary"])) == 12
    assert n_events(cohort.targets(tasks["cox"])) == patients["event"].sum()
    smaller = min(patients[s].value_counts().min() for s in ("liver", "lung"))
    assert n_events(cohort.targets(tasks["sites"])) == smaller
    assert events_per_variable(cohort.targets(tasks["binary"]), 6) == 2.0
    assert np.isnan(events_per_variable(cohort.targets(tasks["cells"]), 6))
    assert np.isnan(events_per_variable(cohort.targets(tasks["binary"]), np.nan))


def test_a_row_says_what_kind_of_model_it_is(tasks):
    models = {
        "deep": ("model", 3.0),
        "clinical + deep": ("model", 3.0),
        "clinical": ("clinical", 0.2),
        "clinical + weak": ("baseline", 0.2),
        "weak": ("baseline", 0.0),
    }
    kinds = comparison_table(made_up(tasks, models), n_boot=20)["kind"]
    assert list(kinds) == ["network", "fused", "clinical", "baseline", "baseline"]


@pytest.mark.parametrize("n_bins", [2, 4, 20])
def test_a_caption_says_how_much_of_the_time_lies_beyond_the_last_edge(n_bins):
    """Of uniform follow-up without censoring: all but the last of the intervals ends before it."""
    patients = [f"p{i}" for i in range(201)]
    columns = {"patient_id": patients, "time": np.linspace(1, 101, 201), "event": 1.0}
    table = pd.DataFrame(columns, index=pd.Index(patients, name="unit_id"))
    task = Task("t", "t", kind="discrete_time", time="time", event="event", n_bins=n_bins)
    targets = Targets(task, table)
    cv = CrossValidation(pd.DataFrame(), (Fold(0, 0, tuple(patients), ()),), targets, evaluation_grid(targets))
    (said,) = _beyond_the_edges(cv)
    share = (cv.grid[-1] - bin_edges(targets)[-1]) / (cv.grid[-1] - cv.grid[0])
    assert share == pytest.approx(1 / n_bins, abs=0.1)
    assert f"{100 * share:.0f} % of the time of the integrated Brier score lies beyond" in said
    cox = replace(targets, task=replace(task, kind="cox"))
    assert _beyond_the_edges(replace(cv, targets=cox)) == []
