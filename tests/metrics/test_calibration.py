import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from metaniche.metrics import calibration_slope, cox_calibration_slope, ece


def predictions(seed, n=60, slope=1.0, intercept=0.0):
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=n)
    return (rng.random(n) < expit(intercept + slope * linear)).astype(float), expit(linear)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_slope_is_an_unpenalised_logistic_regression_for_every_weighting(seed):
    y, prob = predictions(seed)
    weight = np.random.default_rng(seed).integers(0, 3, (2, y.size)).astype(float)
    slope, intercept = calibration_slope(y, prob, weight)
    for row in range(2):
        model = LogisticRegression(C=1e10, tol=1e-10, max_iter=10_000).fit(logit(prob)[:, None], y, weight[row])
        assert slope[row] == pytest.approx(model.coef_[0, 0], abs=2e-3)
        assert intercept[row] == pytest.approx(model.intercept_[0], abs=2e-3)


def test_perfect_probabilities_have_slope_one_and_intercept_zero():
    y, prob = predictions(0, n=100_000)
    assert np.allclose(calibration_slope(y, prob), (1.0, 0.0), atol=0.03)
    y, prob = predictions(1, n=100_000, slope=0.5, intercept=-1.0)
    assert np.allclose(calibration_slope(y, prob), (0.5, -1.0), atol=0.03)


@pytest.mark.parametrize(
    ("y", "prob"),
    [
        ([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]),
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]),
        ([0, 1, 0, 1], [0.1, np.nan, 0.8, 0.9]),
    ],
    ids=["one class", "constant", "separated", "missing"],
)
def test_slope_without_a_finite_answer_is_nan(y, prob):
    assert np.isnan(calibration_slope(np.array(y), np.array(prob))).all()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_cox_slope_is_a_cox_regression(seed):
    rng = np.random.default_rng(seed)
    log_hazard = rng.normal(size=50)
    time = rng.exponential(np.exp(-0.7 * log_hazard))
    event = (rng.random(50) < 0.7).astype(float)
    table = pd.DataFrame({"x": log_hazard, "t": time, "e": event})
    expected = CoxPHFitter().fit(table, "t", "e", fit_options={"precision": 1e-12}).params_["x"]
    assert cox_calibration_slope(time, event, log_hazard) == pytest.approx(expected, abs=1e-6)
    repeated = np.repeat(np.arange(50), 2)
    assert cox_calibration_slope(time, event, log_hazard, np.full(50, 2.0)) == pytest.approx(
        cox_calibration_slope(time[repeated], event[repeated], log_hazard[repeated])
    )


def test_cox_slope_is_nan_without_events_or_with_constant_predictions():
    time, x = np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3])
    assert np.isnan(cox_calibration_slope(time, np.zeros(3), x))
    assert np.isnan(cox_calibration_slope(time, np.ones(3), np.zeros(3)))
    assert np.isnan(cox_calibration_slope(time, np.ones(3), -x))


def test_ece_by_hand_and_for_every_weighting():
    y, prob = np.array([0, 1, 1, 1.0]), np.array([0.05, 0.05, 0.95, 1.0])
    assert ece(y, prob) == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)
    weight = np.array([[1, 1, 1, 1], [2, 0, 0, 0], [0, 0, 0, 0.0]])
    np.testing.assert_allclose(ece(y, prob, weight=weight), [0.2375, 0.05, np.nan])


def test_ece_of_honest_probabilities_goes_to_zero():
    y, prob = predictions(3, n=200_000)
    assert ece(y, prob) < 0.01
    assert ece(y, np.clip(prob + 0.2, 0, 1)) > 0.1
