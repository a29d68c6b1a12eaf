import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, NelsonAalenFitter
from sklearn.preprocessing import StandardScaler

from metaniche.data.task import Targets, Task
from metaniche.evaluation.learners import ForestClassifier, ForestHazard, PenalisedCox, RidgeLogistic, null_martingale
from metaniche.metrics import auroc, harrell_c

BINARY = Task("b", "b", label="y", positive=(1,))
COX = Task("c", "c", kind="cox", time="time", event="event")


def binary(seed=0, n=40, p=5, effect=2.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    y = (rng.random(n) < 1 / (1 + np.exp(-effect * x[:, 0]))).astype(float)
    return _tables(BINARY, x, {"y": y})


def survival(seed=0, n=40, p=5, effect=1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    time = rng.exponential(np.exp(-effect * x[:, 0])) + 0.01
    return _tables(COX, x, {"time": time, "event": (rng.random(n) < 0.7).astype(float)})


def _tables(task, x, labels):
    names = [f"p{i}" for i in range(len(x))]
    return pd.DataFrame(x, index=names), Targets(task, pd.DataFrame({"patient_id": names, **labels}, index=names))


@pytest.mark.parametrize("learner", [RidgeLogistic(), ForestClassifier(50)], ids=repr)
def test_classifiers_find_a_signal_and_their_probabilities_stay_inside(learner):
    x, targets = binary(0, n=200)
    new, truth = binary(1, n=200)
    risk = learner.fit(x, targets, 0).risk(new)
    assert auroc(truth.table["y"], risk) > 0.8
    assert 0 < risk.min() < risk.max() < 1
    assert learner.survival(new) is None


@pytest.mark.parametrize("learner", [PenalisedCox((0.1, 1.0)), ForestHazard(50)], ids=repr)
def test_survival_learners_find_a_signal_and_give_curves(learner):
    x, targets = survival(0)
    new, truth = survival(1)
    fitted = learner.fit(x, targets, 0)
    risk, curves = fitted.risk(new), fitted.survival(new)
    assert harrell_c(truth.table["time"], truth.table["event"], risk) > 0.6
    assert curves.index.equals(new.index)
    values = curves.to_numpy()
    assert (np.diff(values, axis=1) <= 0).all()
    assert 0 <= values.min() <= values.max() <= 1
    assert curves.iloc[:, -1].rank().equals((-pd.Series(risk, new.index)).rank())


@pytest.mark.parametrize("learner", [RidgeLogistic(), ForestClassifier(100)], ids=repr)
def test_training_risks_are_held_out(learner):
    """On pure noise with more columns than rows, risks of the fitted units look perfect and held-out ones do not."""
    x, targets = binary(0, n=60, p=100, effect=0.0)
    y = targets.table["y"].to_numpy()
    if isinstance(learner, RidgeLogistic):
        learner = RidgeLogistic(c_grid=(10.0,))
    learner.fit(x, targets, 0)
    assert auroc(y, learner.risk(x)) > 0.99
    assert 0.25 < auroc(y, learner.train_risk) < 0.75


def test_noise_is_penalised_more_than_signal():
    noise = RidgeLogistic().fit(*binary(0, n=60, p=40, effect=0.0), 0)
    signal = RidgeLogistic().fit(*binary(0, n=60, p=2, effect=4.0), 0)
    assert noise.c < signal.c


@pytest.mark.parametrize("learner", [RidgeLogistic(), ForestClassifier(20)], ids=repr)
def test_one_class_in_training_gives_its_frequency(learner):
    x, targets = binary(0)
    targets.table["y"] = 1.0
    assert (learner.fit(x, targets, 0).risk(x) == 1.0).all()


def test_a_refit_forgets_the_last_fit():
    learner, (x, targets) = RidgeLogistic(), binary(0)
    learner.fit(x, targets, 0)
    flat = Targets(BINARY, targets.table.assign(y=0.0))
    assert (learner.fit(x, flat, 0).risk(x) == 0.0).all()


@pytest.mark.parametrize("learner", [RidgeLogistic(), ForestClassifier(20)], ids=repr)
def test_missing_values_take_the_training_median(learner):
    x, targets = binary(0)
    x.iloc[:, 1] = np.where(np.arange(40) % 3 == 0, np.nan, x.iloc[:, 1])
    x.iloc[:, 2] = np.nan
    fitted = learner.fit(x, targets, 0)
    row = x.iloc[[0]].copy()
    filled = row.fillna({1: x.iloc[:, 1].median()})
    np.testing.assert_allclose(fitted.risk(row), fitted.risk(filled))


def test_cox_is_that_of_lifelines_on_standardised_columns():
    """Ridge on standardised features, the penalty undone for lifelines' own scaling, against the rotated fit."""
    x, targets = survival(2)
    fitted = PenalisedCox((0.3,)).fit(x, targets, 0)
    scaled = pd.DataFrame(StandardScaler().fit_transform(x), columns=[f"x{i}" for i in range(5)])
    table = scaled.assign(time=targets.table["time"].to_numpy(), event=targets.table["event"].to_numpy())
    direct = CoxPHFitter(penalizer=0.3 / scaled.std().to_numpy() ** 2).fit(table, "time", "event")
    expected = direct.predict_log_partial_hazard(scaled)
    np.testing.assert_allclose(fitted.risk(x) - fitted.risk(x).mean(), expected - expected.mean(), atol=1e-4)
    curves = direct.predict_survival_function(scaled).T
    np.testing.assert_allclose(fitted.survival(x), curves[fitted.survival(x).columns], atol=0.02)


def test_cox_with_more_columns_than_patients_halves_coefficients_of_doubled_columns():
    x, targets = survival(0, n=25, p=60)
    scaled = pd.DataFrame(StandardScaler().fit_transform(x), index=x.index)
    one = PenalisedCox((1.0,)).fit(scaled, targets, 0).risk(scaled)
    assert one.std() > 0
    doubled = pd.concat([scaled, scaled], axis=1).set_axis(range(120), axis=1)
    half = PenalisedCox((2.0,)).fit(doubled, targets, 0).risk(doubled)
    np.testing.assert_allclose(half, one, atol=1e-4)


def test_cox_without_events_gives_everybody_the_same_risk():
    x, targets = survival(0)
    targets.table["event"] = 0.0
    fitted = PenalisedCox().fit(x, targets, 0)
    assert (fitted.risk(x) == 0).all()
    assert fitted.survival(x).shape == (40, 0)


def test_martingale_residuals_are_event_minus_nelson_aalen():
    _, targets = survival(3)
    time, event = targets.table["time"].to_numpy(), targets.table["event"].to_numpy()
    residual = null_martingale(time, event)
    hazard = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(time, event).cumulative_hazard_at_times(time)
    np.testing.assert_allclose(residual, event - hazard.to_numpy(), atol=1e-9)
    assert residual.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "learner", [RidgeLogistic(), ForestClassifier(20), PenalisedCox((0.1,)), ForestHazard(20)], ids=repr
)
def test_the_seed_decides_the_fit(learner):
    x, targets = survival(0) if isinstance(learner, PenalisedCox | ForestHazard) else binary(0)
    first = learner.fit(x, targets, 7).risk(x)
    np.testing.assert_array_equal(learner.fit(x, targets, 7).risk(x), first)


def test_where_nothing_speaks_for_a_weaker_penalty_the_strongest_is_taken():
    rng = np.random.default_rng(0)
    names = [f"p{i}" for i in range(12)]
    task = Task("c", "c", kind="cox", time="time", event="event")
    table = pd.DataFrame({"patient_id": names, "time": rng.uniform(1, 9, 12), "event": [1.0] + [0.0] * 11}, names)
    model = PenalisedCox().fit(pd.DataFrame(rng.normal(size=(12, 20)), names), Targets(task, table), 0)
    assert model.penalizer == max(model.penalizer_grid)
