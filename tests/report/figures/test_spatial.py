import numpy as np
import pandas as pd
import pytest

from metaniche.report.figures.spatial import spatial_map
from metaniche.report.figures.style import to_bytes


def test_coloured_cells_are_exactly_the_malignant_ones(cells):
    figure = spatial_map(cells, ["P03_s1", "P10_s1"])
    for panel, sample in zip(figure.axes, ["P03_s1", "P10_s1"]):
        here = cells[cells["sample_id"] == sample]
        grey, coloured = panel.collections
        assert len(coloured.get_offsets()) == here["is_malignant"].sum()
        assert len(grey.get_offsets()) == (~here["is_malignant"]).sum()
        expected = here.loc[here["is_malignant"], "metaniche_potential"].to_numpy()
        np.testing.assert_allclose(coloured.get_array(), expected)


def test_panels_share_one_scale_and_have_titles_and_a_bar_in_micrometres(cells):
    figure = spatial_map(cells, ["P03_s1", "P71_s1"], {"P03_s1": "first"}, limits=(0.1, 0.9))
    assert {p.collections[-1].get_clim() for p in figure.axes[:2]} == {(0.1, 0.9)}
    assert [p.get_title(loc="left") for p in figure.axes[:2]] == ["first", "P71_s1"]
    for panel in figure.axes[:2]:
        left, right = panel.lines[0].get_xdata()
        words = panel.texts[0].get_text().strip()
        assert words == f"{right - left:g} µm"


def test_a_long_tissue_is_measured_in_millimetres(cells):
    figure = spatial_map(cells.assign(x_um=cells["x_um"] * 20), ["P03_s1"])
    assert figure.axes[0].texts[0].get_text().strip().endswith("mm")


def test_types_of_grey_cells_stand_in_the_legend(cells):
    names = [t.get_text() for t in spatial_map(cells, ["P03_s1"]).legends[0].get_texts()]
    assert "CD8 T cell" in names
    assert names[-1] == "other types"
    assert "tumour" not in names


def test_the_colour_scale_says_what_it_is(cells):
    bars = [spatial_map(cells, ["P03_s1"], label=label).axes[-1].get_ylabel() for label in (None, "Probability")]
    assert bars == ["Metastatic potential (malignant cells)", "Probability"]


def test_any_other_column_colours_every_cell_that_has_it(cells):
    figure = spatial_map(cells, ["P03_s1"], value="metaniche_attention")
    assert len(figure.axes[0].collections[-1].get_offsets()) == 1200


@pytest.mark.parametrize(
    "change",
    [
        {"metaniche_potential": np.nan},
        {"is_malignant": False},
    ],
)
def test_nothing_to_colour_says_so(cells, change):
    figure = spatial_map(cells.head(50).assign(**change))
    assert "No map" in figure.axes[0].texts[0].get_text()


def test_no_cells_and_no_column_say_so(cells):
    assert "No map" in spatial_map(cells.head(0)).axes[0].texts[0].get_text()
    assert "No map" in spatial_map(cells, value="absent").axes[0].texts[0].get_text()


@pytest.mark.parametrize("n", [1, 2])
def test_a_sample_of_one_or_two_cells_in_a_line_is_drawn(n):
    cells = pd.DataFrame({"sample_id": "s", "x_um": [5.0] * n, "y_um": [5.0] * n, "metaniche_potential": [0.5] * n})
    assert to_bytes(spatial_map(cells), "png", dpi=40).startswith(b"\x89PNG")


def test_without_types_or_malignancy_the_rest_is_other_cells():
    cells = pd.DataFrame(
        {"sample_id": "s", "x_um": np.arange(9.0), "y_um": 0.0, "metaniche_potential": [0.1] * 5 + [np.nan] * 4}
    )
    figure = spatial_map(cells)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["other cells"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.002, 0.004], (0.0, 0.1)),
        ([0.5, 0.5], (0.45, 0.55)),
        ([0.99, 1.0], (0.9, 1.0)),
        ([-3.0, -2.99], (-3.045, -2.945)),  # no share
        ([0.1, 0.9], (0.1, 0.9)),
    ],
)
def test_what_is_practically_equal_is_not_spread_over_all_colours(values, expected):
    cells = pd.DataFrame(
        {"sample_id": "s", "x_um": np.arange(200.0), "y_um": 0.0, "metaniche_potential": np.repeat(values, 100)}
    )
    (panel, *_) = spatial_map(cells).axes
    assert panel.collections[-1].get_clim() == pytest.approx(expected, abs=2e-3)
