import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import InputError
from metaniche.metrics.shares import variance_shares


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 40), st.integers(1, 6), st.integers(0, 999))
def test_shares_sum_to_one_and_no_constant_has_any(n, n_parts, seed):
    rng = np.random.default_rng(seed)
    parts = pd.DataFrame(rng.normal(size=(n, n_parts))).assign(constant=1e3)
    shares = variance_shares(parts)
    assert shares.sum() == pytest.approx(1)
    assert shares["constant"] == pytest.approx(0, abs=1e-9)
    moved = variance_shares(parts * 3 + 7)
    pd.testing.assert_series_equal(moved, shares, rtol=1e-6)


def test_the_part_that_moves_the_sum_has_the_share():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5000))
    shares = variance_shares(pd.DataFrame({"a": 2 * a, "b": b}))
    assert list(shares.index) == ["a", "b"]
    assert shares["a"] == pytest.approx(0.8, abs=0.03)


def test_nothing_to_share_out_is_said():
    with pytest.raises(InputError, match="at least 3 units"):
        variance_shares(pd.DataFrame({"a": [0.0, 1.0]}))
    with pytest.raises(InputError, match="differ between units"):
        variance_shares(pd.DataFrame({"a": [1.0] * 5, "b": [2.0] * 5}))


def test_parts_of_a_larger_whole_have_their_share_of_it():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5000))
    parts = pd.DataFrame({"a": 2 * a})
    assert variance_shares(parts, pd.Series(2 * a + b))["a"] == pytest.approx(0.8, abs=0.03)
