import json

import numpy as np
import pandas as pd
import pytest

from metaniche.communicate import annotated, communicate_anndata, communicate_cohort, communicate_sample
from metaniche.data.prepare import prepare
from metaniche.data.synthetic import SyntheticConfig, generate, resource
from metaniche.errors import InputError
from metaniche.graph import GraphConfig
from metaniche.io import keys
from metaniche.io.read import read_sample
from metaniche.io.write import write_sample
from metaniche.signaling import GRAPH, SignalConfig

CONFIG = SyntheticConfig(n_patients=6, n_cells=300, max_samples=2)


@pytest.fixture(scope="module")
def synthetic():
    return generate(CONFIG)


@pytest.fixture(scope="module")
def cohort(synthetic, tmp_path_factory):
    return prepare(synthetic.cohort(), GRAPH, tmp_path_factory.mktemp("prepared"), progress=False)


@pytest.fixture
def adata(synthetic):
    return synthetic.read(synthetic.samples.index[0])


def test_the_planted_pair_is_among_those_of_an_anndata(adata):
    table, cells, about = communicate_anndata(adata, resource(), SignalConfig(), GRAPH)
    assert next(iter(table)) == keys.SAMPLE
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
    annotated(adata, table, cells, about)
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


def test_a_cohort_is_one_table_and_what_is_there_is_not_made_again(cohort, tmp_path, monkeypatch):
    table, left_out = communicate_cohort(cohort, resource(), SignalConfig(), tmp_path)
    assert set(table[keys.SAMPLE]) == set(cohort.samples.index)
    assert not left_out
    owner = cohort.samples[keys.PATIENT]
    assert (table[keys.PATIENT] == table[keys.SAMPLE].map(owner)).all()
    monkeypatch.setattr("metaniche.communicate.communicate_sample", None)
    again, _ = communicate_cohort(cohort, resource(), SignalConfig(), tmp_path)
    pd.testing.assert_frame_equal(again, table)
    with pytest.raises(TypeError):  # another null is another table
        communicate_cohort(cohort, resource(), SignalConfig(null_model="labels"), tmp_path)


def test_samples_without_the_column_are_left_out_and_named(cohort, tmp_path):
    with pytest.raises(InputError, match="whose cells have a annotation, found none"):
        communicate_cohort(cohort, resource(), SignalConfig(), tmp_path, types="annotation")


def test_a_column_that_is_not_there_is_named_with_the_nearest(cohort):
    sample = cohort.load(cohort.samples.index[0])
    with pytest.raises(InputError, match="Did you mean 'cell_type'"):
        communicate_sample(sample, resource(), types="cell_typ")


def test_a_sample_that_cannot_be_scored_is_named(cohort):
    sample = cohort.load(cohort.samples.index[0])
    with pytest.raises(InputError, match=f"Sample {sample.sample_id}: Expected edges"):
        communicate_sample(
            sample,
            resource(),
            SignalConfig(decays={k: {"kind": "cut", "length_um": 0.01} for k in ("contact", "secreted")}),
        )


def test_other_types_than_cell_types(cohort):
    found = communicate_sample(cohort.load(cohort.samples.index[0]), resource(), SignalConfig(), types="region")
    assert set(found.table["sender"]) <= {"core", "front", "stroma"}
    assert len(found.table)


def test_a_large_sample_says_its_memory_first(cohort, caplog, monkeypatch):
    monkeypatch.setattr("metaniche.communicate.LARGE_BYTES", 1)
    communicate_sample(cohort.load(cohort.samples.index[0]), resource())
    assert "GB of memory" in caplog.text


def test_intensities_are_used_as_they_are(adata):
    logged = adata.copy()
    total = np.asarray(logged.X.sum(1)).reshape(-1, 1)
    logged.X = np.log1p(logged.X.toarray() * 1e4 / np.maximum(total, 1)).astype(np.float32)
    counts = communicate_anndata(adata, resource(), SignalConfig(), GRAPH)[0]
    values = communicate_anndata(
        logged, resource(), SignalConfig(), GraphConfig(**vars(GRAPH)), feature_kind="intensity"
    )[0]
    np.testing.assert_allclose(counts["score"], values["score"], rtol=1e-5)
