import numpy as np
import pandas as pd
import pytest

from metaniche.report.vocabulary import count, is_blank, level_name, metrics_of, number, p_value, with_interval


def test_primary_metric_comes_first(table):
    assert metrics_of(table)[0].column == "auroc"
    assert metrics_of(table.assign(primary_metric="ece"))[0].column == "ece"


def test_survival_prefers_harrell():
    table = pd.DataFrame({"auroc": [0.5], "uno_c": [0.6], "harrell_c": [0.7]})
    assert metrics_of(table, is_survival=True)[0].column == "harrell_c"


def test_an_unknown_metric_with_an_interval_is_shown_and_an_empty_one_is_not(table):
    new = table.assign(my_score=0.3, my_score_low=0.2, my_score_high=0.4, auprc=np.nan)
    columns = [m.column for m in metrics_of(new)]
    assert "my_score" in columns
    assert "auprc" not in columns
    assert not [c for c in columns if c.startswith("diff_")]


@pytest.mark.parametrize("value", [None, float("nan"), "", " nan ", [], {}, np.float64("nan")])
def test_blank(value):
    assert is_blank(value)


@pytest.mark.parametrize("value", [0, False, 0.0, "0", [0]])
def test_not_blank(value):
    assert not is_blank(value)


def test_numbers():
    assert number(-0.101, signed=True) == "−0.10"
    assert number(0.101, signed=True) == "+0.10"
    assert number(-0.001, signed=True) == "0.00"
    assert number(None) == number(float("inf")) == "–"
    assert count(12345.0) == "12,345"
    assert p_value(0.0004) == "p\u00a0<\u00a00.001"
    assert p_value(0.004).endswith("0.004")
    assert p_value(0.04).endswith("0.04")
    assert p_value(None) == ""


def test_intervals():
    row = pd.Series({"a": 0.5, "a_low": -0.1, "a_high": 0.9, "b": 0.5})
    assert with_interval(row, "a") == "0.50 (−0.10 to 0.90)"
    assert with_interval(row, "b") == "0.50"


@pytest.mark.parametrize(("value", "name"), [(2.0, "2"), (2.5, "2.5"), ("II", "II"), (3, "3")])
def test_level_name(value, name):
    assert level_name(value) == name
