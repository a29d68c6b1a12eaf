import numpy as np
import pandas as pd
import pytest

from metaniche.report.figures import associations, deletion, shares


def curves(by="n_pairs"):
    n = np.arange(5)
    x = n / 4 if by == "share" else n
    rows = [pd.DataFrame({"curve": c, by: x, "left": v, "random": 0.5, "random_low": 0.2, "random_high": 0.8,
                          "shuffled": 0.6}) for c, v in (("deletion", 1 - n / 4), ("insertion", n / 4))]  # fmt: skip
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(("by", "of"), [("n_pairs", "Pairs"), ("share", "Edges")])
def test_both_curves_are_drawn_beside_their_controls(by, of):
    figure = deletion(curves(by))
    assert [axes.get_xlabel() for axes in figure.axes] == [f"{of} deleted", f"{of} inserted"]
    for axes, (_, rows) in zip(figure.axes, curves(by).groupby("curve")):
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        np.testing.assert_allclose(lines["ranked by this network"], rows["left"])
        np.testing.assert_allclose(lines["ranked with shuffled weights"], rows["shuffled"])
        np.testing.assert_allclose(lines["random orders"], rows["random"])
        np.testing.assert_allclose(axes.lines[0].get_xdata(), rows[by])


def test_the_largest_share_stands_on_top_and_one_below_zero_has_another_color():
    (axes,) = shares(pd.Series({"a": 0.9, "b": -0.2}), "Terms").axes
    low, top = axes.patches
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert (low.get_width(), top.get_width()) == (-0.2, 0.9)
    assert low.get_facecolor() != top.get_facecolor()


def test_nothing_to_draw_is_said():
    for figure in (deletion(pd.DataFrame()), shares(pd.Series(dtype=float), "Terms")):
        assert figure.axes or figure.texts


def test_associations_are_drawn_with_their_intervals_the_strongest_on_top():
    table = pd.DataFrame({"correlation": [0.5, -0.2], "low": [0.4, -0.4], "high": [0.6, 0.0]}, index=["hypoxia", "EMT"])
    (axes,) = associations(table, "Cell states").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["EMT", "hypoxia"]
    (bars,) = axes.containers
    ends = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(ends[1][:, 0], [0.4, 0.6])
    assert (
        associations(table.iloc[:0], "Cell states").texts or associations(table.iloc[:0], "Cell states").axes[0].texts
    )
