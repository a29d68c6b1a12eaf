"""Samples and tables of pairs that make no communication, and the words that say why; and odd ones that do."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import metaniche
from metaniche.data.synthetic import SyntheticConfig, generate, resource
from metaniche.errors import ConfigError, InputError
from metaniche.io import keys
from metaniche.signaling import read_resource

COHORT = generate(SyntheticConfig(n_patients=2, n_cells=300))
PAIRS = "ligand,receptor\nCXCL12,CXCR4\nVEGFA,KDR\n"


def slide():
    return COHORT.read(COHORT.samples.index[0])


def change(adata, **parts):
    """The slide with other content: x, names, obs, pos."""
    x = parts.get("x", adata.X)
    out = anndata.AnnData(x, adata.obs.copy(), adata.var.copy(), adata.uns.copy(), adata.obsm.copy())
    if "names" in parts:
        out.var_names = parts["names"]
    for key, values in parts.get("obs", {}).items():
        out.obs[key] = values
    if "pos" in parts:
        out.obsm[keys.SPATIAL] = parts["pos"]
    return out


def dense(adata):
    return adata.X.toarray()


def spot(adata, row, value):
    x = dense(adata)
    x[row, 0] = value
    return x


def moved(adata, scale=1.0, **rows):
    pos = adata.obsm[keys.SPATIAL] * scale
    for row, place in rows.items():
        pos[int(row[1:])] = place
    return pos


SAMPLES = {
    "negative counts": (lambda a: change(a, x=spot(a, 0, -1.0)), {}, ["negative"]),
    "scaled expression called counts": (lambda a: change(a, x=(dense(a) - 1) / 3), {}, ["counts"]),
    "scaled expression called intensity": (
        lambda a: change(a, x=(dense(a) - 1) / 3), {"feature_kind": "intensity"}, ["z-scores", "Sample"],
    ),
    "log-normalised called counts": (lambda a: change(a, x=np.log1p(dense(a))), {}, ["whole numbers", "intensity"]),
    "NaN expression": (lambda a: change(a, x=spot(a, 3, np.nan)), {}, ["finite"]),
    "infinite expression": (lambda a: change(a, x=spot(a, 3, np.inf)), {}, ["finite"]),
    "nothing expressed": (lambda a: change(a, x=dense(a) * 0), {}, ["zeros only"]),
    "mouse symbols": (
        lambda a: change(a, names=[g.capitalize() for g in a.var_names]), {}, ["found none", "mouse"],
    ),
    "Ensembl ids": (
        lambda a: change(a, names=[f"ENSG{i:011d}" for i in range(a.n_vars)]), {}, ["expected gene symbols", "Ensembl"],
    ),
    "a panel without a pair": (lambda a: a[:, ["EPCAM", "KRT8", "CXCL12"]].copy(), {}, ["found none", "1 of them"]),
    "a gene twice": (lambda a: change(a, names=["EPCAM", "EPCAM", *a.var_names[2:]]), {}, ["EPCAM"]),
    "no features at all": (lambda a: a[:, []].copy(), {}, ["found none"]),
    "no cell types": (lambda a: change(a, obs={keys.CELL_TYPE: [None] * a.n_obs}), {}, ["cell_type"]),
    "an unknown column of types": (lambda a: a, {"types": "celltype"}, ["celltype", "cell_type"]),
    "no coordinates": (lambda a: anndata.AnnData(a.X, a.obs, a.var, a.uns), {}, ["spatial"]),
    "no unit": (lambda a: anndata.AnnData(a.X, a.obs, a.var, obsm=a.obsm), {}, ["um_per_unit"]),
    "NaN coordinates": (lambda a: change(a, pos=moved(a, r4=np.nan)), {}, ["spatial"]),
    "all cells at one place": (lambda a: change(a, pos=a.obsm[keys.SPATIAL] * 0 + 5), {}, ["spatial"]),
    "cells that no signal reaches": (
        lambda a: a, {"graph": {"contact_um": 0.1, "radius_um": 0.2}}, ["found none: there is no edge"],
    ),
    "three cells": (lambda a: a[:3].copy(), {}, ["at least 4 cells"]),
    "no cell": (lambda a: a[:0].copy(), {}, ["expected cells, found none"]),
    "a unit below zero": (lambda a: a, {"um_per_unit": -1.0}, ["um_per_unit"]),
}  # fmt: skip
TABLES = {
    "a table that was cut in a row": ("ligand,receptor\nCXCL12,CXCR4\nVEGFA", ["a ligand and a receptor in every row"]),
    "a table that was cut in a complex": ("ligand,receptor\nCXCL12,CXCR4\nVEGFA,KDR_", ["in every row"]),
    "only a heading": ("ligand,receptor\n", ["at least one row"]),
    "nothing": ("", ["pairs.csv"]),
    "no receptors": ("ligand,target\nCXCL12,CXCR4\n", ["receptor"]),
    "a pair twice": (PAIRS + "VEGFA,KDR\n", ["every pair once", "VEGFA - KDR"]),
    "an unknown signaling type": ("ligand,receptor,signaling_type\nVEGFA,KDR,secrete\n", ["Did you mean 'secreted'"]),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00", ["pairs.csv"]),
}
SETTINGS = {
    "an unknown score": {"score": "mean"},
    "an unknown null": {"null_model": "cells"},
    "an unknown setting": {"permutations": 10},
    "a share of everything": {"min_share": 1.0},
    "a decay of nothing": {"decays": {"contact": {"kind": "cut", "length_um": 0.0}}},
    "half a permutation": {"n_permutations": -1},
    "an unknown graph": {"graph": {"radius": 10.0}},
}


@pytest.mark.parametrize("case", SAMPLES)
def test_a_sample_that_makes_no_communication_says_why(case):
    make, options, words = SAMPLES[case]
    with pytest.raises(InputError) as said:
        metaniche.tl.communicate(make(slide()), resource(), **options)
    for word in words:
        assert word in str(said.value), said.value


@pytest.mark.parametrize("case", TABLES)
def test_a_table_of_pairs_that_cannot_be_read_says_why(case, tmp_path):
    content, words = TABLES[case]
    path = tmp_path / "pairs.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as said:
        metaniche.tl.communicate(slide(), path)
    assert "pairs.csv" in str(said.value)
    for word in words:
        assert word in str(said.value), said.value


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_means_nothing_is_refused(case):
    with pytest.raises(ConfigError):
        metaniche.tl.communicate(slide(), resource(), **SETTINGS[case])


def found(adata, pairs=None, **options):
    metaniche.tl.communicate(adata, pairs or resource(), **options)
    return adata.uns[keys.UNS][keys.COMMUNICATION]


def test_two_cells_at_one_place_are_neighbours():
    adata = slide()
    adata = change(adata, pos=moved(adata, r1=adata.obsm[keys.SPATIAL][0]))
    table = found(adata)
    assert len(table)
    assert np.isfinite(table["score"]).all()


def test_a_panel_of_twenty_proteins():
    adata = slide()
    small = adata[:, ["CXCL12", "CXCR4", *[g for g in adata.var_names if g not in ("CXCL12", "CXCR4")][:18]]].copy()
    small.X = sparse.csr_array(np.arcsinh(small.X.toarray() / 5).astype(np.float32))
    table = found(small, feature_kind="intensity")
    assert ("CXCL12", "CXCR4") in set(zip(table["ligand"], table["receptor"]))


def test_a_complex_with_a_missing_subunit_is_left_out_and_counted(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(PAIRS + "CXCL12,CXCR4_GONE\n")
    adata = slide()
    table = found(adata, path)
    assert "CXCR4_GONE" not in set(table["receptor"])
    assert '"n_pairs": 3, ' in adata.uns[keys.UNS]["communication_parameters"]
    assert '"n_measured": 2' in adata.uns[keys.UNS]["communication_parameters"]


def test_one_cell_type_talks_to_itself():
    adata = change(slide(), obs={keys.CELL_TYPE: "cell"})
    assert set(found(adata)["sender"]) == {"cell"}


def test_numbers_for_types_and_a_slash_in_a_pathway_are_written(tmp_path):
    adata = slide()
    codes = adata.obs[keys.CELL_TYPE].cat.codes
    adata = change(adata, obs={keys.CELL_TYPE: pd.Categorical(codes)})
    path = tmp_path / "pairs.csv"
    path.write_text("ligand,receptor,pathway\nCXCL12,CXCR4,CXCL/CXCR\n")
    found(adata, read_resource(path))
    adata.write_h5ad(tmp_path / "out.h5ad")
    assert "CXCL|CXCR" in anndata.read_h5ad(tmp_path / "out.h5ad").obsm[keys.SENT]
