from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from metaniche.errors import InputError
from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.report.figures.communication import chord, length_scale, pair_dotplot, sender_receiver_heatmap
from metaniche.report.figures.style import to_bytes

TYPES = ["B cell", "macrophage", "stroma", "tumour"]
UNTESTED = ("stroma", "B cell")


def signals(types=TYPES, n_pairs=8, seed=0, untested=UNTESTED):
    """Every pair between every two types but `untested`, a third of them with a small q."""
    rng = np.random.default_rng(seed)
    rows = [
        {"sender": a, "receiver": b, "ligand": f"L{p}", "receptor": f"R{p}"}
        for a, b, p in product(types, types, range(n_pairs))
        if (a, b) != untested
    ]
    table = pd.DataFrame(rows).sample(frac=1, random_state=seed, ignore_index=True)
    small = rng.uniform(size=len(table)) < 0.3
    table["q"] = np.where(small, 10 ** -rng.uniform(2, 9, len(table)), rng.uniform(0.2, 1, len(table)))
    table["z"] = rng.normal(size=len(table)) + 4 * small
    table["expected"], table["score"] = 1.0, 2 ** rng.normal(size=len(table))
    # Nothing goes from or to B cells but among themselves.
    table.loc[(table["sender"] == "B cell") != (table["receiver"] == "B cell"), "q"] = 0.9
    return table


@pytest.fixture
def table():
    return signals()


def _numbers(figure):
    """(sender, receiver) -> the text in the cell."""
    axes = figure.axes[0]
    names = [t.get_text() for t in axes.get_yticklabels()]
    assert [t.get_text() for t in axes.get_xticklabels()] == names
    return {(names[int(y)], names[int(x)]): t.get_text() for t in axes.texts for x, y in [t.get_position()]}


def _untested(figure):
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    patches = [p for p in figure.axes[0].patches if p.get_gid() == "not tested"]
    assert all(p.get_hatch() for p in patches)
    return [(names[round(p.get_y() + 0.5)], names[round(p.get_x() + 0.5)]) for p in patches]


def _words(figure):
    return [t.get_text() for t in figure.legends[0].get_texts()] if figure.legends else []


def _title(figure):
    return figure.get_suptitle()


def _counts(table, alpha=0.05):
    return (table["q"] < alpha).groupby([table["sender"], table["receiver"]]).sum()


def test_heatmap_holds_the_tables_counts_and_nothing_where_nothing_was_tested(table):
    figure = sender_receiver_heatmap(table)
    assert _numbers(figure) == {key: str(n) for key, n in _counts(table).items()}
    assert _untested(figure) == [UNTESTED]
    assert UNTESTED not in _numbers(figure)
    assert _numbers(figure)["B cell", "tumour"] == "0"
    assert _words(figure) == ["not tested"]
    values = figure.axes[0].images[0].get_array()
    assert values.mask.sum() == 1
    assert values[3, 2] == _counts(table)["tumour", "stroma"] > 0


def test_heatmap_follows_alpha(table):
    assert _numbers(sender_receiver_heatmap(table, alpha=1e-4)) == {
        key: str(n) for key, n in _counts(table, 1e-4).items()
    }


def test_heatmap_of_z_is_the_mean_over_pairs_on_a_scale_around_zero(table):
    table.loc[(table["sender"] == "stroma") & (table["receiver"] == "tumour"), "z"] = np.nan
    figure = sender_receiver_heatmap(table, "z")
    mean = table.groupby(["sender", "receiver"])["z"].mean()
    numbers = _numbers(figure)
    for key, z in mean.drop(("stroma", "tumour")).items():
        assert float(numbers[key].replace("−", "-")) == pytest.approx(z, abs=0.0501)
    assert numbers["stroma", "tumour"] == "–"
    assert UNTESTED not in numbers
    low, high = figure.axes[0].images[0].get_clim()
    assert -low == high == pytest.approx(mean.abs().max())


def test_patients_count_once_whatever_their_number_of_samples(table):
    one = table.assign(sample_id="a1", patient_id="a")
    two = table.assign(sample_id="a2", patient_id="a", q=1.0)
    other = table.assign(sample_id="b1", patient_id="b")
    numbers = _numbers(sender_receiver_heatmap(pd.concat([one, two, other])))
    for key, n in _counts(table).items():
        assert float(numbers[key]) == pytest.approx((n / 2 + n) / 2, abs=0.0501)
    bar = sender_receiver_heatmap(pd.concat([one, two, other])).axes[1]
    assert "mean of 2 patients" in bar.get_ylabel()
    assert "mean of 2 samples" in sender_receiver_heatmap(pd.concat([one, two])).axes[1].get_ylabel()


def test_types_between_which_one_sample_tested_nothing_are_averaged_over_the_others(table):
    tested = table[~((table["sender"] == "tumour") & (table["receiver"] == "tumour"))]
    both = pd.concat([table.assign(sample_id="s"), tested.assign(sample_id="t")])
    assert _numbers(sender_receiver_heatmap(both))["tumour", "tumour"] == str(_counts(table)["tumour", "tumour"])


@pytest.mark.parametrize("n_types", [1, 2, 30])
def test_heatmap_of_few_and_of_many_types_has_every_name_and_every_number(n_types):
    table = signals([f"cell type number {i}" for i in range(n_types)], 2, untested=None)
    figure = sender_receiver_heatmap(table)
    assert len(_numbers(figure)) == n_types**2
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].get_yticklabels()]
    assert all(lower.y1 <= upper.y0 + 1 for upper, lower in pairwise(boxes))
    width, height = figure.get_size_inches() * figure.dpi
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)


def test_nothing_significant_is_said_and_zeros_are_drawn(table):
    figure = sender_receiver_heatmap(table.assign(q=1.0))
    assert _title(figure).endswith("none has q < 0.05")
    assert set(_numbers(figure).values()) == {"0"}
    assert "none" not in _title(sender_receiver_heatmap(table))
    assert _title(pair_dotplot(table.assign(q=1.0))).endswith("none has q < 0.05")
    assert chord(table.assign(q=1.0)).axes[0].texts[0].get_text() == "No chord diagram: no pair has q < 0.05."


@pytest.mark.parametrize("draw", [sender_receiver_heatmap, pair_dotplot, chord])
def test_no_tested_signal_says_so(table, draw):
    for empty in (table.head(0), table.assign(q=np.nan), pd.DataFrame()):
        assert "no tested signal" in draw(empty).axes[0].texts[0].get_text()


@pytest.mark.parametrize("draw", [sender_receiver_heatmap, pair_dotplot, chord])
def test_one_pair_is_drawn_and_signed(table, draw):
    figure = draw(table.sort_values("q").head(1))
    assert RESEARCH_USE_ONLY in [t.get_text() for t in figure.texts]
    assert to_bytes(figure, "png", dpi=40).startswith(b"\x89PNG")


@pytest.mark.parametrize("draw", [sender_receiver_heatmap, pair_dotplot, chord])
def test_categorical_types_without_a_signal_make_no_row(table, draw):
    types = [*TYPES, "never there"]
    text = to_bytes(draw(table), "svg")
    assert to_bytes(draw(table.astype({c: pd.CategoricalDtype(types) for c in ("sender", "receiver")})), "svg") == text


def test_unknown_values_are_named(table):
    with pytest.raises(InputError, match="found 'p'"):
        sender_receiver_heatmap(table, "p")
    with pytest.raises(InputError, match="found 'p'"):
        pair_dotplot(table, color="p")


def _dots(figure):
    """(pair, column) -> (area, colour value, width of the rim)."""
    axes = figure.axes[0]
    rows, columns = ([t.get_text() for t in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels()))
    dots = axes.collections[0]
    shown = zip(dots.get_offsets(), dots.get_sizes(), dots.get_array().filled(np.nan), dots.get_linewidths())
    return {(rows[int(y)], columns[int(x)]): (size, value, rim) for (x, y), size, value, rim in shown}


def test_dots_stand_where_a_pair_was_tested_and_nowhere_else(table):
    dropped = table.drop(table.index[(table["ligand"] == "L3") & (table["sender"] == "tumour")])
    dots = _dots(pair_dotplot(dropped))
    expected = {
        (f"{r['ligand']} – {r['receptor']}", f"{r['sender']} → {r['receiver']}") for r in dropped.to_dict("records")
    }
    assert set(dots) == expected
    assert ("L3 – R3", "tumour → stroma") not in dots


def test_dots_are_as_large_as_the_tail_up_to_the_cap_and_as_red_as_z():
    table = signals(["a"], 4, untested=None).sort_values("ligand", ignore_index=True)
    table["q"], table["z"] = [1e-20, 1e-6, 1e-3, 1.0], [3.0, 1.0, np.nan, -2.0]
    dots = [_dots(pair_dotplot(table))[f"L{i} – R{i}", "a → a"] for i in range(4)]
    area = [d[0] for d in dots]
    assert area[0] == area[1] > area[2] > area[3] > 0
    assert area[1] - area[2] == pytest.approx(area[2] - area[3])
    assert [d[1] for d in dots[:2]] == pytest.approx([2.96, 1.0])
    assert np.isnan(dots[2][1])
    assert dots[3][1] == -2.0
    assert dots[1][2] == dots[2][2] > dots[3][2]


def test_enrichment_is_the_binary_logarithm_and_zero_stays_on_the_scale():
    table = signals(["a"], 5, untested=None).sort_values("ligand", ignore_index=True)
    table["score"], table["expected"] = [4.0, 0.25, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 0.0]
    dots = _dots(pair_dotplot(table, color="enrichment"))
    shown = [dots[f"L{i} – R{i}", "a → a"][1] for i in range(5)]
    assert shown[:4] == pytest.approx([2.0, -2.0, -2.0, 0.0])
    assert np.isnan(shown[4])
    patients = table.drop(columns=["score", "expected"]).assign(enrichment=[8.0, 1, 1, 1, 1])
    assert _dots(pair_dotplot(patients, color="enrichment"))["L0 – R0", "a → a"][1] == pytest.approx(3.0, rel=0.1)


def test_pairs_stand_in_the_order_of_their_smallest_q(table):
    figure = pair_dotplot(table, n_pairs=3)
    best = table.groupby("ligand")["q"].min().nsmallest(3).index
    assert [t.get_text()[:2] for t in figure.axes[0].get_yticklabels()] == list(best)
    assert figure.axes[0].yaxis_inverted()


def test_left_out_columns_are_counted_and_no_pair_loses_its_best():
    # One pair is strong everywhere, the other in the last column only.
    table = signals([f"t{i}" for i in range(5)], 2, untested=None)
    last = (table["sender"] == "t4") & (table["receiver"] == "t4")
    table["q"] = np.where(table["ligand"] == "L0", 1e-9, np.where(last, 1e-3, 1.0))
    table.loc[last, "z"] = -9.0
    figure = pair_dotplot(table, n_columns=4)
    columns = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert (len(columns), "t4 → t4" in columns) == (4, True)
    assert figure.axes[0].get_xlabel() == "4 of 25 sender → receiver"
    assert {pair for pair, _ in _dots(figure)} == {"L0 – R0", "L1 – R1"}


def test_a_cohorts_dot_is_the_median_over_patients(table):
    given = zip("aabc", (1e-5, 1, 1e-3, 1e-4))
    figure = pair_dotplot(
        pd.concat(table.assign(sample_id=f"s{i}", patient_id=p, q=q) for i, (p, q) in enumerate(given))
    )
    alone = pair_dotplot(table.assign(q=1e-3))
    key = "L1 – R1", "tumour → stroma"
    assert _dots(figure)[key][0] == pytest.approx(_dots(alone)[key][0])
    assert "median of 3 patients" in _title(figure)


def _angle(point):
    return np.arctan2(point[1], point[0])


def _turn(points):
    """Angle swept along points on circles, radians."""
    return float(np.abs(np.diff(np.unwrap([_angle(p) for p in points]))).sum())


def _ribbons(figure):
    """(sender, receiver) -> patch, width at the sender, width at the receiver (radians)."""
    found = {}
    for patch in figure.axes[0].patches:
        gid = patch.get_gid()
        if " -> " in gid:
            points = patch.get_path().vertices
            found[tuple(gid.split(" -> "))] = (patch, _turn(points[:33]), _turn(points[34:67]))
    return found


def _arcs(figure):
    return {p.get_gid()[4:]: p for p in figure.axes[0].patches if p.get_gid().startswith("arc ")}


def test_ribbons_are_as_wide_as_their_counts_and_fill_the_arcs(table):
    figure = chord(table)
    ribbons, arcs, counts = _ribbons(figure), _arcs(figure), _counts(table)
    assert set(ribbons) == set(counts[counts > 0].index)
    total = sum(np.radians(a.theta2 - a.theta1) for a in arcs.values())
    for key, (_, out, into) in ribbons.items():
        assert out == pytest.approx(into)
        assert out == pytest.approx(total * counts[key] / counts.sum() / 2)
    gaps = [(before.theta1 - after.theta2) % 360 for before, after in pairwise([*arcs.values(), arcs["B cell"]])]
    assert gaps == pytest.approx([gaps[0]] * 4)
    assert gaps[0] > 1
    for name, arc in arcs.items():
        ends = sum(out for (a, _), (_, out, _) in ribbons.items() if a == name)
        ends += sum(into for (_, b), (_, _, into) in ribbons.items() if b == name)
        assert ends == pytest.approx(np.radians(arc.theta2 - arc.theta1))


def test_ribbons_leave_the_senders_arc_in_its_colour_and_point_at_the_receivers(table):
    figure = chord(table)
    arcs = _arcs(figure)
    for (sender, receiver), (patch, _, _) in _ribbons(figure).items():
        assert to_hex(patch.get_facecolor()) == to_hex(arcs[sender].get_facecolor())
        points = patch.get_path().vertices
        radius = np.hypot(*points[34:67].T)
        # The head's tip is its middle; the tail is flush with the rim.
        assert radius.argmax() == 16
        assert radius[16] - radius[0] > 0.02
        np.testing.assert_allclose(np.hypot(*points[:33].T), 1.0)
        for point, name in ((points[16], sender), (points[50], receiver)):
            turned = (np.degrees(_angle(point)) - arcs[name].theta1) % 360
            assert 0 < turned < arcs[name].theta2 - arcs[name].theta1


def test_ends_of_ribbons_do_not_overlap(table):
    spans = []
    for patch, _, _ in _ribbons(chord(table)).values():
        points = patch.get_path().vertices
        for part in (points[:33], points[34:67]):
            spans.append(sorted(np.unwrap([_angle(p) for p in part])[[0, -1]] % (2 * np.pi)))
    spans = sorted(s for s in spans if s[1] - s[0] < np.pi)
    assert all(before[1] <= after[0] + 1e-9 for before, after in pairwise(spans))


def test_types_without_a_significant_pair_are_named_not_drawn(table):
    table.loc[table["sender"] == "B cell", "q"] = 1.0
    figure = chord(table)
    assert set(_arcs(figure)) == {"macrophage", "stroma", "tumour"}
    assert _words(figure)[0].endswith("None from or to 'B cell'.")
    assert _words(figure)[0].startswith(f"{_counts(table).sum()} in all")


def test_twenty_eight_types_have_colours_of_their_own():
    table = signals([f"t{i}" for i in range(28)], 1, untested=None).assign(q=0.001)
    assert len({to_hex(arc.get_facecolor()) for arc in _arcs(chord(table)).values()}) == 28


@pytest.fixture
def profile():
    distance = np.arange(5.0, 105.0, 10.0)
    strong = {"pair": "L – R", "enrichment": 1 + np.exp(-distance / 30), "low": 1.0, "high": 2.2}
    bare = {"pair": "_A – B", "enrichment": np.r_[np.nan, np.ones(9)], "low": np.nan, "high": np.nan}
    return pd.concat([pd.DataFrame({"distance_um": distance, **part}) for part in (strong, bare)])


def test_lines_stand_at_their_enrichment_with_bands_where_there_is_an_interval(profile):
    axes = length_scale(profile.sample(frac=1, random_state=0)).axes[0]
    lines = {line.get_gid(): line for line in axes.lines}
    own = profile[profile["pair"] == "L – R"]
    np.testing.assert_allclose(lines["L – R"].get_xdata(), own["distance_um"])
    np.testing.assert_allclose(lines["L – R"].get_ydata(), own["enrichment"])
    assert np.isnan(lines["_A – B"].get_ydata()[0])
    assert set(lines["expected"].get_ydata()) == {1.0}
    (band,) = axes.collections
    assert band.get_gid() == "L – R"
    assert (band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()) == (1.0, 2.2)
    assert "µm" in axes.get_xlabel()


def test_every_pair_of_a_profile_is_in_the_legend(profile):
    assert _words(length_scale(profile)) == ["L – R", " _A – B"]
    bare = length_scale(profile.drop(columns=["low", "high"]))
    assert not bare.axes[0].collections


def test_a_profile_without_values_says_so(profile):
    for empty in (profile.head(0), profile.assign(enrichment=np.nan), pd.DataFrame()):
        assert "No length scale" in length_scale(empty).axes[0].texts[0].get_text()
