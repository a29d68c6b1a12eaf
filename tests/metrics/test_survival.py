import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.metrics import concordance, harrell_c, integrated_brier, uno_c
from metaniche.metrics.survival import censoring_survival, partial_log_likelihood


def follow_up(seed, n, decimals=1):
    """Times with ties, at least one event and one censoring; the longest time is censored."""
    rng = np.random.default_rng(seed)
    time = np.round(rng.exponential(5.0, n), decimals) + 0.1
    event = rng.integers(0, 2, n)
    event[np.argmin(time)] = 1
    event[time == time.max()] = 0
    return time, event, np.round(rng.normal(size=n), 1)


def untied(seed, n):
    """Training times that no test time shares: at ties scikit-survival takes G after the censorings, we before."""
    time, event, risk = follow_up(seed, n)
    return time + 0.05, event, risk


def structured(time, event):
    return np.array(list(zip(event.astype(bool), time)), dtype=[("event", bool), ("time", float)])


cases = {"seed": st.integers(0, 10**6), "n": st.integers(8, 40)}


@settings(max_examples=40, deadline=None)
@given(**cases)
def test_harrell_is_that_of_scikit_survival(seed, n):
    metrics = pytest.importorskip("sksurv.metrics")
    time, event, risk = follow_up(seed, n)
    assert harrell_c(time, event, risk) == pytest.approx(metrics.concordance_index_censored(event == 1, time, risk)[0])


@settings(max_examples=40, deadline=None)
@given(**cases)
def test_uno_is_that_of_scikit_survival(seed, n):
    metrics = pytest.importorskip("sksurv.metrics")
    time, event, risk = follow_up(seed, n)
    train_time, train_event, _ = untied(seed + 1, 60)
    tau = float(np.quantile(train_time, 0.7))
    if not ((event == 1) & (time < tau)).any():
        return
    expected = metrics.concordance_index_ipcw(
        structured(train_time, train_event), structured(time, event), risk, tau=tau
    )[0]
    assert uno_c(time, event, risk, train_time, train_event, tau) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(**cases)
def test_integrated_brier_is_that_of_scikit_survival(seed, n):
    metrics = pytest.importorskip("sksurv.metrics")
    time, event, _ = follow_up(seed, n)
    train_time, train_event, _ = untied(seed + 1, 60)
    train_time = np.append(train_time, time.max() + 1)
    train_event = np.append(train_event, 0)
    grid = np.linspace(time.min(), time.max() - 0.05, 9)
    survival = np.sort(np.random.default_rng(seed).uniform(size=(n, 9)), axis=1)[:, ::-1]
    expected = metrics.integrated_brier_score(
        structured(train_time, train_event), structured(time, event), survival, grid
    )
    found = integrated_brier(time, event, survival, grid, train_time, train_event)
    assert found == pytest.approx(expected)


def test_without_censoring_uno_is_harrell_and_brier_is_the_mean_square():
    rng = np.random.default_rng(0)
    time, event, risk = rng.exponential(size=30), np.ones(30), rng.normal(size=30)
    assert uno_c(time, event, risk, time, event) == pytest.approx(harrell_c(time, event, risk))
    grid = np.linspace(0.1, 1.0, 5)
    survival = rng.uniform(size=(30, 5))
    plain = np.mean(((time[:, None] > grid) - survival) ** 2, axis=0)
    expected = np.trapezoid(plain, grid) / 0.9
    assert integrated_brier(time, event, survival, grid, time, event) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(**cases)
def test_integer_weights_are_repeated_units(seed, n):
    time, event, risk = follow_up(seed, n)
    weight = np.random.default_rng(seed).integers(0, 3, n)
    repeated = np.repeat(np.arange(n), weight)
    rows = np.stack([np.ones(n), weight])
    expected = [harrell_c(time, event, risk), harrell_c(time[repeated], event[repeated], risk[repeated])]
    np.testing.assert_allclose(harrell_c(time, event, risk, rows), expected)


def test_concordance_by_hand():
    time, event = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 1, 0, 0])
    assert harrell_c(time, event, np.array([4.0, 3.0, 2.0, 1.0])) == 1.0
    assert harrell_c(time, event, np.array([1.0, 2.0, 3.0, 4.0])) == 0.0
    assert harrell_c(time, event, np.zeros(4)) == 0.5
    # Led by the first: three pairs won; by the second: two of the tied, one half each lost... weights 1/G^2 = 1 and 4.
    risk, censoring = np.array([4.0, 1, 2, 2]), np.array([1.0, 0.5, 0.5, 0.1])
    assert concordance(time, event, risk, censoring) == pytest.approx((3 * 1 + 0) / (3 * 1 + 2 * 4))
    assert concordance(time, event, risk, censoring, tau=2.0) == 1.0
    # The last had its competing event before the second's event: the pair is weighted by one over both.
    earlier = np.array([1.0, 2.0, 2.5, 1.5]), np.array([1, 1, 0, 2])
    assert concordance(*earlier, np.array([0.0, 1, 2, 0]), np.array([1.0, 0.5, 0.5, 0.8])) == pytest.approx(
        (0.5 + 1 / (0.5 * 0.8)) / (3 + 4 + 1 / (0.5 * 0.8))
    )


def test_censored_brier_and_unos_c_are_those_without_censoring():
    """With whole years, in which events, competing events and censorings tie, and perfect predictions of two groups."""
    rng = np.random.default_rng(8)
    n = 40_000
    high = rng.random(n) < 0.5
    first = rng.exponential(np.where(high, 4.0, 12.0))
    other = rng.exponential(9.0, n)
    time, kind = np.ceil(np.minimum(first, other)), np.where(first < other, 1, 2)
    left = np.ceil(rng.exponential(9.0, n))
    seen = time <= left  # an event in the year in which a unit leaves is seen
    shown, status = np.where(seen, time, left), np.where(seen, kind, 0)
    grid = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    curves = np.stack(
        [1 - np.array([(first < other) & (time <= t) for t in grid])[:, high == h].mean(1) for h in (0, 1)]
    )
    curves = curves[high.astype(int)]
    truth = integrated_brier(time, kind, curves, grid, time, kind)
    assert integrated_brier(shown, status, curves, grid, shown, status) == pytest.approx(truth, rel=0.02)
    few = rng.permutation(n)[:2000]
    whole, censored = (
        uno_c(t[few], k[few], 1.0 * high[few], t, k, tau=6.0) for t, k in ((time, kind), (shown, status))
    )
    assert censored == pytest.approx(whole, abs=0.02)


def test_who_had_a_competing_event_is_compared_as_one_who_never_has_this_one():
    """By its definition, pair by pair: censoring it there, or calling it the event, gives other numbers."""
    rng = np.random.default_rng(5)
    time, event, risk = rng.integers(1, 9, 40).astype(float), rng.integers(0, 3, 40), rng.normal(size=40)
    won = total = 0
    for i in range(40):
        for j in range(40):
            if event[i] == 1 and (
                event[j] == 2 or time[j] > time[i] or (time[j] == time[i] and event[j] == 0 and i != j)
            ):
                won, total = won + (risk[i] > risk[j]), total + 1
    assert harrell_c(time, event, risk) == pytest.approx(won / total)
    assert harrell_c(time, event == 1, risk) != pytest.approx(won / total)


def test_without_censoring_brier_counts_competing_events_as_free_of_the_event():
    rng = np.random.default_rng(6)
    time, event = rng.uniform(1, 9, 30), rng.integers(1, 3, 30)
    grid, curves = np.linspace(2, 8, 5), rng.random((30, 5))
    had = (time[:, None] <= grid) & (event == 1)[:, None]
    expected = np.trapezoid(((1 - had) - curves) ** 2, grid, axis=1).mean() / 6
    assert integrated_brier(time, event, curves, grid, time, event) == pytest.approx(expected)


def test_undefined_is_nan():
    time = np.array([1.0, 2.0])
    assert np.isnan(harrell_c(time, np.zeros(2), time))
    assert np.isnan(harrell_c(time, np.ones(2), np.array([np.nan, 1.0])))


def test_censoring_curve_counts_censorings_and_events_first():
    curve = censoring_survival(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 1, 0, 1]), np.array([0.5, 1.0, 2.0, 9.0]))
    np.testing.assert_allclose(curve, [1.0, 3 / 4, 3 / 8, 3 / 8])
    seen = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 1, 0, 1])
    np.testing.assert_allclose(
        censoring_survival(*seen, np.array([0.5, 1.0, 2.0, 9.0]), before=True), [1, 1, 3 / 4, 3 / 8]
    )


@settings(max_examples=25, deadline=None)
@given(**cases)
def test_partial_likelihood_is_its_definition(seed, n):
    time, event, log_risk = follow_up(seed, n)
    expected = sum(log_risk[i] - np.log(np.exp(log_risk[time >= time[i]]).sum()) for i in range(n) if event[i])
    assert partial_log_likelihood(time, event, log_risk) == pytest.approx(expected)
