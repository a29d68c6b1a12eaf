import pandas as pd
import pytest
from matplotlib.colors import to_hex

from metaniche.report.figures.patients import signals_of_patients
from metaniche.report.figures.style import KIND_COLOR


def signals(value="enrichment", n=3):
    rows = {
        "sender": ["fibroblast", "macrophage", "T cell"][:n],
        "receiver": ["malignant"] * n,
        "ligand": ["CXCL12", "SPP1", "CCL5"][:n],
        "receptor": ["CXCR4", "CD44", "CCR5"][:n],
        value: [1.8, 1.2, 0.9][:n],
        "low": [1.5, 0.9, 0.7][:n],
        "high": [2.1, 1.5, float("nan")][:n],
        "q": [0.01, 0.2, 0.9][:n],
    }
    return pd.DataFrame(rows)


def points(axes):
    return {line.get_gid(): line for line in axes.lines if "→" in str(line.get_gid())}


def test_signals_stand_at_their_value_in_the_order_of_the_table_and_those_found_are_filled():
    axes = signals_of_patients(signals()).axes[0]
    found = points(axes)
    assert list(found) == [
        "fibroblast → malignant: CXCL12 - CXCR4", "macrophage → malignant: SPP1 - CD44", "T cell → malignant: CCL5 - CCR5"
    ]  # fmt: skip
    assert [float(p.get_xdata()[0]) for p in found.values()] == [1.8, 1.2, 0.9]
    assert [p.get_ydata()[0] for p in found.values()] == [0, 1, 2]
    assert [to_hex(p.get_markerfacecolor()).upper() for p in found.values()] == [
        KIND_COLOR["network"],
        "#FFFFFF",
        "#FFFFFF",
    ]
    assert axes.texts[0].get_text() == "1.80 (1.50 to 2.10), q 0.01"
    assert axes.get_xlabel() == "Score over expected, mean over patients"
    assert axes.lines[0].get_xdata()[0] == 1.0


def test_differences_are_drawn_against_nothing_and_name_the_groups():
    table = signals("difference")
    assert signals_of_patients(table).axes[0].get_xlabel() == "Difference between the two groups of patients"
    table.attrs |= {"compared": "metastasis", "groups": ("0", "1"), "value": "score"}
    axes = signals_of_patients(table).axes[0]
    assert axes.lines[0].get_xdata()[0] == 0.0
    assert axes.get_xlabel() == "Difference of the score between patients (metastasis: 1 less 0)"


def test_strata_stand_before_their_signals():
    table = signals("difference", 1)
    table.insert(0, "niche", ["border"])
    assert list(points(signals_of_patients(table).axes[0])) == ["border, fibroblast → malignant: CXCL12 - CXCR4"]


def test_no_more_signals_than_asked_for():
    assert len(points(signals_of_patients(signals(), n_signals=2).axes[0])) == 2


@pytest.mark.parametrize("value", ["enrichment", "difference"])
def test_nothing_measured_says_so(value):
    assert "No signal" in signals_of_patients(signals(value, 0)).axes[0].texts[0].get_text()
