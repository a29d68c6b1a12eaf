from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr, ttest_1samp
from tissue import READ, make_sample

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.explain import state_associations
from metaniche.io import keys
from metaniche.predict import Predictor
from metaniche.training.fit import FitConfig, fit_bundle

PANEL = tuple(f"g{i}" for i in range(6))
SETS = {"first": PANEL[:3], "last": PANEL[3:]}


@pytest.fixture(scope="module")
def scored():
    samples = [make_sample(f"s{i}", f"p{i % 6}", seed=i, markers=PANEL, n_cells=120) for i in range(8)]
    patients = pd.DataFrame({"metastasis": [0, 1] * 3}, index=[f"p{i}" for i in range(6)])
    table = pd.DataFrame({"patient_id": [s.patient_id for s in samples]}, index=[s.sample_id for s in samples])
    targets = make_targets(Task("t", "a task", label="metastasis", positive=(1,)), patients, table)
    config = FitConfig(
        "AttentionMIL",
        {"width": 8},
        FeatureConfig(gene_sets=SETS),
        SamplingConfig(windows=1, window_cells=40),
        epochs=1,
    )
    predictor = Predictor(fit_bundle(samples, targets, config, **READ))
    return predictor, samples, predictor.score(samples)


def test_correlations_are_spearmans_of_malignant_cells_patient_by_patient(scored):
    predictor, samples, scores = scored
    found = state_associations(predictor, samples, scores)
    by_patient = {}
    for patient in {s.patient_id for s in samples}:
        mine = [s for s in samples if s.patient_id == patient]
        states = np.concatenate([predictor.features.state_scores(s)[s.is_malignant] for s in mine])
        cells = scores.cells.set_index(keys.SAMPLE)
        potential = np.concatenate([cells.loc[[s.sample_id], keys.POTENTIAL].to_numpy()[s.is_malignant] for s in mine])
        by_patient[patient] = [spearmanr(states[:, k], potential).statistic for k in range(2)]
    for k, name in enumerate(SETS):
        values = np.array([v[k] for v in by_patient.values()])
        interval = ttest_1samp(np.arctanh(values), 0).confidence_interval(0.95)
        assert found.loc[name, ["correlation", "low", "high"]].tolist() == pytest.approx(
            np.tanh([np.arctanh(values).mean(), interval.low, interval.high]).tolist(), abs=1e-6
        )
    assert (found["n_patients"] == 6).all()
    assert found["correlation"].abs().is_monotonic_decreasing


def test_patients_with_few_malignant_cells_do_not_count_and_few_patients_say_nothing(scored):
    predictor, samples, scores = scored
    few = [replace(s, cells=s.cells.assign(is_malignant=np.arange(s.n_cells) < 5)) for s in samples]
    mixed = [f if s.patient_id in ("p2", "p3") else s for s, f in zip(samples, few)]
    assert (state_associations(predictor, mixed, scores)["n_patients"] == 4).all()
    assert state_associations(predictor, few, scores).empty
