import numpy as np

from metaniche.metrics.weighting import as_rows, ratio, unwrap


def test_no_weight_counts_every_unit_once():
    np.testing.assert_array_equal(as_rows(None, 3), np.ones((1, 3)))


def test_unwrap_follows_the_shape_of_the_weight():
    values = np.array([0.5])
    assert unwrap(values, None) == 0.5
    assert unwrap(values, np.ones(4)) == 0.5
    assert unwrap(values, np.ones((1, 4))).shape == (1,)


def test_ratio_is_nan_without_a_positive_denominator():
    np.testing.assert_array_equal(ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0])), [0.5, np.nan])
