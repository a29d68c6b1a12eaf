from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from metaniche.data.splits import patient_folds
from metaniche.data.task import Targets, Task
from metaniche.errors import ConfigError
from metaniche.evaluation.baselines import SummaryModel
from metaniche.evaluation.estimator import Prediction
from metaniche.evaluation.learners import RidgeLogistic
from metaniche.evaluation.permutation import permutation_control, permute_labels, why_no_control
from metaniche.evaluation.summaries import Composition


def three_folds(targets):
    return patient_folds(targets, n_folds=3, n_repeats=1)


def test_a_real_effect_is_gone_under_permuted_labels(cohort, tasks):
    model = SummaryModel("composition", Composition(), RidgeLogistic((0.1, 1.0)))
    control = permutation_control(model, cohort, tasks["binary"], three_folds, n_permutations=4, n_boot=200)
    assert control.holds_chance
    assert control.low <= 0.5 <= control.high < 0.95
    assert control.estimate == pytest.approx(np.mean(control.values))
    assert (control.model, control.metric, len(control.values)) == ("composition", "auroc", 4)


def test_a_procedure_that_leaks_is_caught(cohort, tasks):
    """A model that carries the permuted labels of the test patients over from elsewhere does not hold 0.5."""

    class Cheat(SummaryModel):
        def predict(self, samples, clinical, unit_ids):
            return Prediction(leaked.loc[list(unit_ids)])

    def folds(targets):
        nonlocal leaked
        leaked = 0.1 + 0.8 * targets.table["y"]
        return three_folds(targets)

    leaked = None
    model = Cheat("cheat", Composition(), RidgeLogistic((1.0,)))
    control = permutation_control(model, cohort, tasks["binary"], folds, n_permutations=2, n_boot=100)
    assert not control.holds_chance


def test_a_control_goes_on_where_it_stopped(cohort, tasks, tmp_path):
    fits = []

    class Counted(SummaryModel):
        def fit(self, *args):
            fits.append(self.name)
            return super().fit(*args)

    def control(n_permutations):
        model = Counted("counted", Composition(), RidgeLogistic((1.0,)))
        return permutation_control(
            model, cohort, tasks["binary"], three_folds, n_permutations, n_boot=20, run_dir=tmp_path
        )

    first, more = control(1), control(2)
    assert len(fits) == 6
    assert more.values[0] == first.values[0]


@pytest.mark.parametrize("kind", ["binary", "cox", "sites"])
def test_whole_patients_exchange_their_labels(cohort, tasks, kind):
    targets = cohort.targets(tasks[kind])
    permuted = permute_labels(targets, 1)
    labels = {"binary": ["y"], "sites": ["liver", "lung"]}.get(kind, ["time", "event"])
    before, after = (sorted(map(tuple, t.table[labels].fillna(-1).to_numpy())) for t in (targets, permuted))
    assert before == after
    assert not targets.table[labels].equals(permuted.table[labels])
    pd.testing.assert_series_equal(targets.table["patient_id"], permuted.table["patient_id"])
    pd.testing.assert_frame_equal(permuted.table, permute_labels(targets, 1).table)


def test_samples_of_one_patient_stay_alike(cohort_of, tasks):
    targets = cohort_of(8, samples_per_patient=2).targets(replace(tasks["binary"], level="sample"))
    permuted = permute_labels(targets, 0)
    assert permuted.table.groupby("patient_id")["y"].nunique().eq(1).all()
    assert not permuted.table["y"].equals(targets.table["y"])
    assert permuted.table["y"].sum() == targets.table["y"].sum()


def test_cells_are_shuffled_within_their_patient(cohort, tasks):
    targets = cohort.targets(tasks["cells"])
    permuted = permute_labels(targets, 0)
    before, after = (t.table.groupby("patient_id")["y"].sum() for t in (targets, permuted))
    pd.testing.assert_series_equal(before, after)
    assert (targets.table["y"] != permuted.table["y"]).mean() > 0.2


def test_progress_runs_through_all_permutations(cohort, tasks):
    seen = []
    model = SummaryModel("m", Composition(), RidgeLogistic((1.0,)))
    permutation_control(
        model, cohort, tasks["binary"], three_folds, n_permutations=2, n_boot=20, progress=lambda *a: seen.append(a)
    )
    assert [done for done, _, _ in seen] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert seen[-1][1] == 6
    assert seen[0][2] == "permutation 1: m, repeat 1, fold 1"


def units(*rows, sites=False):
    """Targets of samples: patient and label, or labels of two sites, of each."""
    columns = ["liver", "lung"] if sites else ["y"]
    table = pd.DataFrame([(p, *y) for p, *y in rows], columns=["patient_id", *columns])
    task = Task("t", "t", level="sample", kind="sites", sites=columns) if sites else Task(
        "t", "t", level="sample", label="y", positive=(1,)
    )  # fmt: skip
    return Targets(task, table.set_axis([f"s{i}" for i in range(len(table))]))


NAN = float("nan")
PATIENTS = [f"p{i:02d}" for i in range(30)]
SAMPLES = {
    "one patient of many has two samples that differ": units(
        *((p, float(i % 2)) for i, p in enumerate(PATIENTS)), ("p00", 1.0)
    ),
    "all samples differ": units(*((p, y) for p in PATIENTS for y in (0.0, 1.0))),
    "sites alike within patients, some unknown": units(
        *((p, float(i % 2), (NAN, 0.0, 1.0)[i % 3]) for i, p in enumerate(PATIENTS) for _ in "ab"), sites=True
    ),
    "sites that differ": units(
        *((p, float(k), float(i % 2)) for i, p in enumerate(PATIENTS) for k in (0, 1)), sites=True
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_labels_of_samples_move_between_patients_and_stay_together(name):
    """Whatever differs within patients: each one's set of labels is another's, and many units have another label."""
    targets, moved = SAMPLES[name], []
    columns = [c for c in targets.table if c != "patient_id"]

    def bundles(of):
        by_patient = of.table[columns].fillna(-1).groupby(of.table["patient_id"])
        return sorted(tuple(sorted(map(tuple, rows.to_numpy()))) for _, rows in by_patient)

    for seed in range(10):
        permuted = permute_labels(targets, seed)
        assert bundles(permuted) == bundles(targets)
        before, after = (t.table[columns].fillna(-1).to_numpy() for t in (targets, permuted))
        moved.append((before != after).any(axis=1).mean())
    assert np.mean(moved) > 0.3
    assert why_no_control(targets) is None


def test_where_nobody_can_exchange_a_control_is_refused_in_words(cohort, tasks):
    """Every patient has another number of samples, all but one of one label each."""
    rows = [(f"p{i}", float(i % 2)) for i in range(1, 9) for _ in range(i)]
    stuck = units(*rows, ("p9", 0.0), *(("p9", 1.0) for _ in range(8)))
    assert "of 45 units change theirs" in why_no_control(stuck)
    model = SummaryModel("m", Composition(), RidgeLogistic((1.0,)))
    with pytest.raises(ConfigError, match=r"cannot be permuted enough.*permutation_control=false"):
        permutation_control(model, cohort, tasks["binary"], three_folds, targets=stuck)
    for kind in ("binary", "cox", "sites", "cells"):
        assert why_no_control(cohort.targets(tasks[kind])) is None
