import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from metaniche.report.figures.discrimination import calibration, precision_recall, roc, wilson
from metaniche.report.figures.style import to_bytes


def _curve(figure, model):
    return next(line for line in figure.axes[0].lines if line.get_gid() == model)


def _words(figure):
    return " ".join(t.get_text() for a in figure.axes for t in a.texts)


def _table(y, risk, repeat=0):
    n = len(y)
    return pd.DataFrame({"model": "m", "repeat": repeat, "unit_id": np.arange(n).astype(str), "y": y, "risk": risk})


def test_one_curve_per_model_and_one_thin_line_per_repeat(predictions):
    figure = roc(predictions, ["relational_mil", "composition_ridge"])
    lines = figure.axes[0].lines
    assert {line.get_gid() for line in lines} >= set(predictions["model"])
    assert len(lines) == predictions["model"].nunique() + 1 + 3  # chance, and the repeats of the first
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend[0].startswith("relational_mil")
    assert "other models (6)" in legend
    assert "chance" in legend


def test_the_title_stands_on_the_page_above_a_legend_of_many_lines(predictions):
    models = list(predictions["model"].unique())
    labels = dict.fromkeys(models, "of a long name 0.85 (0.75 to 0.90)")
    page = to_bytes(roc(predictions, models[:3], labels=labels), "svg").decode()
    baseline = float(re.search(r"<!-- ROC -->\s*<g [^>]*translate\([\d.]+ ([\d.]+)\)", page).group(1))
    assert baseline > 8  # as high as its letters


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_area_under_the_mean_curve_is_the_mean_auroc(seed):
    rng = np.random.default_rng(seed)
    tables = []
    for repeat in range(2):
        y = np.r_[0, 1, rng.integers(0, 2, 28)]
        tables.append(_table(y, np.round(rng.normal(size=30) + y, 1), repeat))
    line = _curve(roc(pd.concat(tables)), "m")
    expected = np.mean([roc_auc_score(t["y"], t["risk"]) for t in tables])
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(expected, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_area_under_the_stepped_precision_is_the_average_precision(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, rng.integers(0, 2, 28)]
    table = _table(y, np.round(rng.normal(size=30) + y, 1))
    line = _curve(precision_recall(table), "m")
    assert line.get_ydata()[1:].mean() == pytest.approx(average_precision_score(y, table["risk"]), abs=0.01)


def test_score_ranks_in_place_of_risk_where_it_is_given():
    table = _table([0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1]).assign(score=[0, 1, 2, 3])
    line = _curve(roc(table), "m")
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(1.0, abs=0.005)


def test_each_site_is_a_curve_of_its_own_in_the_mean():
    good, bad = _table([0, 0, 1, 1], [0, 1, 2, 3]), _table([0, 0, 1, 1], [3, 2, 1, 0])
    both = pd.concat([good.assign(site="liver"), bad.assign(site="lung")])
    line = _curve(roc(both), "m")
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("draw", [roc, precision_recall])
@pytest.mark.parametrize("rows", [0, 3])
def test_empty_or_one_class_says_so(draw, rows):
    figure = draw(_table([1, 1, 1], [0.1, 0.2, 0.3]).head(rows))
    assert "No curve" in _words(figure)


def test_calibration_counts_every_unit_once(predictions):
    figure = calibration(predictions, "relational_mil")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert len(lines["relational_mil, 16 units a point"].get_xdata()) == 80 / 16
    bars = sum(p.get_height() for p in figure.axes[1].patches)
    assert bars == 80


def test_calibration_of_perfect_probabilities_lies_near_the_diagonal():
    rng = np.random.default_rng(0)
    risk = rng.uniform(size=4000)
    figure = calibration(_table((rng.uniform(size=4000) < risk).astype(int), risk), "m")
    x, y = next(line for line in figure.axes[0].lines if line.get_label() == "m, 400 units a point").get_data()
    assert np.abs(x - y).max() < 0.06


def test_calibration_refuses_what_is_no_probability():
    assert "not probabilities" in _words(calibration(_table([0, 1], [-3.0, 2.0]), "m"))


def test_calibration_without_rows_says_so():
    assert "No curve" in _words(calibration(_table([], []), "m"))


@pytest.mark.parametrize(("y", "n"), [([1], 30), ([0, 1], 6)])
def test_calibration_of_one_class_or_a_handful_says_so(y, n):
    table = _table(np.resize(y, n), np.linspace(0.1, 0.9, n))
    assert "No calibration curve" in _words(calibration(table, "m"))


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_stays_in_bounds(n, data):
    k = data.draw(st.integers(0, n))
    low, high = wilson(np.array([k]), np.array([n]))
    assert 0 <= low[0] <= k / n + 1e-12
    assert k / n - 1e-12 <= high[0] <= 1
