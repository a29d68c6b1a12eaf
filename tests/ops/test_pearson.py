import numpy as np
import pytest
from scipy.stats import norm, pearson3

from metaniche.ops.pearson import SMALLEST, pearson3_tail

Z = np.array([-5.0, -2.0, -0.3, 0.0, 0.7, 2.0, 5.0])


@pytest.mark.parametrize("skewness", [-2.0, -0.5, -0.01, 0.01, 0.5, 2.0])
def test_it_is_the_tail_of_pearson_iii(skewness):
    np.testing.assert_allclose(
        pearson3_tail(Z, skewness), np.clip(pearson3.sf(Z, skewness), SMALLEST, 1), rtol=1e-7, atol=1e-300
    )


def test_without_skewness_it_is_normal():
    np.testing.assert_allclose(pearson3_tail(Z, 0.0), norm.sf(Z), rtol=1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
def test_both_formulas_meet(sign):
    np.testing.assert_allclose(pearson3_tail(Z, sign * 0.99e-3), pearson3_tail(Z, sign * 1.01e-3), rtol=5e-3)


def test_it_is_never_zero_and_keeps_nan():
    assert pearson3_tail(100.0, 0.0) == SMALLEST
    assert pearson3_tail(3.0, -2.0) == SMALLEST  # beyond the end of the support
    assert np.isnan(pearson3_tail(np.nan, 0.5))
    assert np.isnan(pearson3_tail(1.0, np.nan))
