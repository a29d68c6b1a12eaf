import numpy as np
import pytest

from metaniche.report.figures.comparison import forest, permutation_control


def _points(axes):
    return {line.get_gid(): line for line in axes.lines if line.get_gid()}


def test_every_model_stands_at_its_estimate_best_first(table):
    figure = forest(table, chance=0.5, emphasis="relational_mil")
    points = _points(figure.axes[0])
    assert set(points) == set(table["model"])
    for _, row in table.iterrows():
        assert points[row["model"]].get_xdata()[0] == pytest.approx(row["auroc"])
    order = table.sort_values("auroc", ascending=False)["model"].tolist()
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == order
    assert [p.get_ydata()[0] for m in order for p in [points[m]]] == list(range(len(order)))
    bold = [t.get_text() for t in figure.axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["relational_mil"]


def test_lower_is_better_turns_the_order(table):
    figure = forest(table, "ece", ascending=True)
    assert figure.axes[0].get_yticklabels()[0].get_text() == table.sort_values("ece")["model"].iloc[0]


def test_the_reference_has_no_difference_to_itself(table):
    right = forest(table).axes[1]
    assert "cellular_neighbourhoods_ridge" not in _points(right)
    assert "the reference" in [t.get_text() for t in right.texts]


def test_no_second_panel_without_differences(table):
    bare = table.drop(columns=[c for c in table if c.startswith("diff_")])
    assert len(forest(bare).axes) == 1


def test_intervals_and_kind_may_be_absent(table):
    assert _points(forest(table[["model", "auroc"]]).axes[0])


@pytest.mark.parametrize("metric", ["auroc", "absent"])
def test_nothing_to_compare_says_so(table, metric):
    figure = forest(table.assign(auroc=np.nan), metric)
    assert "No comparison" in figure.axes[0].texts[0].get_text()


def test_control_shows_each_permutation_and_the_observed_figure():
    control = {"estimate": 0.49, "low": 0.4, "high": 0.6, "values": [0.45, 0.5, 0.52]}
    figure = permutation_control(control, (0.9, 0.8, 0.95), "Harrell's C")
    axes = figure.axes[0]
    assert _points(axes)["permutations"].get_xdata().tolist() == [0.45, 0.5, 0.52]
    assert [t.get_text() for t in axes.texts] == ["0.90 (0.80 to 0.95)", "0.49 (0.40 to 0.60)"]
    assert axes.get_xlabel() == "Harrell's C"


def test_control_without_interval_is_drawn():
    assert [t.get_text() for t in permutation_control({"estimate": 0.5}).axes[0].texts] == ["0.50"]
