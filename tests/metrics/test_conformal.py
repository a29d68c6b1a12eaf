import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import ConfigError, InputError
from metaniche.metrics.conformal import conformal_p, conformal_sets, coverage


def units(n, rng, skill=1.0):
    """Labels, and probabilities of a model that is neither calibrated nor good."""
    y = (rng.random(n) < 0.3).astype(int)
    return y, 1 / (1 + np.exp(-(skill * (y - 0.5) + rng.normal(size=n) - 1)))


@pytest.mark.parametrize("mondrian", [True, False])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_promise_is_kept_whatever_the_model(mondrian, alpha):
    rng = np.random.default_rng(0)
    kept, of_label = [], []
    for _ in range(400):
        (y, p), (new_y, new_p) = units(60, rng), units(50, rng)
        sets = conformal_sets(conformal_p(new_p, p, y, mondrian=mondrian), alpha)
        kept.append(coverage(sets, new_y))
        of_label.append([coverage(sets[new_y == c], new_y[new_y == c]) for c in (0, 1)])
    assert 1 - alpha - 0.01 < np.mean(kept) < 1 - alpha + 0.05
    if mondrian:
        assert (np.nanmean(of_label, axis=0) > 1 - alpha - 0.01).all()
    else:
        assert np.nanmean(of_label, axis=0).min() < 1 - alpha - 0.02  # the rarer label pays


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(0, 999))
def test_p_counts_itself_and_those_at_least_as_strange(m, seed):
    rng = np.random.default_rng(seed)
    y = np.arange(m) % 2
    calibration, new = rng.random(m).round(1), rng.random(5).round(1)
    p = conformal_p(new, calibration, y)
    for i, x in enumerate(new):
        for c, strange in ((0, x), (1, 1 - x)):
            peers = np.where(y == 1, 1 - calibration, calibration)[y == c]
            expected = (1 + sum(s >= strange - 1e-12 for s in peers)) / (1 + len(peers))
            assert p[i, c] == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(0, 999))
def test_weights_count_for_peers_and_the_new_unit_as_the_heaviest(m, seed):
    rng = np.random.default_rng(seed)
    y, calibration, new = np.arange(m) % 2, rng.random(m).round(1), rng.random(5).round(1)
    weight = rng.uniform(0.5, 2, m)
    p = conformal_p(new, calibration, y, weight)
    strange = np.where(y == 1, 1 - calibration, calibration)
    for i, x in enumerate(new):
        for c, own in ((0, x), (1, 1 - x)):
            w, s = weight[y == c], strange[y == c]
            expected = (weight.max() + w[s >= own - 1e-12].sum()) / (weight.max() + w.sum())
            assert p[i, c] == pytest.approx(expected)
    lost = [np.append(x, v) for x, v in ((calibration, 0.5), (y, 7), (weight, 0.0))]
    np.testing.assert_allclose(conformal_p(new, *lost), p)


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(InputError, match="both labels"):
        conformal_p([0.5], [0.2, 0.3], [1, 1])
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        conformal_p([1.5], [0.2, 0.3], [0, 1])
    with pytest.raises(ConfigError, match="alpha"):
        conformal_sets(np.ones((2, 2)), 0.0)
