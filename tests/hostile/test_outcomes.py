"""Labels and tissue that leave a network nothing to learn from: a clear error or a stated fallback, never NaN."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tissue import COHORT, GRAPH, READ

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.splits import Fold, patient_folds
from metaniche.data.task import Task, make_targets
from metaniche.evaluation import cross_validate
from metaniche.evaluation.network import NetworkEstimator
from metaniche.evaluation.table import comparison_table
from metaniche.models import ARCHITECTURES
from metaniche.predict import Predictor
from metaniche.signaling import Resource
from metaniche.training.fit import FitConfig, fit_bundle

PAIRS = Resource(pd.DataFrame({"ligand": ["CXCL12", "KRT8"], "receptor": ["CXCR4", "CD3E"]}), "made up")
TASKS = {
    "binary": Task("b", "b", label="metastasis", positive=(1,)),
    "cox": Task("c", "c", kind="cox", time="time", event="event"),
    "discrete_time": Task("d", "d", kind="discrete_time", time="time", event="event", n_bins=4),
    "sites": Task("s", "s", kind="sites", sites=("liver", "lung")),
}
# name -> task kind, and the column of patients that is overwritten with what.
LABELS = {
    "all of one class": ("binary", {"metastasis": 1}),
    "one of the other class": ("binary", {"metastasis": [1] + [0] * 11}),
    "no event, Cox": ("cox", {"event": 0}),
    "one event, Cox": ("cox", {"event": [1] + [0] * 11}),
    "all at the same time, Cox": ("cox", {"time": 5.0}),
    "no event, discrete": ("discrete_time", {"event": 0}),
    "one event, discrete": ("discrete_time", {"event": [1] + [0] * 11}),
    "all at the same time, discrete": ("discrete_time", {"time": 5.0}),
    "a site never observed": ("sites", {"lung": np.nan}),
    "a site never reached": ("sites", {"lung": 0.0}),
}


def config(name, pool="all"):
    return FitConfig(
        name, {"width": 8}, features=FeatureConfig(), epochs=2, pool=pool, resource=PAIRS,
        sampling=SamplingConfig(windows=1, window_cells=40, batch_size=4),
    )  # fmt: skip


def finite(scores):
    assert np.isfinite(scores.units["risk"]).all()
    assert np.isfinite(scores.cells["metaniche_attention"]).all()
    malignant = scores.cells["is_malignant"].to_numpy(bool)
    assert np.isfinite(scores.cells.loc[malignant, "metaniche_potential"]).all()
    if scores.survival is not None:
        assert np.isfinite(scores.survival.to_numpy()).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("case", LABELS)
def test_labels_that_tell_nothing_give_finite_scores(small_cohort, name, case):
    samples, patients, table = small_cohort
    kind, values = LABELS[case]
    patients = patients.assign(**values)
    bundle = fit_bundle(samples, make_targets(TASKS[kind], patients, table), config(name), **READ)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        finite(Predictor(bundle).score(samples))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("all of one class", "all 12 labels are 1: only the base rate"),
        ("no event, Cox", "no event among 12 units"),
        ("one event, discrete", "1 event among 12 units"),
        ("a site never observed", "site lung: no label among 8 units"),
        ("a site never reached", "site lung: all 12 labels are 0"),
        ("one of the other class", None),
    ],
)
def test_what_labels_cannot_teach_is_said(small_cohort, caplog, case, words):
    samples, patients, table = small_cohort
    kind, values = LABELS[case]
    task = replace(TASKS[kind], name=f"words of {case}")
    fit_bundle(samples, make_targets(task, patients.assign(**values), table), config("AttentionMIL"), **READ)
    said = [r.getMessage() for r in caplog.records if task.name in r.getMessage()]
    assert len(said) == (words is not None)
    assert words is None or words in said[0]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("pool", ["all", "malignant"])
@pytest.mark.parametrize("how_many", [1, 12])
def test_samples_without_a_malignant_cell_are_scored_and_doubted(small_cohort, name, pool, how_many):
    samples, patients, table = small_cohort
    without = [
        replace(s, cells=s.cells.assign(cell_type=pd.Categorical(["t cell"] * s.n_cells), is_malignant=False))
        if i < how_many
        else s
        for i, s in enumerate(samples)
    ]
    bundle = fit_bundle(without, make_targets(TASKS["binary"], patients, table), config(name, pool), **READ)
    scores = Predictor(bundle).score(without, coverage_floor=0.0)
    finite(scores)
    assert scores.units["note"].str.contains("no malignant cell").sum() == how_many


@pytest.mark.parametrize("name", ["SeedSoil"])
@pytest.mark.parametrize("kind", ["cox", "discrete_time", "binary"])
def test_a_fold_without_an_event_is_judged_without_nan(small_cohort, name, kind):
    """All events are on one side of each split."""
    samples, patients, table = small_cohort
    ids = list(patients.index)
    patients = patients.assign(event=[1] * 6 + [0] * 6, metastasis=[1] * 6 + [0] * 6)
    cohort = type("Cohort", (), {})()
    cohort.name, cohort.folder, cohort.samples, cohort.patients = "made up", table.index, table, patients
    cohort.of = lambda wanted: [s for s in samples if s.patient_id in set(wanted)]
    cohort.targets = lambda task: make_targets(task, patients, table)
    folds = [Fold(0, 0, tuple(ids[:6]), tuple(ids[6:])), Fold(0, 1, tuple(ids[6:]), tuple(ids[:6]))]
    network = NetworkEstimator("net", config(name), GRAPH, COHORT)
    cv = cross_validate([network], cohort, TASKS[kind], folds)
    assert np.isfinite(cv.predictions["risk"]).all()
    row = comparison_table(cv, 20).iloc[0]
    primary = "auroc" if kind == "binary" else "harrell_c"
    assert np.isfinite(row[primary])


def test_a_cohort_of_one_class_cannot_be_split_and_it_is_said_or_split_anyway(small_cohort):
    _, patients, table = small_cohort
    targets = make_targets(TASKS["binary"], patients.assign(metastasis=1), table)
    folds = patient_folds(targets, n_folds=3, n_repeats=1)
    assert sorted(p for fold in folds for p in fold.test) == sorted(patients.index)
