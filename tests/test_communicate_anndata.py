import gc
import json
import tracemalloc
import weakref

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from metaniche import communicate_anndata as module
from metaniche.communicate import Analysis
from metaniche.communicate_anndata import (
    communicate_anndata,
    local_anndata,
    pair_in_tissue,
    samples_of,
    table_of_anndata,
    write_into,
)
from metaniche.data.synthetic import SyntheticConfig, generate, resource
from metaniche.errors import ConfigError, InputError
from metaniche.graph import GraphConfig
from metaniche.io import keys
from metaniche.io.read import read_sample
from metaniche.io.write import write_sample
from metaniche.signaling import GRAPH, Resource, SignalConfig

PLAIN = {"um_per_unit": None, "types": keys.CELL_TYPE, "feature_kind": "counts"}


@pytest.fixture(scope="module")
def synthetic():
    return generate(SyntheticConfig(n_patients=6, n_cells=300, max_samples=2))


@pytest.fixture
def adata(synthetic):
    return synthetic.read(synthetic.samples.index[0])


def test_the_planted_pair_is_among_those_of_an_anndata(adata):
    table, cells, about = communicate_anndata(adata, resource(), SignalConfig(), GRAPH)
    assert list(table)[:2] == [keys.SAMPLE, keys.PATIENT]
    assert ("CXCL12", "CXCR4") in set(zip(table["ligand"], table["receptor"]))
    assert about["graph"]["radius_um"] == GRAPH.radius_um
    assert about["resource"] == "synthetic tumours"
    assert list(cells[keys.SENT].index) == list(adata.obs_names)


def test_signals_stand_at_the_rows_of_their_cells(adata):
    """In whatever order the cells come."""
    order = np.random.default_rng(0).permutation(adata.n_obs)
    one, two = (communicate_anndata(a, resource(), SignalConfig(), GRAPH)[1] for a in (adata, adata[order].copy()))
    for key in (keys.SENT, keys.RECEIVED):
        np.testing.assert_allclose(one[key].to_numpy()[order], two[key].to_numpy(), rtol=1e-4, atol=1e-5)
    assert one[keys.SENT].to_numpy().any()


def test_what_is_written_is_read_back(adata, tmp_path):
    table, cells, about = communicate_anndata(adata, resource(), SignalConfig(), GRAPH)
    write_into(adata, table, cells, about)
    write_sample(adata, tmp_path / "out.h5ad")
    back = read_sample(tmp_path / "out.h5ad")
    stored = back.uns[keys.UNS][keys.COMMUNICATION]
    np.testing.assert_allclose(stored["p"].to_numpy(float), table["p"])
    assert list(stored["ligand"]) == list(table["ligand"])
    assert json.loads(back.uns[keys.UNS]["communication_parameters"])["sha256"] == resource().sha256
    assert back.uns[keys.UNS][keys.UM_PER_UNIT] == 1.0
    np.testing.assert_allclose(back.obsm[keys.SENT].to_numpy(), cells[keys.SENT].to_numpy(), rtol=1e-6)


def test_samples_of_one_anndata_are_apart(synthetic):
    import anndata

    names = list(synthetic.samples.index[:2])
    joined = anndata.concat([synthetic.read(n) for n in names], keys=names, label=keys.SAMPLE)
    joined.uns[keys.UNS] = {keys.UM_PER_UNIT: 1.0}
    table = communicate_anndata(joined, resource(), SignalConfig(), GRAPH)[0]
    alone, _, about = communicate_anndata(synthetic.read(names[1]), resource(), SignalConfig(), GRAPH)
    assert list(about["samples"].values()) == [
        {"n_cells": synthetic.read(names[1]).n_obs, "n_untyped": 0, "n_tested": len(alone)}
    ]
    of_second = table[table[keys.SAMPLE] == names[1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_second.drop(columns=keys.SAMPLE), alone.drop(columns=keys.SAMPLE))


def test_intensities_are_used_as_they_are(adata):
    logged = adata.copy()
    total = np.asarray(logged.X.sum(1)).reshape(-1, 1)
    logged.X = np.log1p(logged.X.toarray() * 1e4 / np.maximum(total, 1)).astype(np.float32)
    counts = communicate_anndata(adata, resource(), SignalConfig(), GRAPH)[0]
    values = communicate_anndata(
        logged, resource(), SignalConfig(), GraphConfig(**vars(GRAPH)), feature_kind="intensity"
    )[0]
    np.testing.assert_allclose(counts["score"], values["score"], rtol=1e-5)


def test_a_table_of_samples_is_written_with_what_it_was_made_with(adata):
    def counted(sample, progress):
        return pd.DataFrame({"kind": ["all"], "n": [sample.n_cells]})

    table_of_anndata(adata, Analysis("counted", counted, [], keys.CELL_TYPE), GRAPH, {"by": "hand"}, **PLAIN)
    stored = adata.uns[keys.UNS]["counted"]
    assert list(stored) == [keys.SAMPLE, keys.PATIENT, "kind", "n"]
    assert stored["n"].tolist() == [adata.n_obs]
    about = json.loads(adata.uns[keys.UNS]["counted_parameters"])
    assert (about["by"], about["types"], about["graph"]["radius_um"]) == ("hand", keys.CELL_TYPE, GRAPH.radius_um)


def test_local_scores_stand_at_the_rows_of_their_cells(adata):
    order = np.random.default_rng(0).permutation(adata.n_obs)
    pairs = [("CXCL12", "CXCR4")]
    (one, table, _), (two, *_) = (
        local_anndata(a, samples_of(a, GRAPH, **PLAIN), resource(), SignalConfig(), "lee", pairs)
        for a in (adata, adata[order].copy())
    )
    assert list(one) == ["CXCL12 - CXCR4"]
    assert list(table)[:4] == [keys.SAMPLE, keys.PATIENT, "ligand", "receptor"]
    assert table["q"].tolist() == pytest.approx(table["p"].tolist())  # of one pair
    np.testing.assert_allclose(one.to_numpy()[order], two.to_numpy(), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match=r"none. Sample .*: .*Did you mean 'CXCL12 - CXCR4'"):
        local_anndata(adata, samples_of(adata, GRAPH, **PLAIN), resource(), SignalConfig(), "lee", [("CXCL12", "CXCR")])


def test_a_pair_is_seen_as_it_was_scored(adata):
    config = SignalConfig(score="hill", half_saturation=0.2, decays={"secreted": {"length_um": 10.0}})
    logged = adata.copy()
    logged.X = np.log1p(logged.X.toarray())
    found = communicate_anndata(
        logged, resource(), config, GraphConfig(radius_um=60.0), feature_kind="intensity", types="region"
    )
    write_into(logged, *found)
    shown = pair_in_tissue(logged, "CXCL12", "CXCR4")
    assert shown.sample.feature_kind == "intensity"
    assert set(shown.sample.cell_types.categories) <= {"core", "front", "stroma"}
    assert float(shown.carrying.distance_um.max()) <= 60
    stored = shown.expression.ligand_NL.values()
    assert shown.problem.ligand_NL.values().numpy() == pytest.approx((stored / (0.2 + stored)).numpy())
    near = float(shown.carrying.distance_um.min())
    weight = shown.problem.weight_E[shown.carrying.distance_um == near]
    assert float(weight[0]) == pytest.approx(float(np.exp(-near / 10)), rel=1e-5)


def test_the_unit_that_was_given_is_remembered(adata):
    adata.uns.clear()
    found = communicate_anndata(adata, resource(), SignalConfig(), GRAPH, um_per_unit=0.5)
    write_into(adata, *found)
    adata.uns[keys.UNS].pop(keys.UM_PER_UNIT, None)
    shown = pair_in_tissue(adata, "CXCL12", "CXCR4")
    assert float(shown.sample.graph.pos_um.max()) < 0.6 * np.abs(adata.obsm["spatial"]).max()


def test_a_sample_that_is_refused_is_left_out_and_said(synthetic, caplog):
    import anndata

    names = list(synthetic.samples.index[:2])
    joined = anndata.concat([synthetic.read(n) for n in names], keys=names, label=keys.SAMPLE)
    joined.uns[keys.UNS] = {keys.UM_PER_UNIT: 1.0}
    first = (joined.obs[keys.SAMPLE] == names[0]).to_numpy()
    joined.obs.loc[first, keys.CELL_TYPE] = np.nan
    table, cells, about = communicate_anndata(joined, resource(), SignalConfig(), GRAPH)
    assert set(table[keys.SAMPLE]) == {names[1]}
    assert about["left_out"] == {names[0]: "no cell has a type in 'cell_type'."}
    assert f"Left out 1 of 2 samples. '{names[0]}': no cell has" in caplog.text
    assert cells[keys.SENT].isna().all(axis=1).tolist() == first.tolist()
    joined.obs[keys.CELL_TYPE] = np.nan
    with pytest.raises(InputError, match=r"cell types in obs\['cell_type'\], found none"):
        communicate_anndata(joined, resource(), SignalConfig(), GRAPH)


@pytest.fixture
def joined(synthetic):
    """Two samples, of which the first has a cell without a place."""
    import anndata

    names = list(synthetic.samples.index[:2])
    both = anndata.concat([synthetic.read(n) for n in names], keys=names, label=keys.SAMPLE)
    both.uns[keys.UNS] = {keys.UM_PER_UNIT: 1.0}
    both.obsm[keys.SPATIAL][0] = np.nan
    return both, names


def test_a_sample_that_cannot_be_read_is_left_out_of_signals_and_of_places(joined, caplog):
    adata, (bad, good) = joined
    table, _, about = communicate_anndata(adata, resource(), SignalConfig(), GRAPH)
    assert set(table[keys.SAMPLE]) == {good}
    assert list(about["left_out"]) == [bad]
    assert "Left out 1 of 2 samples" in caplog.text
    cells, table, left_out = local_anndata(
        adata, samples_of(adata, GRAPH, **PLAIN, typed=False), resource(), SignalConfig(), "lee", [("CXCL12", "CXCR4")]
    )
    assert set(table[keys.SAMPLE]) == {good}
    assert list(left_out) == [bad]
    assert cells.notna().any(axis=1).tolist() == (adata.obs[keys.SAMPLE] == good).tolist()
    with pytest.raises(InputError, match="finite"):
        pair_in_tissue(adata[adata.obs[keys.SAMPLE] == bad].copy(), "CXCL12", "CXCR4")


def test_a_sample_with_few_expressed_genes_is_left_out_of_matched_pairs(joined):
    adata, (poor, good) = joined
    adata.obsm[keys.SPATIAL][0] = 0.0
    x = adata.X.toarray()
    x[(adata.obs[keys.SAMPLE] == poor).to_numpy(), 10:] = 0
    adata.X = sparse.csr_array(x)
    config = SignalConfig(null_model="matched_pairs", n_permutations=9)
    table, _, about = communicate_anndata(adata, resource(), config, GRAPH)
    assert set(table[keys.SAMPLE]) == {good}
    assert "at least 20 expressed genes" in about["left_out"][poor]


def test_a_mistyped_pair_is_named_whatever_else_is_wrong(joined):
    adata, _ = joined
    read = samples_of(adata, GRAPH, **PLAIN, typed=False)
    with pytest.raises(InputError, match="Did you mean 'CXCL12 - CXCR4'"):
        local_anndata(adata, read, resource(), SignalConfig(), "lee", [("CXCL12", "CXCR")])


def test_signals_do_not_ask_which_cells_are_malignant(adata):
    adata.obs[keys.MALIGNANT] = pd.Series(np.nan, adata.obs_names, dtype=object)
    assert len(communicate_anndata(adata, resource(), SignalConfig(), GRAPH)[0])
    assert adata.obs[keys.MALIGNANT].isna().all()


def test_a_pair_that_was_measured_and_not_tested_keeps_its_reach(adata):
    found = communicate_anndata(adata, resource(), SignalConfig(min_share=0.9999), GRAPH)
    write_into(adata, *found)
    pairs = resource().pairs
    contact = pairs[pairs["signaling_type"] == "contact"].iloc[0]
    shown = pair_in_tissue(adata, contact["ligand"], contact["receptor"])
    assert float(shown.carrying.distance_um.max()) <= 20.0


def test_pairs_to_look_at_are_named_once_and_as_pairs(adata):
    given = adata, samples_of(adata, GRAPH, **PLAIN), resource(), SignalConfig(), "moran"
    cells, table, _ = local_anndata(*given, [("CXCL12", "CXCR4"), ["CXCL12", "CXCR4"]])
    assert list(cells) == ["CXCL12 - CXCR4"]
    assert len(table) == 1
    for wrong in (("CXCL12", "CXCR4"), "CXCL12 - CXCR4", ["CXCL12 - CXCR4"], [("CXCL12",)], []):
        with pytest.raises(ConfigError, match=r"pairs as \[\(ligand, receptor\), ...\], found"):
            local_anndata(*given, wrong)


def test_one_sample_at_a_time_is_in_memory(synthetic, monkeypatch):
    import anndata

    names = list(synthetic.samples.index[:3])
    joined = anndata.concat([synthetic.read(n) for n in names], keys=names, label=keys.SAMPLE)
    joined.uns[keys.UNS] = {keys.UM_PER_UNIT: 1.0}
    made, prepare_sample = [], module.prepare_sample

    def counted(*args):
        gc.collect()
        assert not any(graph() for graph in made)
        sample, types = prepare_sample(*args)
        made.append(weakref.ref(sample.graph))
        return sample, types

    monkeypatch.setattr(module, "prepare_sample", counted)
    communicate_anndata(joined, resource(), SignalConfig(), GRAPH)
    assert len(made) == 3
    local_anndata(joined, samples_of(joined, GRAPH, **PLAIN), resource(), SignalConfig(), "moran")
    assert len(made) == 6


@pytest.fixture(scope="module")
def panel():
    """2,000 cells in two samples, and 900 pairs that they measure."""
    import anndata

    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(60)]
    obs = pd.DataFrame({keys.SAMPLE: np.array(["one", "two"])[rng.integers(0, 2, 2000)]})
    adata = anndata.AnnData(
        sparse.csr_array(rng.poisson(0.5, (2000, 60)).astype(np.float32)),
        obs.set_axis(obs.index.astype(str), axis=0),
        pd.DataFrame(index=genes),
    )
    adata.obsm[keys.SPATIAL] = rng.random((2000, 2)) * 1000
    adata.uns[keys.UNS] = {keys.UM_PER_UNIT: 1.0}
    pairs = [(a, b) for a in genes[:30] for b in genes[30:]]
    return adata, Resource(pd.DataFrame(pairs, columns=["ligand", "receptor"]), "invented")


@pytest.mark.parametrize("statistic", ["moran", "lee", "cosine"])
def test_scores_of_many_pairs_are_held_once(panel, statistic):
    adata, many = panel
    read = samples_of(adata, GRAPH, **PLAIN, typed=False)
    tracemalloc.start()
    try:
        cells, *_ = local_anndata(adata, read, many, SignalConfig(), statistic)
        module.storable(cells)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert cells.shape == (2000, 900)
    assert peak < 2 * 4 * cells.size  # and blocks of 16 pairs in float64


def test_scores_of_more_pairs_than_memory_should_hold_are_refused_before_work(panel, monkeypatch):
    adata, many = panel
    monkeypatch.setattr(module, "MOST_BYTES", 7_000_000)
    monkeypatch.setattr(module, "prepare_sample", None)
    given = adata, samples_of(adata, GRAPH, **PLAIN, typed=False), many, SignalConfig(), "moran"
    with pytest.raises(InputError, match=r"up to 0.007 GB, found 0.0 GB .2000 cells and 900 .* pairs=\["):
        local_anndata(*given)
    monkeypatch.undo()
    monkeypatch.setattr(module, "MOST_BYTES", 7_000_000)
    assert local_anndata(*given, [("g0", "g30")])[0].shape == (2000, 1)
