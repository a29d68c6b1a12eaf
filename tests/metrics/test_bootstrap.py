import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.metrics import auroc, bootstrap_ci, paired_difference, resample_weights
from metaniche.metrics.bootstrap import interval, two_sided_p


def mean_of(values):
    return lambda w: values.mean() if w is None else (w @ values) / w.sum(1)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 10**6))
def test_a_patients_units_are_drawn_together_and_patients_add_up(n_patients, seed):
    patients = np.array([f"p{i % n_patients}" for i in range(3 * n_patients)])
    weight = resample_weights(patients, 50, seed)
    for patient in np.unique(patients):
        own = weight[:, patients == patient]
        assert (own == own[:, :1]).all()
    assert (weight[:, :n_patients].sum(1) == n_patients).all()


def test_draws_depend_on_patients_and_seed_only():
    few, many = np.array(["b", "a"]), np.array(["a", "b", "b"])
    np.testing.assert_array_equal(resample_weights(few, 20, 1)[:, [1, 0, 0]], resample_weights(many, 20, 1))
    assert (resample_weights(few, 20, 1) != resample_weights(few, 20, 2)).any()


def test_interval_of_a_mean_has_the_width_of_theory_and_covers():
    rng, covered, widths = np.random.default_rng(0), 0, []
    for trial in range(200):
        values = rng.normal(size=40)
        _, low, high = bootstrap_ci(mean_of(values), np.arange(40).astype(str), n_boot=400, seed=trial)
        covered += low <= 0 <= high
        widths.append(high - low)
    assert 0.90 <= covered / 200 <= 0.98
    assert np.mean(widths) == pytest.approx(2 * 1.96 / np.sqrt(40), rel=0.1)


def test_cells_of_a_patient_do_not_narrow_the_interval():
    """A hundred cells of each of ten patients carry ten patients' worth of information."""
    of_patient = np.random.default_rng(1).normal(size=10)
    one = bootstrap_ci(mean_of(of_patient), np.arange(10).astype(str), 500, 0)
    cells = bootstrap_ci(mean_of(np.repeat(of_patient, 100)), np.repeat(np.arange(10), 100).astype(str), 500, 0)
    np.testing.assert_allclose(one, cells)


def test_resamples_of_one_class_are_left_out_and_said():
    y, score = np.array([1, 0, 0, 0, 0]), np.array([5.0, 4, 3, 2, 1])
    with pytest.warns(UserWarning, match="undefined"):
        estimate, low, high = bootstrap_ci(lambda w: auroc(y, score, w), np.arange(5).astype(str))
    assert (estimate, low, high) == (1.0, 1.0, 1.0)


def test_interval_counts_what_it_skips():
    assert interval(np.array([1.0, np.nan, 1.0, np.nan])) == (1.0, 1.0, 2)
    assert np.isnan(interval(np.full(3, np.nan))[:2]).all()


def test_difference_of_a_model_with_itself_is_zero_and_p_one():
    values = np.random.default_rng(0).normal(size=20)
    assert paired_difference(mean_of(values), mean_of(values), np.arange(20).astype(str)) == (0.0, 0.0, 0.0, 1.0)


def test_pairing_finds_a_small_difference_that_the_intervals_hide():
    rng = np.random.default_rng(0)
    base = rng.normal(size=30)
    better, units = base + 0.3 + 0.05 * rng.normal(size=30), np.arange(30).astype(str)
    difference, low, high, p = paired_difference(mean_of(better), mean_of(base), units)
    assert low < difference < high
    assert low > 0
    assert p == pytest.approx(2 / 1001)
    assert bootstrap_ci(mean_of(better), units)[1] < bootstrap_ci(mean_of(base), units)[2]


def test_p_is_symmetric_never_zero_and_uniform_enough_under_the_null():
    draws = np.random.default_rng(0).normal(1.0, 1.0, 999)
    assert two_sided_p(draws) == two_sided_p(-draws)
    assert two_sided_p(np.full(999, 4.0)) == pytest.approx(2 / 1000)
    assert np.isnan(two_sided_p(np.array([np.nan])))
    rng, small = np.random.default_rng(1), 0
    for trial in range(300):
        a, b = rng.normal(size=(2, 40))
        small += paired_difference(mean_of(a), mean_of(b), np.arange(40).astype(str), 300, trial)[3] < 0.05
    assert small / 300 < 0.10
