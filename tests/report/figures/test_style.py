import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import to_rgb
from scipy.spatial.distance import pdist

from metaniche.io.keys import RESEARCH_USE_ONLY
from metaniche.report.figures.style import KIND_COLOR, colors_of, data_uri, new_figure, plain, said, styled, to_bytes


@styled
def _drawn(text="x"):
    figure = new_figure(3, 2)
    figure.add_subplot().set_title(text)
    return figure


def test_every_figure_is_signed_and_leaves_the_global_style_alone():
    before = dict(rcParams)
    assert RESEARCH_USE_ONLY in [t.get_text() for t in _drawn().texts]
    assert dict(rcParams) == before


def test_same_figure_same_bytes():
    assert to_bytes(_drawn(), "svg") == to_bytes(_drawn(), "svg")


def test_svg_carries_no_timestamp_and_no_outside_reference():
    text = to_bytes(_drawn(), "svg").decode()
    assert "<dc:date>" not in text
    assert 'xlink:href="http' not in text


def test_a_dollar_name_is_a_name_and_not_a_formula():
    broken_formula = r"a$\frac{$b"
    assert to_bytes(_drawn(broken_formula), "png").startswith(b"\x89PNG")


def test_data_uri_names_its_kind():
    assert data_uri(_drawn(), "png").startswith("data:image/png;base64,")
    assert data_uri(_drawn()).startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize(
    ("name", "label"), [("_hidden", " _hidden"), ("a\nb\x00", "ab"), ("x" * 50, "x" * 35 + "…"), (7, "7")]
)
def test_plain_label(name, label):
    assert plain(name) == label


def test_notebooks_get_a_picture_without_pyplot():
    assert _drawn()._repr_png_().startswith(b"\x89PNG")


def test_two_models_of_one_kind_are_told_apart():
    looks = colors_of(["a", "b", "c"], {"a": "network", "b": "network", "c": "clinical"})
    assert len(set(map(str, looks.values()))) == 3
    assert looks["a"][0] == looks["b"][0] != looks["c"][0]


# doi:10.1109/TVCG.2009.113, severity 1, on linear RGB
_DEFICIENCY = {
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


@pytest.mark.parametrize("kind", _DEFICIENCY)
def test_kinds_of_models_are_told_apart_with_a_colour_vision_deficiency(kind):
    rgb = np.array([to_rgb(c) for c in KIND_COLOR.values()])
    seen = np.clip((rgb**2.2) @ np.array(_DEFICIENCY[kind]).T, 0, 1) ** (1 / 2.2)
    assert pdist(seen).min() > 0.15


def test_said_holds_the_words():
    assert [t.get_text() for t in said("nothing here").axes[0].texts] == ["nothing here"]
