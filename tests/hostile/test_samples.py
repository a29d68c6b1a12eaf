"""Samples that must not get in, and the words that say why: where, which key, what was found, how to fix it."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from slide import GENES, make_slide

from metaniche.errors import InputError
from metaniche.io.guards import check_sample

WHERE = "slide.h5ad"


def check(adata, **options):
    settings = {"um_per_unit": 1.0, "feature_kind": "counts", "cell_type_key": "cell_type"} | options
    return check_sample(adata, where=WHERE, **settings)


def spoil(change, **options):
    """A slide after `change(slide)`; `options` go to the check."""
    kind = options.get("feature_kind", "counts")

    def build():
        slide = make_slide(kind=kind)
        new = change(slide)
        return (new if isinstance(new, AnnData) else slide), options

    return build


def replace(key, value):
    """Put `value`, or what it makes of the slide, at a dotted place of the slide."""

    def change(slide):
        new = value(slide) if callable(value) else value
        name, _, item = key.partition(".")
        if item:
            getattr(slide, name)[item] = new
        else:
            setattr(slide, name, new)

    return change


def poke(value, at=(17, 0)):
    """One coordinate replaced."""

    def change(slide):
        slide.obsm["spatial"][at] = value

    return change


def dense(at, value):
    """One count replaced, in a dense X."""

    def change(slide):
        slide.X = slide.X.toarray()
        slide.X[at] = value

    return change


def stored(name, position, value):
    """One number of the CSR replaced (data, indices or indptr)."""

    def change(slide):
        getattr(slide.X, name)[position] = value

    return change


def names(new):
    return replace("var_names", lambda slide: [*new, *slide.var_names[len(new) :]])


def types(value):
    return replace("obs.cell_type", value)


def columns_only(slide):
    slide.obs[["X", "Y"]] = slide.obsm.pop("spatial")


def visium(slide):
    """A Visium slide as squidpy reads it: pixels of the full image, 0.5 um each, spots 100 um apart."""
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2)[: slide.n_obs]
    slide.obsm["spatial"] = grid * 200.0
    slide.uns["spatial"] = {"library": {"scalefactors": {"spot_diameter_fullres": 110.0}}}


def symbols_in_var(slide):
    slide.var["feature_name"] = list(GENES)
    slide.var_names = ENSEMBL


MOUSE = ("Cxcl12", "Cxcr4", "Epcam", "Krt8", "Cd3e", "Col1a1", "Vegfa", "Kdr")
ENSEMBL = [f"ENSG{i:011d}" for i in range(8)]
CASES = {
    "no AnnData": (lambda: ({"X": 1}, {}), ["an AnnData", "dict", "read_sample"]),
    "no spatial key": (
        spoil(lambda s: s.obsm.clear()),
        ["obsm['spatial']", "obsm keys none", "adata.obsm['spatial'] ="],
    ),
    "spatial under another key": (
        spoil(lambda s: s.obsm.update(X_spatial=s.obsm.pop("spatial"))),
        ["obsm['spatial']", "'X_spatial'"],
    ),
    "coordinates only in obs": (spoil(columns_only), ["obsm keys none", "adata.obs[['X', 'Y']]"]),
    "NaN coordinate": (spoil(poke(np.nan)), ["obsm['spatial']", "1 cells", "'cell17'", "np.isfinite"]),
    "infinite coordinate": (spoil(poke(np.inf)), ["finite", "1 cells", "'cell17'"]),
    "minus infinite coordinate": (spoil(poke(-np.inf, (0, 1))), ["finite", "'cell0'"]),
    "all cells at one point": (
        spoil(replace("obsm.spatial", np.full((60, 2), 7.0))),
        ["different places", "all 60 cells at [7.0, 7.0]", "field of view"],
    ),
    "one coordinate only": (spoil(replace("obsm.spatial", np.ones((60, 1)))), ["(60, 2) or (60, 3)", "shape (60, 1)"]),
    "five coordinates": (spoil(replace("obsm.spatial", np.ones((60, 5)))), ["shape (60, 5)"]),
    "text coordinates": (
        spoil(replace("obsm.spatial", np.full((60, 2), "1.0"))),
        ["to hold numbers", "dtype <U3", "as floats"],
    ),
    "complex coordinates": (spoil(replace("obsm.spatial", np.ones((60, 2), complex))), ["dtype complex128"]),
    "units not declared": (spoil(lambda s: None, um_per_unit=None), ["um_per_unit", "no value", "pixel size"]),
    "units of zero": (spoil(lambda s: None, um_per_unit=0.0), ["um_per_unit above 0", "0.0"]),
    "units negative": (spoil(lambda s: None, um_per_unit=-0.5), ["um_per_unit above 0", "-0.5"]),
    "units NaN": (spoil(lambda s: None, um_per_unit=float("nan")), ["um_per_unit above 0", "nan"]),
    "units as text": (spoil(lambda s: None, um_per_unit="0.5"), ["um_per_unit to be a number", "text '0.5'"]),
    "units of config and sample disagree": (
        spoil(replace("uns.metaniche", {"um_per_unit": 0.377})),
        ["um_per_unit 0.377", "1.0 declared", "um_per_unit: null"],
    ),
    "nanometres declared as micrometres": (
        spoil(replace("obsm.spatial", lambda s: s.obsm["spatial"] * 1000)),
        ["less than 100 mm", "105 mm", "um_per_unit"],
    ),
    "pixels of a wide scan declared as 10 um": (
        spoil(lambda s: None, um_per_unit=100.0),
        ["apart at um_per_unit 100", "at the median"],
    ),
    "millimetres declared as micrometres": (
        spoil(replace("obsm.spatial", lambda s: s.obsm["spatial"] / 1000)),
        ["neighbouring cells 0.4-500 um apart", "um at the median", "1.0 for micrometres"],
    ),
    "stage coordinates far from the origin": (
        spoil(replace("obsm.spatial", lambda s: s.obsm["spatial"] + 3e8)),
        ["within 1 m of its origin", "300.0 m away", "Subtract"],
    ),
    "Visium pixels declared as micrometres": (
        spoil(visium),
        ["um_per_unit near 0.5", "110 px wide", "found 1.", "pixels of the full image"],
    ),
    "empty sample": (spoil(lambda s: s[:0].copy()), ["at least two cells", "0 in obs", "Leave this sample out"]),
    "one cell": (spoil(lambda s: s[:1].copy()), ["at least two cells", "1 in obs"]),
    "duplicate cell ids": (
        spoil(replace("obs_names", lambda s: ["a", "a", "b", "b", *s.obs_names[4:]])),
        ["unique cell ids in obs_names", "2 ids more than once ('a', 'b')", "obs_names_make_unique"],
    ),
    "blank cell id": (
        spoil(replace("obs_names", lambda s: [" ", *s.obs_names[1:]])),
        ["an id for every cell", "1 blank in obs_names"],
    ),
    "no cell types": (
        spoil(lambda s: s.obs.drop(columns="cell_type", inplace=True)),
        ["obs['cell_type']", "'patient_id', 'sample_id'", "cell_type_key"],
    ),
    "cell types under another name": (
        spoil(lambda s: s.obs.rename(columns={"cell_type": "cell_types"}, inplace=True)),
        ["obs['cell_type']", "Did you mean 'cell_types'?"],
    ),
    "cell types all missing": (
        spoil(types(np.nan)),
        ["cell types in obs['cell_type']", "missing values only"],
    ),
    "malignancy with a third value": (
        spoil(replace("obs.is_malignant", [2] + [0, 1] * 29 + [1])),
        ["obs['is_malignant']", "true or false", "'2'", "Convert it to bool"],
    ),
    "malignancy with missing values": (
        spoil(replace("obs.is_malignant", [None] + [True] * 59)),
        ["obs['is_malignant']", "drop the column"],
    ),
    "no X": (spoil(replace("X", None)), ["X to hold values", "nothing", "feature_kind: none"]),
    "no features": (spoil(lambda s: s[:, :0].copy()), ["at least one feature in var_names", "none"]),
    "negative count": (spoil(dense((3, 2), -1)), ["X to hold counts", "-1.0", "layers['counts']"]),
    "negative count, sparse": (spoil(stored("data", 5, -3)), ["X to hold counts", "-3.0"]),
    "log-normalised values as counts": (
        spoil(replace("X", lambda s: s.X.log1p())),
        ["whole numbers", "fractions (first: 0.69", "feature_kind=intensity"],
    ),
    "NaN in X": (spoil(dense((0, 0), np.nan)), ["X to be finite", "nan", "Not measured is not zero"]),
    "infinity in sparse X": (spoil(stored("data", 0, np.inf)), ["X to be finite", "inf"]),
    "NaN among intensities": (
        spoil(replace("X", lambda s: np.where(s.X > 5, np.nan, s.X)), feature_kind="intensity"),
        ["X to be finite", "NaN"],
    ),
    "all counts zero": (
        spoil(replace("X", sparse.csr_matrix((60, 8), dtype=np.float32))),
        ["at least one value other than zero", "zeros only"],
    ),
    "object dtype": (
        spoil(replace("X", lambda s: s.X.toarray().astype(object))),
        ["real numbers", "dtype object", "astype"],
    ),
    "text matrix": (spoil(replace("X", lambda s: s.X.toarray().astype(str))), ["real numbers", "dtype <U"]),
    "column index past the last gene": (
        spoil(stored("indices", 4, 10_000_000)),
        ["X to be a valid CSR matrix", "0..10000000 where 0..7", "damaged"],
    ),
    "negative column index": (spoil(stored("indices", 4, -1)), ["valid CSR", "-1..7"]),
    "row pointers out of order": (spoil(stored("indptr", 30, 0)), ["valid CSR", "do not ascend"]),
    "row pointers past the end": (spoil(stored("indptr", -1, 10_000)), ["valid CSR", "do not ascend"]),
    "stored graph out of range": (
        spoil(lambda s: s.obsp.update(spatial_connectivities=broken_graph(s.n_obs))),
        ["obsp['spatial_connectivities']", "valid CSR"],
    ),
    "gene names duplicated": (
        spoil(names(["KRT8"])),
        ["unique feature names in var_names", "1 names more than once ('KRT8')", "var_names_make_unique"],
    ),
    "blank gene name": (spoil(names([""])), ["a name for every feature", "1 blank"]),
    "numbers for gene names": (
        spoil(names([str(i) for i in range(8)])),
        ["feature names in var_names", "numbers ('0', '1'"],
    ),
    "Ensembl ids": (
        spoil(names(ENSEMBL)),
        ["gene symbols in var_names", "Ensembl ids ('ENSG00000000000'", "adata.var['gene_symbols']"],
    ),
    "Ensembl ids, symbols in another column": (
        spoil(symbols_in_var),
        ["adata.var_names = adata.var['feature_name']"],
    ),
    "mouse genes for a human cohort": (
        spoil(names(MOUSE), organism="human"),
        ["human gene symbols", "mouse ones ('Cxcl12'", "orthologues"],
    ),
    "pixels declared as micrometres": (
        lambda: (in_pixels(sparse_tissue()), {"feature_kind": "none"}),
        ["in micrometres, as um_per_unit 1 declares", "whole numbers, as pixels are", "um_per_unit': 1.0"],
    ),
    "human genes for a mouse cohort": (
        spoil(lambda s: None, organism="mouse"),
        ["mouse gene symbols", "human ones ('CXCL12'", "organism: human"],
    ),
    "no gene of the panel": (
        spoil(lambda s: None, panel=["Cxcl12", "Ackr3"]),
        ["some of the 2 features asked for ('Ackr3', 'Cxcl12')", "none of them among 8", "case counts"],
    ),
    "no marker of the panel": (
        spoil(lambda s: None, feature_kind="intensity", panel=["Ki67"]),
        ["some of the 1 features", "'Ki67'"],
    ),
}


def broken_graph(n):
    graph = sparse.csr_matrix(np.eye(n, dtype=np.float32))
    graph.indices[3] = n
    return graph


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_refused_with_the_right_words(name):
    build, words = CASES[name]
    adata, options = build()
    with pytest.raises(InputError) as caught:
        check(adata, **options)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: expected ")
    assert all(word in message for word in words), message
    assert message.rstrip().endswith(".")


def test_a_sample_that_says_it_is_in_micrometres_is_believed():
    slide = in_pixels(sparse_tissue())
    slide.uns["metaniche"] = {"um_per_unit": 1.0}
    with pytest.warns(UserWarning, match="um apart at the median"):
        assert check(slide, feature_kind="none") is slide


def in_pixels(slide):
    slide.obsm["spatial"] = np.rint(slide.obsm["spatial"])
    return slide


def lattice_in_pixels(slide):
    slide.obsm["spatial"] = np.rint(slide.obsm["spatial"] * 2)


SUSPICIOUS = {
    "whole numbers declared as micrometres": (spoil(lattice_in_pixels), "whole numbers, as pixels are"),
    "cells far apart": (
        lambda: (sparse_tissue(), {"feature_kind": "none"}),
        "um apart at the median; cells in tissue are 5-15 um apart",
    ),
    "most cells on top of each other": (
        spoil(replace("obsm.spatial", lambda s: np.repeat(s.obsm["spatial"][::4], 4, axis=0))),
        "exactly where another cell stands",
    ),
    "z-scored intensities": (
        spoil(replace("X", lambda s: s.X - s.X.mean(0)), feature_kind="intensity"),
        "negative intensities",
    ),
}


def sparse_tissue():
    slide = make_slide(400, kind="none")
    slide.obsm["spatial"] *= 2.65
    return slide


@pytest.mark.parametrize("name", SUSPICIOUS)
def test_suspicious_is_let_in_with_a_warning(name):
    build, words = SUSPICIOUS[name]
    adata, options = build()
    with pytest.warns(UserWarning, match=f"{WHERE}: .*{words}"):
        assert check(adata, **options) is adata


@pytest.mark.parametrize("kind", ["counts", "intensity", "none"])
@pytest.mark.filterwarnings("error")
def test_a_good_sample_passes_untouched(kind):
    slide = make_slide(kind=kind)
    before = slide.copy()
    assert check(slide, feature_kind=kind, organism="human") is slide
    assert isinstance(slide, AnnData)
    pd.testing.assert_frame_equal(slide.obs, before.obs)
    np.testing.assert_array_equal(slide.obsm["spatial"], before.obsm["spatial"])
