import numpy as np
import pytest
import torch
from scipy.stats import gamma, norm, pearson3

from metaniche.ops import pearson
from metaniche.ops.pearson import SMALLEST, gamma_tails, pearson3_tail

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


def test_many_values_are_those_of_few(monkeypatch):
    z, skewness = np.meshgrid(np.linspace(-4, 4, 41), np.linspace(-2, 2, 37))
    at_once = pearson3_tail(z, skewness)
    monkeypatch.setattr(pearson, "VALUES_A_THREAD", 100)
    np.testing.assert_array_equal(pearson3_tail(z, skewness), at_once)
    assert at_once.shape == z.shape


def test_it_is_never_zero_and_keeps_nan():
    assert pearson3_tail(100.0, 0.0) == SMALLEST
    assert pearson3_tail(3.0, -2.0) == SMALLEST  # beyond the end of the support
    assert np.isnan(pearson3_tail(np.nan, 0.5))
    assert np.isnan(pearson3_tail(1.0, np.nan))


def test_torch_gives_the_same_tail_on_any_device():
    z, skewness = np.meshgrid(
        [*np.linspace(-40, 60, 201), np.nan], [*np.linspace(-8, 8, 65), 1e-4, 1e-2, -2e-3, np.nan]
    )
    expected = pearson3_tail(z, skewness)
    np.testing.assert_allclose(pearson._tail_by_torch(torch.device("cpu"), z, skewness), expected, rtol=1e-8)
    assert np.isnan(expected).any()
    assert (expected == SMALLEST).any()


def test_tails_of_scores_that_are_not_negative_are_those_of_a_gamma():
    score, mean, variance = np.array([0.5, 2.0, 9.0]), 2.0, 3.0
    z, greater, less = gamma_tails(score, np.full(3, mean), np.full(3, variance))
    law = gamma(mean**2 / variance, scale=variance / mean)
    np.testing.assert_allclose(z, (score - mean) / np.sqrt(variance))
    np.testing.assert_allclose(greater, law.sf(score), rtol=1e-6)
    np.testing.assert_allclose(less, law.cdf(score), rtol=1e-6)


def test_a_score_of_zero_is_reached_by_every_score():
    _, greater, less = gamma_tails(np.zeros(1), np.ones(1), np.full(1, 2.0))
    assert greater[0] == 1
    assert less[0] == pytest.approx(np.exp(-0.5))


def test_scores_that_may_be_negative_have_normal_tails():
    _, greater, less = gamma_tails(np.array([1.0]), np.array([0.5]), np.array([4.0]), positive=False)
    assert greater[0] == pytest.approx(norm.sf(0.25))
    assert less[0] == pytest.approx(norm.cdf(0.25))
