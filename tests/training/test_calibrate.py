from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from tissue import READ

from metaniche.data.features import FeatureConfig
from metaniche.data.sampling import SamplingConfig
from metaniche.data.task import Task, make_targets
from metaniche.training.calibrate import with_baseline, with_shrunken_hazards, with_temperature
from metaniche.training.fit import FitConfig, fit_bundle

BINARY = Task("t", "a task", label="metastasis", positive=(1,))
COX = Task("c", "c", kind="cox", time="time", event="event")
CONFIG = FitConfig(
    parameters={"width": 8}, features=FeatureConfig(), epochs=1, sampling=SamplingConfig(windows=1, window_cells=30)
)


def test_a_temperature_is_fitted_on_held_out_patients_only_when_there_are_enough(small_cohort):
    samples, patients, table = small_cohort
    targets = make_targets(BINARY, patients, table)
    train = targets.of(["p0", "p1"])
    few = fit_bundle(samples, train, CONFIG, val_targets=targets.of(["p2", "p3"]), **READ)
    held_out = targets.of([f"p{i}" for i in range(2, 12)])
    many = fit_bundle(samples, train, CONFIG, val_targets=held_out, **READ)
    assert "temperature" not in few.calibration
    assert many.calibration["n_calibration"] == 10


def test_no_other_temperature_suits_the_held_out_units_better(small_cohort):
    """Logits from -4 to 4 that tell ten of twelve labels: far too sure, and the best temperature is within the bounds."""
    samples, patients, table = small_cohort
    targets = make_targets(BINARY, patients, table)
    bundle = fit_bundle(samples, targets, CONFIG, **READ)
    logit = torch.linspace(-4, 4, 12, dtype=torch.float64)
    y = (logit > 0).double()
    y[[1, 9]] = 1 - y[[1, 9]]
    units = pd.DataFrame({"risk": torch.sigmoid(logit).numpy()}, index=targets.table.index)
    y_of = pd.Series(y.numpy(), index=units.index)
    temperature = with_temperature(bundle, units["risk"], y_of).calibration["temperature"]

    def loss(t):
        return torch.nn.functional.binary_cross_entropy_with_logits(logit / t, y)

    assert temperature > 1.2
    assert all(loss(temperature) < loss(temperature * factor) for factor in (0.8, 0.95, 1.05, 1.25))


def test_one_class_gives_no_temperature(small_cohort):
    samples, patients, table = small_cohort
    targets = make_targets(BINARY, patients, table)
    bundle = fit_bundle(samples, targets, CONFIG, **READ)
    risk = pd.Series(np.linspace(0.1, 0.9, 12), index=targets.table.index)
    assert with_temperature(bundle, risk, risk * 0 + 1) is bundle


def test_the_baseline_rises_at_the_events_of_the_training_units(small_cohort):
    samples, patients, table = small_cohort
    targets = make_targets(COX, patients, table)
    bundle = fit_bundle(samples, targets, CONFIG, **READ)
    baseline = with_baseline(replace(bundle, calibration={}), samples, targets, None).calibration["baseline"]
    assert baseline == bundle.calibration["baseline"]
    events = patients.loc[patients["event"] == 1, "time"]
    assert np.allclose(baseline["time"], sorted(events))
    assert (np.diff(baseline["hazard"]) > 0).all()


def survival_of_two_networks(n=400, overstated=3.0):
    """Log-hazards three times too far apart, by two networks whose zeros differ."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=n)
    time, censored = rng.exponential(np.exp(-true)), rng.exponential(2.0, n)
    ids = pd.Index([f"u{i}" for i in range(n)])
    table = pd.DataFrame({"time": np.minimum(time, censored), "event": (time <= censored).astype(float)}, index=ids)
    risk = pd.Series(overstated * true, index=ids)
    return [risk[: n // 2] + 5.0, risk[n // 2 :]], table


def test_log_hazards_are_divided_by_what_held_out_units_ask_for(small_cohort):
    samples, patients, table = small_cohort
    bundle = fit_bundle(samples, make_targets(COX, patients, table), CONFIG, **READ)
    risks, outcomes = survival_of_two_networks()
    found = with_shrunken_hazards(bundle, risks, outcomes).calibration
    assert found["n_calibration"] == 400
    assert 2.5 < found["temperature"] < 3.6
    moved = with_shrunken_hazards(bundle, [risks[0] - 9.0, risks[1]], outcomes).calibration
    np.testing.assert_allclose(moved["temperature"], found["temperature"], rtol=1e-6)


def test_hazards_are_never_drawn_apart(small_cohort, caplog):
    samples, patients, table = small_cohort
    bundle = fit_bundle(samples, make_targets(COX, patients, table), CONFIG, **READ)
    found = with_shrunken_hazards(bundle, *survival_of_two_networks(overstated=0.3))
    assert 1.0 <= found.calibration["temperature"] < 1.01
    assert "bound" not in caplog.text
    with_shrunken_hazards(bundle, *survival_of_two_networks(overstated=-3.0))
    assert "risks tell nothing of the patients held out" in caplog.text


def test_too_few_units_or_events_leave_hazards_as_they_are(small_cohort):
    samples, patients, table = small_cohort
    bundle = fit_bundle(samples, make_targets(COX, patients, table), CONFIG, **READ)
    risks, outcomes = survival_of_two_networks()
    assert with_shrunken_hazards(bundle, [risks[0][:9]], outcomes) is bundle
    quiet = outcomes.assign(event=[1.0] * 9 + [0.0] * 391)
    assert with_shrunken_hazards(bundle, risks, quiet) is bundle
    assert with_shrunken_hazards(bundle, [], outcomes) is bundle
