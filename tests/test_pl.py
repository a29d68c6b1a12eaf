import json

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, concat

from metaniche import pl, tl
from metaniche.data.synthetic import SyntheticConfig, generate, resource
from metaniche.data.task import Targets, Task
from metaniche.errors import InputError
from metaniche.evaluation.predictions import CrossValidation
from metaniche.evaluation.table import comparison_table
from metaniche.io import keys
from metaniche.io.matrices import log_normalised
from metaniche.report.figures.signal_map import vector_field
from metaniche.report.figures.style import to_bytes


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "sample_id": pd.Categorical(["a"] * 30 + ["b"] * 30),
            "cell_type": pd.Categorical(["tumour", "stroma"] * 30),
            "is_malignant": [True, False] * 30,
            "metaniche_potential": np.where(np.arange(60) % 2 == 0, rng.uniform(size=60), np.nan),
        },
        index=[f"c{i}" for i in range(60)],
    )
    spatial = {"spatial": rng.uniform(0, 100, (60, 2))}
    return AnnData(np.zeros((60, 1), "float32"), obs=obs, obsm=spatial, uns={"metaniche": {"um_per_unit": 1.0}})


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"model": ["m"] * 40 + ["n"] * 40, "patient_id": [f"p{i}" for i in range(40)] * 2})
    table["risk"], table["y"] = rng.uniform(size=80), list(rng.integers(0, 2, 40)) * 2
    table["time"], table["event"] = list(rng.exponential(10, 40) + 1) * 2, list(rng.integers(0, 2, 40)) * 2
    return table


def _titles(figure):
    return [a.get_title(loc="left") for a in figure.axes if a.get_title(loc="left")]


def test_map_shows_each_sample_or_the_ones_asked_for(adata):
    assert _titles(pl.metastatic_potential(adata)) == ["a", "b"]
    assert _titles(pl.metastatic_potential(adata, "b")) == ["b"]


def test_map_is_drawn_in_micrometres(adata):
    def width(figure):
        return np.ptp(figure.axes[0].collections[-1].get_offsets()[:, 0])

    one = pl.metastatic_potential(adata, "a")
    del adata.uns["metaniche"]
    with pytest.raises(InputError, match="um_per_unit"):
        pl.metastatic_potential(adata, "a")
    two = pl.metastatic_potential(adata, "a", um_per_unit=2.0)
    assert width(two) == pytest.approx(2 * width(one))
    adata.uns["metaniche"] = {"um_per_unit": 3.0}
    assert width(pl.metastatic_potential(adata, "a")) == pytest.approx(3 * width(one))


def test_attention_is_drawn_as_a_share_of_its_samples_mean(adata):
    adata.obs["metaniche_attention"] = np.where(adata.obs["sample_id"] == "a", 1 / 30, 1 / 300)
    adata.obs.loc["c0", "metaniche_attention"] = 3 / 30
    drawn = pl.metastatic_potential(adata, value="metaniche_attention")
    shown = [
        np.concatenate([c.get_array() for c in a.collections if c.get_array() is not None]) for a in drawn.axes[:2]
    ]
    assert [v.mean() for v in shown] == pytest.approx([1, 1])
    assert shown[0].max() == pytest.approx(3 / (32 / 30))


def test_map_does_not_touch_the_adata(adata):
    before = adata.copy()
    pl.metastatic_potential(adata)
    pd.testing.assert_frame_equal(adata.obs, before.obs)


def test_coordinates_may_be_a_table(adata):
    table = pd.DataFrame(adata.obsm["spatial"], adata.obs_names, ["x", "y"])
    drawn, expected = (
        pl.metastatic_potential(a).axes[0].collections[0].get_offsets()
        for a in (AnnData(obs=adata.obs, obsm={"spatial": table}, uns=adata.uns), adata)
    )
    assert np.array_equal(drawn, expected)


def test_an_adata_without_samples_is_one(adata):
    del adata.obs["sample_id"]
    assert _titles(pl.metastatic_potential(adata)) == ["sample"]


def test_map_refuses_what_it_cannot_draw(adata):
    with pytest.raises(InputError, match="absent"):
        pl.metastatic_potential(adata, value="absent")
    with pytest.raises(InputError, match="found \\['z'\\]"):
        pl.metastatic_potential(adata, ["a", "z"])
    del adata.obsm["spatial"]
    with pytest.raises(InputError, match="spatial"):
        pl.metastatic_potential(adata)


def test_roc_draws_each_model(predictions):
    gids = {line.get_gid() for line in pl.roc(predictions).axes[0].lines}
    assert {"m", "n"} <= gids


def test_kaplan_meier_takes_the_first_model_by_default(predictions):
    assert _titles(pl.kaplan_meier(predictions))[0].endswith("m")
    assert _titles(pl.kaplan_meier(predictions, "n"))[0].endswith("n")


def test_comparison_takes_a_table_indexed_by_model():
    table = pd.DataFrame({"harrell_c": [0.6, 0.7], "harrell_c_low": 0.5, "harrell_c_high": 0.8}, index=["a", "b"])
    axes = pl.comparison(table).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["b", "a"]
    assert axes.get_xlabel() == "Harrell's C"
    by_metric = pl.comparison(table.assign(ibs=[0.1, 0.2], ibs_low=0, ibs_high=1), "ibs").axes[0]
    assert [t.get_text() for t in by_metric.get_yticklabels()] == ["a", "b"]


def test_comparison_draws_a_comparison_table_with_its_kinds_and_differences(predictions):
    units = predictions.assign(unit_id=predictions["patient_id"], repeat=0, fold=0, score=predictions["risk"])
    units["role"], units["n_variables"] = units["model"].map({"m": "model", "n": "baseline"}), 1.0
    labels = predictions.drop_duplicates("patient_id").set_index("patient_id", drop=False)[["patient_id", "y"]]
    task = Task("spread", "spread", label="spread", positive=(1,))
    targets = Targets(task, labels.rename_axis("unit_id"), {})
    figure = pl.comparison(comparison_table(CrossValidation(units, (), targets, np.zeros(0)), n_boot=20))
    assert len(figure.axes) == 2
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["network", "baseline"]


@pytest.mark.parametrize("draw", [pl.roc, pl.kaplan_meier])
def test_a_missing_column_is_named(predictions, draw):
    with pytest.raises(InputError, match="risk"):
        draw(predictions.drop(columns="risk"))


@pytest.fixture
def signals():
    rng = np.random.default_rng(0)
    rows = [
        (s, a, b, f"L{i}") for s in "xy" for a in ("stroma", "tumour") for b in ("stroma", "tumour") for i in range(4)
    ]
    table = pd.DataFrame(rows, columns=["sample_id", "sender", "receiver", "ligand"])
    table["receptor"], table["expected"] = "R", 1.0
    table["score"], table["z"] = rng.uniform(0.5, 3, 32), rng.normal(size=32)
    table["q"] = np.where(table["sample_id"] == "x", 0.01, 1.0)
    return table


COMMUNICATION = [pl.communication_heatmap, pl.communication_dotplot, pl.communication_chord]


def _numbers(figure):
    return [t.get_text() for t in figure.axes[0].texts]


@pytest.mark.parametrize("draw", COMMUNICATION)
def test_communication_is_drawn_from_the_adata_or_from_its_table(adata, signals, draw):
    adata.uns["metaniche"]["communication"] = signals
    assert to_bytes(draw(adata), "svg") == to_bytes(draw(signals), "svg")


def test_communication_of_what_the_tool_wrote_is_drawn():
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    adata = synthetic.read(synthetic.samples.index[0])
    tl.communicate(adata, resource(), graph={"radius_um": 60.0})
    table = adata.uns["metaniche"]["communication"]
    types = sorted({*table["sender"], *table["receiver"]})
    figure = pl.communication_heatmap(adata)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == types
    assert sum(map(int, _numbers(figure))) == (table["q"] < 0.05).sum()
    assert pl.communication_dotplot(adata, color="enrichment").axes
    assert pl.communication_chord(adata, alpha=1.1).axes


def test_communication_of_one_sample_or_the_mean_of_all(signals):
    assert set(_numbers(pl.communication_heatmap(signals, "x"))) == {"4"}
    assert set(_numbers(pl.communication_heatmap(signals, ["y"]))) == {"0"}
    assert set(_numbers(pl.communication_heatmap(signals))) == {"2"}
    assert "No chord diagram" in _numbers(pl.communication_chord(signals, "y"))[0]


@pytest.mark.parametrize("draw", COMMUNICATION)
def test_communication_refuses_what_it_cannot_draw(adata, signals, draw):
    with pytest.raises(InputError, match=r"Run metaniche.tl.communicate\(adata\) first"):
        draw(adata)
    del adata.uns["metaniche"]
    with pytest.raises(InputError, match=r"Run metaniche.tl.communicate\(adata\) first"):
        draw(adata)
    with pytest.raises(InputError, match="found none in 0 rows"):
        draw(signals.head(0))
    with pytest.raises(InputError, match="null_model"):
        draw(signals.assign(q=np.nan))
    with pytest.raises(InputError, match="no \\['q'\\]"):
        draw(signals.drop(columns="q"))
    with pytest.raises(InputError, match="found \\['z'\\]"):
        draw(signals, ["x", "z"])
    with pytest.raises(InputError, match="no \\['sample_id'\\]"):
        draw(signals.drop(columns="sample_id"), "x")


@pytest.fixture(scope="module")
def tumours():
    """Two samples of one AnnData, and the pair that was planted in them."""
    synthetic = generate(SyntheticConfig(n_patients=4, n_cells=500))
    ids = synthetic.samples.index[-2:]
    return concat({s: synthetic.read(s) for s in ids}, label="sample_id", index_unique="-", uns_merge="first"), ids


PAIR = "CXCL12", "CXCR4"


def _arrows(figure, gid):
    return next(c for c in figure.axes[0].collections if c.get_gid() == gid)


def test_edges_of_a_pair_are_those_of_all_signals(tumours):
    adata, ids = tumours
    figure = pl.signal_edges(adata, *PAIR, ids[0], n_edges=50)
    arrows = _arrows(figure, "edges")
    one = adata[adata.obs["sample_id"] == ids[0]]
    x = log_normalised(one.X)
    x = x.toarray() if hasattr(x, "toarray") else x
    ligand, receptor = (x[:, one.var_names.get_loc(gene)] for gene in PAIR)
    apart = np.linalg.norm(one.obsm["spatial"][:, None] - one.obsm["spatial"], axis=2)
    signal = np.exp(-apart / 40) * (apart <= 100) * ligand[:, None] * receptor
    np.fill_diagonal(signal, 0)
    np.testing.assert_allclose(np.sort(arrows.get_array())[::-1], np.sort(signal.ravel())[::-1][:50], rtol=1e-4)
    strongest = one.obsm["spatial"][np.unravel_index(signal.argmax(), signal.shape)[0]]
    np.testing.assert_allclose(arrows.get_offsets()[-1], strongest, atol=1e-3)
    assert _titles(figure)[0] == f"CXCL12 – CXCR4: the strongest edges: 50 of {(signal > 0).sum()} with a signal"


@pytest.mark.parametrize(("decay_um", "reach_um"), [(25.0, 25.0), (80.0, 60.0)])
def test_signals_are_drawn_as_the_tool_saw_them(tumours, decay_um, reach_um):
    adata, ids = tumours[0].copy(), tumours[1]
    near = {"decays": {"secreted": {"kind": "cut", "length_um": decay_um}}, "score": "geometric_mean"}
    default = _arrows(pl.signal_edges(adata, *PAIR, ids[0], n_edges=10**6, signaling_type="secreted"), "edges")
    tl.communicate(adata, resource(), graph={"radius_um": 60.0}, **near)
    seen = _arrows(pl.signal_edges(adata, *PAIR, ids[0], n_edges=10**6), "edges")
    assert reach_um - 5 < np.hypot(seen.U, seen.V).max() <= reach_um < np.hypot(default.U, default.V).max()
    one = adata[adata.obs["sample_id"] == ids[0]]
    x = log_normalised(one.X)
    product = [x[:, one.var_names.get_loc(gene)].max() for gene in PAIR]
    assert seen.get_array().max() <= np.sqrt(product[0] * product[1]) * 1.001
    # Its own rule for the pair, not the one of the table.
    other = _arrows(pl.signal_edges(adata, *PAIR, ids[0], n_edges=10**6, signaling_type="contact"), "edges")
    assert np.hypot(other.U, other.V).max() <= 20.0


def test_directions_of_a_pair_point_where_its_signals_go():
    """A sender in the middle whose receivers all stand to its right."""
    pos = np.array([[0.0, 0.0], [10.0, 1.0], [10.0, -1.0], [12.0, 0.0], [-60.0, 0.0], [60.0, 0.0]])
    x = np.array([[5, 0], [0, 5], [0, 5], [0, 5], [0, 0], [0, 0]], "float32")
    obs = pd.DataFrame({"cell_type": pd.Categorical(list("abbbcc"))}, index=[f"c{i}" for i in range(6)])
    adata = AnnData(x, obs=obs, var=pd.DataFrame(index=["L", "R"]), obsm={"spatial": pos})
    figure = pl.signal_directions(adata, "L", "R", bins=3, feature_kind="intensity", um_per_unit=1.0)
    arrows = _arrows(figure, "field")
    assert len(arrows.U) == 1
    assert arrows.U[0] > 0
    assert arrows.V[0] == pytest.approx(0.0, abs=1e-5)
    assert _titles(figure)[0].startswith("L – R: direction of the signal in squares of 40 µm")


def test_one_long_arrow_leaves_the_others_to_be_seen():
    rng = np.random.default_rng(0)
    pos = np.vstack(([[0.0, 0.0], [100.0, 100.0]], rng.uniform(0, 100, (600, 2))))
    direction = np.tile([1.0, 0.0], (602, 1))
    direction[pos[:, 0] < 10] = [0.0, 1e-3]
    direction[0] = [1000.0, 0.0]
    arrows = _arrows(vector_field(pos, direction, bins=10), "field")
    lengths = np.hypot(arrows.U, arrows.V)
    assert lengths.max() == pytest.approx(9.5)
    assert np.median(lengths) > 4.5
    assert 90 <= len(lengths) <= 91  # the squares of the first column but the corner's have next to no direction


def test_length_scale_draws_the_profile_of_a_pair_between_two_types(tumours):
    adata, ids = tumours
    figure = pl.length_scale(adata, *PAIR, "caf", "malignant", ids[1], edges_um=(0, 20, 40, 60, 80))
    line = next(line for line in figure.axes[0].lines if line.get_gid() != "expected")
    assert line.get_label().endswith("caf to malignant")
    at = line.get_xdata()
    assert len(at) == 4
    assert all(low < d <= low + 20 for d, low in zip(at, (0, 20, 40, 60)))
    one = adata[adata.obs["sample_id"] == ids[1]]
    x, kind = log_normalised(one.X), one.obs["cell_type"].astype(str).to_numpy()
    ligand, receptor = (np.asarray(x[:, [one.var_names.get_loc(gene)]].astype(float).sum(1)).ravel() for gene in PAIR)
    caf, malignant = kind == "caf", kind == "malignant"
    apart = np.linalg.norm(one.obsm["spatial"][caf][:, None] - one.obsm["spatial"][malignant], axis=2)
    for ring, low in enumerate((0, 20, 40, 60)):
        a, b = np.nonzero((apart > low) & (apart <= low + 20))
        seen = (ligand[caf][a] * receptor[malignant][b]).mean() / (ligand[caf].mean() * receptor[malignant].mean())
        assert line.get_ydata()[ring] == pytest.approx(seen, rel=1e-3)
        assert at[ring] == pytest.approx(apart[a, b].mean(), rel=1e-3)


@pytest.mark.parametrize("draw", [pl.signal_edges, pl.signal_directions])
def test_signals_at_their_place_refuse_what_they_cannot_draw(tumours, draw):
    adata, ids = tumours
    with pytest.raises(InputError, match=f"found 2 in obs\\['sample_id'\\]. Name one: sample='{ids[0]}'"):
        draw(adata, *PAIR)
    with pytest.raises(InputError, match="found \\['z'\\]"):
        draw(adata, *PAIR, "z")
    with pytest.raises(InputError, match="NOTAGENE"):
        draw(adata, "NOTAGENE", "CXCR4", ids[0])
    with pytest.raises(InputError, match="um_per_unit"):
        draw(AnnData(adata.X, adata.obs, adata.var, obsm=dict(adata.obsm)), *PAIR, ids[0])


@pytest.mark.parametrize("kind", [list, pd.Series, pd.Categorical, pd.Index, lambda ids: dict.fromkeys(ids)])
def test_samples_may_be_named_in_any_collection(adata, kind):
    assert len(pl.metastatic_potential(adata, kind(["a", "b"])).axes) == 3


def test_samples_whose_ids_are_numbers_may_be_named_by_them(adata):
    adata.obs["sample_id"] = adata.obs["sample_id"].map({"a": 1, "b": 2}).astype(int)
    assert len(pl.metastatic_potential(adata, 1).axes) == 2


def test_length_scale_is_of_the_recorded_score(tumours):
    adata, ids = tumours
    ends = "caf", "malignant", ids[1]
    seen = {}
    for score in ("product", "hill", "mass_action"):
        noted = adata.copy()
        about = {"score": score, "half_saturation": 0.5, "graph": {}}
        noted.uns[keys.UNS] = adata.uns[keys.UNS] | {f"{keys.COMMUNICATION}_parameters": json.dumps(about)}
        figure = pl.length_scale(noted, *PAIR, *ends, edges_um=(0, 20, 40, 60))
        seen[score] = next(line for line in figure.axes[0].lines if line.get_gid() != "expected").get_ydata()
    assert np.abs(seen["product"] - seen["hill"]).max() > 0.01
    np.testing.assert_allclose(seen["mass_action"], seen["product"])


def test_length_scale_refuses_types_that_are_not_there(tumours):
    adata, ids = tumours
    with pytest.raises(InputError, match=r"found 'absent'\. Name types of the cells"):
        pl.length_scale(adata, *PAIR, "absent", "malignant", ids[0])


def test_signals_of_patients_are_drawn_from_their_table():
    row = {"sender": "a", "receiver": "b", "ligand": "L", "receptor": "R", "low": 1.1, "high": 1.9, "q": 0.01}
    figure = pl.signals_of_patients(pd.DataFrame([row | {"enrichment": 1.5}]))
    assert "a → b: L - R" in [t.get_text() for t in figure.axes[0].get_yticklabels()]
    with pytest.raises(InputError, match="enrichment"):
        pl.signals_of_patients(pd.DataFrame([row]))
