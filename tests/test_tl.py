import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from test_predict import as_anndata, bundle  # noqa: F401
from tissue import make_sample

import metaniche
from metaniche.data.synthetic import SyntheticConfig, generate, resource
from metaniche.errors import ConfigError, InputError
from metaniche.io import keys


def test_in_place_and_as_a_copy(bundle, tmp_path):  # noqa: F811
    folder = bundle.save(tmp_path / "b")
    adata = as_anndata(make_sample("new", "p", seed=50))
    scored = metaniche.tl.metastatic_potential(adata, folder, um_per_unit=1.0, copy=True)
    assert keys.POTENTIAL not in adata.obs
    adata.obs["metaniche_soil"] = 1.0  # of another network
    assert metaniche.tl.metastatic_potential(adata, folder, um_per_unit=1.0) is None
    assert "metaniche_soil" not in adata.obs
    assert np.array_equal(adata.obs[keys.POTENTIAL], scored.obs[keys.POTENTIAL], equal_nan=True)
    assert adata.uns[keys.UNS]["model_hash"] == bundle.hash
    assert adata.uns[keys.UNS]["um_per_unit"] == 1.0
    assert metaniche.pl.metastatic_potential(adata).axes


def test_communication_is_written_in_place(tmp_path):
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    adata = synthetic.read(synthetic.samples.index[0])
    assert metaniche.tl.communicate(adata, resource(), null_model="labels", graph={"radius_um": 60.0}) is None
    about = json.loads(adata.uns[keys.UNS]["communication_parameters"])
    assert (about["null_model"], about["graph"]["radius_um"]) == ("labels", 60.0)
    assert len(adata.uns[keys.UNS][keys.COMMUNICATION])
    assert keys.RECEIVED in adata.obsm


def test_competition_relays_and_local_scores_are_written_in_place(tmp_path):
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    adata = synthetic.read(synthetic.samples.index[0])
    metaniche.tl.compete(adata, resource(), reach_um=40.0)
    assert adata.uns[keys.UNS][keys.COMPETITION]["amount"].max() > 0
    near = adata.copy()
    metaniche.tl.compete(near, resource(), reach_um=15.0)  # nearer than what counts as contact by default
    assert (
        near.uns[keys.UNS][keys.COMPETITION]["n_edges"].sum() < adata.uns[keys.UNS][keys.COMPETITION]["n_edges"].sum()
    )
    with pytest.raises(ConfigError, match="a number above 0"):
        metaniche.tl.compete(adata, resource(), reach_um=0)
    (tmp_path / "links.csv").write_text("receptor,target\nCXCR4,VEGFA\n")
    metaniche.tl.relays(adata, tmp_path / "links.csv", resource())
    assert set(adata.uns[keys.UNS][keys.RELAYS]["received_receptor"]) == {"CXCR4"}
    del adata.obs["cell_type"]
    metaniche.tl.local_association(adata, resource(), pairs=[("CXCL12", "CXCR4")])
    assert adata.obsm[keys.LOCAL].shape == (adata.n_obs, 1)
    assert adata.obsm[keys.LOCAL].notna().all(axis=None)
    assert json.loads(adata.uns[keys.UNS]["association_parameters"])["statistic"] == "moran"
    assert adata.uns[keys.UNS][keys.ASSOCIATION]["p"].notna().all()


@pytest.fixture
def adata():
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    return synthetic.read(synthetic.samples.index[0])


LINKS = pd.DataFrame({"receptor": ["CXCR4"], "target": ["VEGFA"]})


@pytest.mark.parametrize(
    ("verb", "asked"),
    [("communicate", ()), ("compete", ()), ("relays", (LINKS,))],
    ids=[keys.COMMUNICATION, keys.COMPETITION, keys.RELAYS],
)
def test_the_device_is_recorded_and_one_that_is_not_here_refused(adata, verb, asked, request):
    does = partial(getattr(metaniche.tl, verb), adata, *asked, resource())
    with pytest.raises(ConfigError, match="Expected a GPU for device=cuda:99, found"):
        does(device="cuda:99")
    does(device="cpu")
    name = request.node.callspec.id
    assert json.loads(adata.uns[keys.UNS][f"{name}_parameters"])["device"] == "cpu"


def test_settings_reach_the_scores_and_are_recorded(adata):
    complexes = resource().pairs.assign(receptor=lambda t: t["receptor"].mask(t["receptor"] == "CXCR4", "CXCR4_KDR"))
    tables = {}
    for how in ("minimum", "geometric_mean"):
        metaniche.tl.compete(adata, complexes, reach_um=40.0, complexes=how)
        tables[how] = adata.uns[keys.UNS][keys.COMPETITION]["amount"].sum()
    assert tables["minimum"] != pytest.approx(tables["geometric_mean"], rel=1e-3)
    scores = {}
    for score in ("product", "hill"):
        metaniche.tl.relays(adata, LINKS, resource(), score=score)
        scores[score] = adata.uns[keys.UNS][keys.RELAYS]["score"].sum()
        about = json.loads(adata.uns[keys.UNS]["relays_parameters"])["signaling"]
        assert (about["score"], about["null_model"]) == (score, "positions")
    assert scores["product"] != pytest.approx(scores["hill"], rel=1e-3)
    metaniche.tl.relays(adata, LINKS, resource(), null_model="shifts", n_permutations=19)
    shifted = adata.uns[keys.UNS][keys.RELAYS]["p"]
    assert np.allclose(shifted * 20, np.round(shifted * 20))
    for statistic in ("lee", "cosine"):
        metaniche.tl.local_association(adata, resource(), statistic, pairs=[("CXCL12", "CXCR4")])
        scores[statistic] = adata.obsm[keys.LOCAL].to_numpy().sum()
    assert scores["lee"] != pytest.approx(scores["cosine"], rel=1e-3)


def test_local_association_says_once_that_signals_do_not_reach(adata, caplog):
    metaniche.tl.local_association(adata, resource(), decays={"contact": {"length_um": 1e-6}})
    assert caplog.text.count("No edge carries signals of contact") == 1


def test_settings_that_would_not_be_used_are_refused(adata):
    with pytest.raises(ConfigError, match="null_model in"):
        metaniche.tl.relays(adata, LINKS, resource(), null_model="labels")
    for unused in ({"min_share": 0.1}, {"n_permutations": 99}):
        with pytest.raises(ConfigError, match="no min_share, and n_permutations with null_model=shifts only"):
            metaniche.tl.relays(adata, LINKS, resource(), **unused)
    with pytest.raises(ConfigError, match=r"complexes and decays, found .'null_model'"):
        metaniche.tl.local_association(adata, resource(), null_model="labels")
    with pytest.raises(ConfigError, match="a number above 0, found '40'"):
        metaniche.tl.compete(adata, resource(), reach_um="40")
    adata.obs["empty"] = np.nan
    with pytest.raises(InputError, match=r"cell types in obs\['empty'\]"):
        metaniche.tl.communicate(adata, resource(), types="empty")


def test_communication_reads_a_table_by_its_path(tmp_path):
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    adata = synthetic.read(synthetic.samples.index[0])
    resource().pairs[["ligand", "receptor"]].head(2).to_csv(tmp_path / "pairs.csv", index=False)
    metaniche.tl.communicate(adata, tmp_path / "pairs.csv")
    assert adata.uns[keys.UNS][keys.COMMUNICATION]["ligand"].nunique() <= 2


def test_an_unknown_setting_of_communication_is_named():
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    adata = synthetic.read(synthetic.samples.index[0])
    with pytest.raises(ConfigError, match="null_model"):
        metaniche.tl.communicate(adata, resource(), null_modle="labels")


def test_clones_come_from_infercnvpy_or_from_a_caller():
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    adata = synthetic.read(synthetic.samples.index[0])
    del adata.obs["clone_id"]
    with pytest.raises(InputError, match="cnv_leiden"):
        metaniche.tl.clones(adata)
    adata.obs["cnv_leiden"] = np.arange(adata.n_obs) % 2
    metaniche.tl.clones(adata)
    assert set(adata.obs["clone_id"]) == {"0", "1"}
    metaniche.tl.clones(adata, caller=lambda a: [None if i % 2 else "x" for i in range(a.n_obs)])
    assert adata.obs["clone_id"].isna().sum() == adata.n_obs // 2
    with pytest.raises(InputError, match="a clone for each"):
        metaniche.tl.clones(adata, caller=lambda a: ["x"])


def test_clones_in_a_series_are_those_of_its_index():
    synthetic = generate(SyntheticConfig(n_patients=2, n_cells=300))
    adata = synthetic.read(synthetic.samples.index[0])
    own = pd.Series(np.arange(adata.n_obs) % 3, index=adata.obs_names)
    metaniche.tl.clones(adata, caller=lambda a: own.sample(frac=1, random_state=0))
    assert (adata.obs["clone_id"].astype(int) == own).all()
    with pytest.raises(InputError, match="indexed by obs_names"):
        metaniche.tl.clones(adata, caller=lambda a: own.reset_index(drop=True))
