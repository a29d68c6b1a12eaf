from dataclasses import replace

import numpy as np
import pandas as pd
from tissue import COHORT, GRAPH

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.evaluation.estimator import Estimator
from metaniche.evaluation.network import NetworkEstimator
from metaniche.training import calibrate
from metaniche.training.calibrate import with_baseline
from metaniche.training.fit import FitConfig

CONFIG = FitConfig(
    parameters={"width": 8}, features=FeatureConfig(), epochs=1, sampling=SamplingConfig(windows=1, window_cells=30)
)
TASK = Task("b", "b", label="metastasis", positive=(1,))


def test_it_is_an_estimator_whose_name_for_the_cache_is_stable():
    network = NetworkEstimator("net", CONFIG, GRAPH, COHORT)
    assert isinstance(network, Estimator)
    assert repr(network) == repr(NetworkEstimator("net", CONFIG, GRAPH, COHORT))
    assert " at 0x" not in repr(network)


def test_only_cells_of_patients_it_was_not_trained_on_are_kept(small_cohort, tmp_path):
    samples, patients, table = small_cohort
    train = make_targets(TASK, patients, table).of([f"p{i}" for i in range(8)])
    network = NetworkEstimator("net", CONFIG, GRAPH, COHORT, cells_dir=tmp_path / "cells").fit(
        samples[:8], train, None, seed=0
    )
    prediction = network.predict(samples, None, [f"p{i}" for i in range(12)])
    assert prediction.risk.between(0, 1).all()
    kept = sorted(p.stem for p in (tmp_path / "cells").iterdir())
    assert kept == ["s10", "s11", "s8", "s9"]
    assert set(pd.read_parquet(tmp_path / "cells/s8.parquet")["patient_id"]) == {"p8"}


def test_a_control_sees_tissue_taken_apart(small_cohort):
    samples, patients, table = small_cohort
    targets = make_targets(TASK, patients, table)
    whole, apart = (
        NetworkEstimator("net", CONFIG, GRAPH, COHORT, tissue=tissue).fit(samples, targets, None, seed=0)
        for tissue in ("", "coordinates shuffled")
    )
    ids = list(targets.table.index)
    risks = [each.predict(samples, None, ids).risk for each in (whole, apart)]
    assert (risks[0] != risks[1]).any()


def test_a_temperature_is_fitted_on_patients_held_out_in_turn(small_cohort, monkeypatch):
    samples, patients, table = small_cohort
    targets = make_targets(TASK, patients, table)
    trained = []
    plain = NetworkEstimator._fit

    def watched(self, samples, targets, *rest):
        trained.append(set(targets.patients))
        return plain(self, samples, targets, *rest)

    monkeypatch.setattr(NetworkEstimator, "_fit", watched)
    ids = list(targets.table.index)
    raw, calibrated = (
        NetworkEstimator("net", CONFIG, GRAPH, COHORT, calibrate=k).fit(samples, targets, None, seed=0) for k in (0, 3)
    )
    temperature = calibrated._predictor.bundle.calibration["temperature"]
    assert calibrated._predictor.bundle.calibration["n_calibration"] == len(ids)
    assert [len(t) for t in trained] == [12, 12, 8, 8, 8]
    risk, other = (each.predict(samples, None, ids).risk for each in (raw, calibrated))
    np.testing.assert_allclose(
        np.log(risk / (1 - risk)) / temperature, np.log(other / (1 - other)), rtol=1e-4, atol=1e-5
    )


def test_log_hazards_of_a_cox_network_shrink_to_what_held_out_patients_ask_for_and_its_baseline_with_them(
    small_cohort, monkeypatch
):
    monkeypatch.setattr(calibrate, "MIN_CALIBRATION_EVENTS", 5)
    samples, patients, table = small_cohort
    targets = make_targets(Task("c", "c", kind="cox", time="time", event="event"), patients, table)
    ids = list(targets.table.index)
    raw, calibrated = (
        NetworkEstimator("net", CONFIG, GRAPH, COHORT, calibrate=k).fit(samples, targets, None, seed=0) for k in (0, 3)
    )
    bundle = calibrated._predictor.bundle
    temperature = bundle.calibration["temperature"]
    assert bundle.calibration["n_calibration"] == len(ids)
    risk, other = (each.predict(samples, None, ids).risk for each in (raw, calibrated))
    np.testing.assert_allclose(risk / temperature, other, rtol=1e-4, atol=1e-5)
    without = replace(bundle, calibration={"temperature": temperature})
    assert bundle.calibration["baseline"] == with_baseline(without, samples, targets, None).calibration["baseline"]
    assert bundle.calibration["baseline"] != raw._predictor.bundle.calibration["baseline"]
