from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.data.splits import Fold, patient_folds
from metaniche.errors import ConfigError, InputError, MetanicheError, SplitError
from metaniche.evaluation.baselines import ClinicalModel, SummaryModel
from metaniche.evaluation.crossval import cross_validate
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.fusion import Fused, fuse
from metaniche.evaluation.learners import ForestClassifier, PenalisedCox, RidgeLogistic
from metaniche.evaluation.summaries import Composition


def folds_of(cohort, task, n_folds=3, n_repeats=1):
    return patient_folds(cohort.targets(task), n_folds=n_folds, n_repeats=n_repeats)


def test_every_unit_of_every_repeat_is_predicted_once_by_every_model(cohort, tasks, spy):
    task = tasks["binary"]
    models = [spy("b"), spy("a")]
    cv = cross_validate(models, cohort, task, folds_of(cohort, task, n_repeats=2))
    assert cv.models == ["b", "a"]
    counts = cv.predictions.groupby(["model", "repeat", "unit_id"]).size()
    assert counts.eq(1).all()
    assert len(counts) == 2 * 2 * 24
    for fold in cv.folds:
        rows = cv.predictions[(cv.predictions["repeat"] == fold.repeat) & (cv.predictions["fold"] == fold.fold)]
        assert set(rows["patient_id"]) == set(fold.test)


def test_a_fit_sees_training_patients_and_nothing_else(cohort, tasks, spy):
    task, model = tasks["binary"], spy()
    folds = folds_of(cohort, task, n_repeats=2)
    cross_validate([model], cohort, task, folds)
    assert [f[0] for f in model.fits] == [f.train for f in folds]
    assert [f[1] for f in model.fits] == [f.train for f in folds]
    assert len({seed for *_, seed in model.fits}) == len(folds)


def test_a_cell_label_is_not_in_the_test_samples(cohort, tasks, spy):
    class OfCells(spy):
        def predict(self, samples, clinical, unit_ids):
            self.shown.append(samples)
            return Prediction(pd.Series(0.5, index=list(unit_ids)))

    task, model = tasks["cells"], OfCells()
    cross_validate([model], cohort, task, folds_of(cohort, task))
    assert all("region" not in s.cells and "cell_type" in s.cells for shown in model.shown for s in shown)
    assert all("region" in s.cells for s in cohort.prepared)


def test_progress_counts_every_model_of_every_fold(cohort, tasks, spy):
    seen = []
    task = tasks["binary"]
    cross_validate([spy("a"), spy("b")], cohort, task, folds_of(cohort, task), progress=lambda *a: seen.append(a))
    assert [done for done, _, _ in seen] == list(range(7))
    assert {total for _, total, _ in seen} == {6}
    assert seen[3][2] == "b, repeat 1, fold 2"


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, cohort, tasks, spy):
    task, folds = tasks["binary"], folds_of(cohort, tasks["binary"])
    with pytest.raises(MetanicheError, match="boom"):
        cross_validate([spy(fail_on=2)], cohort, task, folds, run_dir=tmp_path)
    assert len(list((tmp_path / "folds").iterdir())) == 2
    model = spy()
    resumed = cross_validate([model], cohort, task, folds, run_dir=tmp_path)
    assert len(model.fits) == 1
    pd.testing.assert_frame_equal(resumed.predictions, cross_validate([spy()], cohort, task, folds).predictions)
    again = spy()
    cross_validate([again], cohort, task, folds, run_dir=tmp_path)
    assert again.fits == []


@pytest.mark.parametrize("change", ["seed", "labels", "data", "folds"])
def test_saved_folds_are_used_only_for_the_same_question(tmp_path, cohort, tasks, spy, change):
    task, folds = tasks["binary"], folds_of(cohort, tasks["binary"])
    cross_validate([spy()], cohort, task, folds, run_dir=tmp_path)
    model, targets = spy(), cohort.targets(task)
    flipped = replace(targets, table=targets.table.assign(y=1 - targets.table["y"]))
    arguments = {
        "seed": ([model], cohort, task, folds, 1),
        "labels": ([model], cohort, task, folds),
        "data": ([model], replace(cohort, folder=cohort.folder.with_name("other")), task, folds),
        "folds": ([model], cohort, task, [replace(f, train=f.train[1:]) for f in folds]),
    }[change]
    cross_validate(*arguments, run_dir=tmp_path, targets=flipped if change == "labels" else None)
    assert len(model.fits) == len(folds)


def test_an_error_names_model_and_fold_and_keeps_its_kind(cohort, tasks, spy):
    class Refusing(spy):
        def fit(self, *args):
            raise InputError("no genes")

    task, folds = tasks["binary"], folds_of(cohort, tasks["binary"])
    with pytest.raises(MetanicheError, match=r"spy, repeat 1, fold 2: ValueError: boom"):
        cross_validate([spy(fail_on=1)], cohort, task, folds)
    with pytest.raises(InputError, match=r"spy, repeat 1, fold 1: no genes"):
        cross_validate([Refusing()], cohort, task, folds)


def test_a_risk_that_is_not_finite_is_refused(cohort, tasks, spy):
    class Diverged(spy):
        def predict(self, samples, clinical, unit_ids):
            return Prediction(pd.Series(np.nan, index=list(unit_ids)))

    with pytest.raises(InputError, match=r"spy, repeat 1, fold 1.*finite"):
        cross_validate([Diverged()], cohort, tasks["binary"], folds_of(cohort, tasks["binary"]))


def test_a_fold_with_a_patient_on_both_sides_is_refused(cohort, tasks, spy):
    with pytest.raises(SplitError, match="p01"):
        cross_validate([spy()], cohort, tasks["binary"], [Fold(0, 0, ("p00", "p01"), ("p01", "p02"))])


def test_fused_rows_are_made_of_the_parts_predictions_without_another_fit(cohort, tasks, spy):
    task, folds = tasks["binary"], folds_of(cohort, tasks["binary"])
    base, clinical = spy("deep"), ClinicalModel(RidgeLogistic())
    cv = cross_validate([clinical, base, Fused(base, clinical)], cohort, task, folds)
    assert len(base.fits) == len(folds)
    risk = {m: g.set_index("unit_id")["risk"] for m, g in cv.predictions.groupby("model")}
    expected = fuse(task, Prediction(risk["clinical"]), Prediction(risk["deep"])).risk
    pd.testing.assert_series_equal(risk["clinical + deep"], expected, check_names=False)
    assert set(cv.predictions.loc[cv.predictions["model"] == "clinical + deep", "role"]) == {"model"}


def test_fused_survival_is_the_same_from_memory_and_from_disk(tmp_path, cohort, tasks):
    task, folds = tasks["cox"], folds_of(cohort, tasks["cox"])
    base, clinical = SummaryModel("m", Composition(), PenalisedCox((0.1,))), ClinicalModel(PenalisedCox((0.1,)))
    models = [clinical, base, Fused(base, clinical)]
    first = cross_validate(models, cohort, task, folds, run_dir=tmp_path).predictions
    second = cross_validate(models, cohort, task, folds, run_dir=tmp_path).predictions
    pd.testing.assert_frame_equal(first, second)
    assert first["survival"].notna().all()


def test_names_must_differ_and_parts_must_be_there(cohort, tasks, spy):
    task, folds = tasks["binary"], folds_of(cohort, tasks["binary"])
    with pytest.raises(ConfigError, match="different names"):
        cross_validate([spy("a"), spy("a")], cohort, task, folds)
    with pytest.raises(ConfigError, match="different names"):
        cross_validate([], cohort, task, folds)
    clinical = ClinicalModel(RidgeLogistic())
    with pytest.raises(ConfigError, match=r"made of \['deep'\]"):
        cross_validate([clinical, Fused(spy("deep"), clinical)], cohort, task, folds)


@pytest.mark.parametrize("kind", ["sites", "cells"])
def test_other_tasks_go_through_the_same_loop(cohort, tasks, kind):
    from metaniche.evaluation.cell_summaries import CellSummary

    task = tasks[kind]
    block = CellSummary(use_expression=False) if kind == "cells" else Composition()
    model = SummaryModel("m", block, ForestClassifier(20))
    cv = cross_validate([model], cohort, task, folds_of(cohort, task))
    keys = ["unit_id", "site"] if kind == "sites" else ["unit_id"]
    assert not cv.predictions.duplicated(keys).any()
    assert set(cv.predictions["unit_id"]) == set(cohort.targets(task).table.index)


def test_a_role_that_the_table_does_not_know_is_refused(cohort, tasks, spy):
    folds = patient_folds(cohort.targets(tasks["binary"]), n_folds=3, n_repeats=1)
    with pytest.raises(ConfigError, match=r"'net'.*found 'network'"):
        cross_validate([spy("net", role="network")], cohort, tasks["binary"], folds)
