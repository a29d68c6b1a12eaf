import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from metaniche.metrics import auprc, auroc, sensitivity_at_specificity
from metaniche.metrics.discrimination import within_group_auroc


@st.composite
def labelled(draw):
    n = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    y = rng.integers(0, 2, n)
    y[:2] = (0, 1)
    return y, np.round(rng.normal(size=n), draw(st.integers(0, 3))), rng.integers(0, 4, n).astype(float)


@settings(max_examples=50, deadline=None)
@given(labelled())
def test_areas_are_those_of_sklearn(data):
    y, score, weight = data
    assert auroc(y, score) == pytest.approx(roc_auc_score(y, score))
    assert auprc(y, score) == pytest.approx(average_precision_score(y, score))
    if len(set(y[weight > 0])) == 2:
        assert auroc(y, score, weight) == pytest.approx(roc_auc_score(y, score, sample_weight=weight))
        assert auprc(y, score, weight) == pytest.approx(average_precision_score(y, score, sample_weight=weight))


@settings(max_examples=50, deadline=None)
@given(labelled(), st.sampled_from([0.0, 0.5, 0.9, 0.95, 1.0]))
def test_sensitivity_is_the_highest_point_of_the_curve_left_of_the_limit(data, specificity):
    y, score, _ = data
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    expected = tpr[fpr <= 1 - specificity + 1e-12].max()
    assert sensitivity_at_specificity(y, score, specificity) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(labelled())
def test_integer_weights_are_repeated_units_and_rows_are_independent(data):
    y, score, weight = data
    repeated = np.repeat(np.arange(y.size), weight.astype(int))
    rows = np.stack([np.ones(y.size), weight])
    for metric in (auroc, auprc, lambda *a: sensitivity_at_specificity(*a[:2], 0.9, *a[2:])):
        both = metric(y, score, rows)
        expected = metric(y[repeated], score[repeated]) if repeated.size else np.nan
        np.testing.assert_allclose(both, [metric(y, score), expected])


@settings(max_examples=30, deadline=None)
@given(labelled())
def test_auroc_depends_on_ranks_and_mirrors_with_the_label(data):
    y, score, _ = data
    assert auroc(y, 3 * score + 7) == pytest.approx(auroc(y, score))
    assert auroc(1 - y, score) == pytest.approx(1 - auroc(y, score))


@pytest.mark.parametrize("y", [np.zeros(4), np.ones(4), np.zeros(0)])
def test_one_class_is_nan_and_not_an_error(y):
    score = np.arange(y.size, dtype=float)
    for value in (auroc(y, score), auprc(y, score), sensitivity_at_specificity(y, score, 0.9)):
        assert np.isnan(value)


def test_a_missing_score_makes_the_metric_undefined():
    assert np.isnan(auroc(np.array([0, 1]), np.array([np.nan, 1.0])))


def test_within_group_auroc_is_blind_to_differences_between_groups():
    group = np.repeat(["a", "b", "c"], 4)
    y = np.array([0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1])
    score = np.array([1, 2, 3, 4, 11, 12, 13, 14, 0, 0, 0, 0.0])
    expected = (1.0 + 0.75) / 2
    assert within_group_auroc(y, score, group) == pytest.approx(expected)
    assert within_group_auroc(y, score + 100 * (group == "b"), group) == pytest.approx(expected)
    weight = np.repeat([[1.0, 3.0, 5.0], [0.0, 0.0, 2.0]], 4, axis=1)
    np.testing.assert_allclose(within_group_auroc(y, score, group, weight), [(1 + 3 * 0.75) / 4, np.nan])
