import numpy as np
import pytest

from metaniche.errors import InputError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.report.figures.signal_map import edge_map, vector_field
from metaniche.report.figures.style import to_bytes

POSITIONS = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 50.0], [0.0, 50.0]])
EDGES = np.array([[0, 1, 2, 3], [1, 2, 0, 2]])
SIGNAL = np.array([0.2, 3.0, 1.0, 2.0])


def _drawn(figure, gid):
    return next(c for c in figure.axes[0].collections if c.get_gid() == gid)


def _tips(figure, gid):
    """Where the head of each arrow ends, and the place that it is drawn at, in the units of the axes."""
    figure.draw_without_rendering()
    arrows = _drawn(figure, gid)
    to_data = arrows.get_transform() - figure.axes[0].transData
    offsets = np.array(arrows.get_offsets())
    # The fourth of the eight corners of a quiver's arrow is its tip.
    tips = np.array([path.vertices[3] for path in arrows.get_paths()])
    return to_data.transform(tips) - to_data.transform([[0.0, 0.0]]) + offsets, offsets


def test_arrows_run_from_sender_to_receiver_with_the_signal_as_colour_strongest_last():
    figure = edge_map(POSITIONS, EDGES, SIGNAL)
    order = np.argsort(SIGNAL)
    np.testing.assert_allclose(_drawn(figure, "edges").get_array(), SIGNAL[order])
    tips, starts = _tips(figure, "edges")
    np.testing.assert_allclose(starts, POSITIONS[EDGES[0, order]])
    np.testing.assert_allclose(tips, POSITIONS[EDGES[1, order]], atol=0.5)


def test_only_the_strongest_edges_that_carry_a_signal_are_drawn():
    figure = edge_map(POSITIONS, EDGES, SIGNAL, n_edges=2)
    assert _drawn(figure, "edges").get_array().tolist() == [2.0, 3.0]
    assert figure.axes[0].get_title(loc="left") == "The strongest edges: 2 of 4 with a signal"
    some = edge_map(POSITIONS, EDGES, [0.0, np.nan, 1.0, -1.0])
    assert _drawn(some, "edges").get_array().tolist() == [1.0]


def test_cells_stand_in_micrometres_with_y_downwards_and_a_bar():
    figure = edge_map(POSITIONS * 3, EDGES, SIGNAL)
    axes = figure.axes[0]
    np.testing.assert_allclose(_drawn(figure, "cells").get_offsets(), POSITIONS * 3)
    assert axes.yaxis_inverted()
    assert axes.get_aspect() == 1.0
    left, right = axes.lines[0].get_xdata()
    assert axes.texts[0].get_text().strip() == f"{right - left:g} µm" == "50 µm"
    assert RESEARCH_USE_ONLY in [t.get_text() for t in figure.texts]


def test_cells_have_the_tint_of_their_type():
    figure = edge_map(POSITIONS, EDGES, SIGNAL, ["a", "a", "b", None])
    colors = _drawn(figure, "cells").get_facecolors()
    legend = figure.legends[0]
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b", "type not known"]
    assert (colors[0] == colors[1]).all()
    assert len(np.unique(colors, axis=0)) == 3
    assert not edge_map(POSITIONS, EDGES, SIGNAL).legends


def test_no_signal_says_so():
    for figure in (
        edge_map(POSITIONS, EDGES, np.zeros(4)),
        edge_map(POSITIONS, np.zeros((2, 0), int), []),
        edge_map(np.zeros((0, 2)), np.zeros((2, 0), int), []),
        vector_field(POSITIONS, np.zeros((4, 2))),
        vector_field(POSITIONS, np.full((4, 2), np.nan)),
        vector_field(np.zeros((0, 2)), np.zeros((0, 2))),
    ):
        assert "No map" in figure.axes[0].texts[0].get_text()


@pytest.mark.parametrize(
    ("edges", "signal", "types", "found"),
    [
        (EDGES.T, SIGNAL, None, r"\(4, 2\)"),
        (EDGES, SIGNAL[:3], None, r"\(3,\)"),
        (EDGES + 1, SIGNAL, None, "1 to 4"),
        (EDGES - 1, SIGNAL, None, "-1 to 2"),
        (EDGES, SIGNAL, ["a"], "found 1"),
    ],
)
def test_edges_that_do_not_fit_are_refused(edges, signal, types, found):
    with pytest.raises(InputError, match=found):
        edge_map(POSITIONS, edges, signal, types)


@pytest.mark.parametrize(
    ("positions", "direction", "strength", "found"),
    [
        (np.zeros((4, 3)), np.ones((4, 2)), None, r"\(4, 3\)"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), None, "finite"),
        (POSITIONS, np.ones((3, 2)), None, r"\(3, 2\)"),
        (POSITIONS, np.ones((4, 2)), np.ones(3), r"\(3,\)"),
        (POSITIONS, np.ones((4, 2)), np.array([1.0, 1, -2, 1]), "-2"),
    ],
)
def test_directions_that_do_not_fit_are_refused(positions, direction, strength, found):
    with pytest.raises(InputError, match=found):
        vector_field(positions, direction, strength)


@pytest.fixture
def tissue():
    rng = np.random.default_rng(0)
    positions = np.vstack(([[0.0, 0.0], [200.0, 100.0]], rng.uniform(0, [200, 100], (400, 2))))
    return positions, rng.normal((2.0, 1.0), size=(402, 2)), rng.uniform(size=402)


def _expected(positions, direction, weight, bins, side):
    """Square -> weighted mean direction and mean weight, one cell at a time; squares of whole `side` from the corner."""
    sums = {}
    for (x, y), (u, v), w in zip(positions, direction, weight):
        key = min(int(x // side), bins - 1), min(int(y // side), bins // 2 - 1)
        total = sums.setdefault(key, np.zeros(4))
        total += [w * u, w * v, w, 1.0]
    return {k: (s[0] / s[2], s[1] / s[2], s[2] / s[3]) for k, s in sums.items()}


@pytest.mark.parametrize("weighted", [False, True])
def test_arrows_are_the_mean_direction_of_the_cells_in_each_square(tissue, weighted):
    positions, direction, strength = tissue
    figure = vector_field(positions, direction, strength if weighted else None, bins=8)
    arrows = _drawn(figure, "field")
    expected = _expected(positions, direction, strength if weighted else np.ones(402), 8, 25.0)
    assert len(arrows.U) == len(expected) == 32
    longest = max(np.hypot(u, v) for u, v, _ in expected.values())
    for (x, y), u, v, color in zip(arrows.get_offsets(), arrows.U, arrows.V, arrows.get_array()):
        mean_u, mean_v, mean_strength = expected[int(x // 25), int(y // 25)]
        assert (x % 25, y % 25) == (12.5, 12.5)
        np.testing.assert_allclose([u, v], np.array([mean_u, mean_v]) * 0.95 * 25 / longest)
        assert color == pytest.approx(mean_strength if weighted else np.hypot(mean_u, mean_v))


def test_an_arrow_down_in_the_data_is_drawn_down_the_axes():
    figure = vector_field(POSITIONS, np.tile([0.0, 1.0], (4, 1)), bins=2)
    tips, middle = _tips(figure, "field")
    np.testing.assert_allclose(tips, middle + np.array([0.0, 0.95 * 50 / 2]), atol=0.1)
    from_top = figure.axes[0].transData.transform
    assert (from_top(tips)[:, 1] < from_top(middle)[:, 1]).all()


def test_cells_without_a_direction_do_not_count(tissue):
    positions, direction, _ = tissue
    direction[5:] = np.nan
    known = _drawn(vector_field(positions, direction, bins=1), "field")
    assert np.arctan2(known.V, known.U)[0] == pytest.approx(np.arctan2(*direction[:5].mean(axis=0)[::-1]))


def test_directions_that_cancel_leave_a_short_arrow():
    positions = np.array([[0.0, 0.0], [1.0, 0.0], [99.0, 0.0], [100.0, 0.0]])
    arrows = _drawn(vector_field(positions, [[1.0, 0], [-0.9, 0], [1, 0], [1, 0]], bins=2), "field")
    assert np.hypot(arrows.U, arrows.V).tolist() == pytest.approx([0.05 * 47.5, 47.5])


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_cells_are_drawn(n):
    assert to_bytes(vector_field(POSITIONS[:n], np.ones((n, 2))), "png", dpi=40).startswith(b"\x89PNG")
    assert to_bytes(edge_map(POSITIONS[:n], [[0], [n - 1]], [1.0]), "png", dpi=40).startswith(b"\x89PNG")
