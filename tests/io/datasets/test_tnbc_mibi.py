"""The real files against the published counts."""

import numpy as np
import pandas as pd
import pytest

from metaniche.errors import InputError
from metaniche.io.datasets import tnbc_mibi
from metaniche.io.datasets.registry import local


@pytest.fixture(autouse=True)
def _mirror(mirror, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))


def test_patients_and_labels():
    samples, patients = tnbc_mibi.tables()
    assert len(patients) == 38
    assert patients["recurrence"].value_counts().to_dict() == {0: 22, 1: 16}
    assert patients["os_event"].sum() == 15
    assert patients["node_positive"].value_counts().to_dict() == {1.0: 16, 0.0: 11}
    assert patients["node_positive"].isna().sum() == 11
    assert patients[["stage", "age", "rfs_days", "os_days"]].notna().all(axis=None)
    assert patients["stage"].between(1, 4).all()
    assert patients["grade"].isna().sum() == 1, "grade 9 is unknown"
    assert patients["tumor_size_mm"].max() < 990
    assert (patients["rfs_days"] <= patients["os_days"]).all()
    assert patients["age"].between(20, 100).all()
    # Patient 16 has outcomes and no image.
    assert len(samples) == 37
    assert set(patients.index) - set(samples["patient_id"]) == {"16"}
    assert set(tnbc_mibi.LEFT_OUT) == {"16", "22", "30", "38"}
    assert not {"22", "30", "38"} & set(patients.index)


def check_lineages(values, types):
    """Type codes and channels are numbers in the files: each lineage marker must be highest in its own type."""
    means = np.arcsinh(5 * values).groupby(types.to_numpy()).mean()
    lineages = {"CD20": "B", "CD4": "CD4 T", "CD8": "CD8 T", "FoxP3": "Treg", "CD56": "NK", "MPO": "Neutrophil"}
    assert means[list(lineages)].idxmax().to_dict() == lineages
    assert means["Pan-Keratin"].idxmax() == "Tumor"
    assert means["CD209"].idxmax() == "DC"


def test_cells():
    samples, _ = tnbc_mibi.tables()
    slides = {sample: tnbc_mibi.read_sample(sample) for sample in samples.index}
    assert sum(slide.n_obs for slide in slides.values()) == 182_029
    types = pd.concat([slide.obs["cell_type"] for slide in slides.values()]).astype(str)
    counts = types.value_counts()
    assert counts[["background", "unidentified", "Tumor", "NK"]].tolist() == [10, 1_535, 95_101, 462]
    check_lineages(pd.concat([slide.to_df() for slide in slides.values()]), types)
    for slide in slides.values():
        assert slide.n_vars == 36
        assert slide.X.dtype == np.float32
        assert np.isfinite(slide.X).all()
        assert slide.X.min() >= 0
        assert slide.obsm["spatial"].min() >= 0
        assert slide.obsm["spatial"].max() < 2048


def test_markers_and_positions_are_those_of_the_file():
    slide = tnbc_mibi.read_sample("1")
    raw = pd.read_csv(local(f"{tnbc_mibi._ROOT}intermediate_data/protein_expression/t1.csv"))
    assert not set(tnbc_mibi.NOT_MARKERS) & set(slide.var_names)
    frames = {"Beta catenin": "2", "CD4": "12", "dsDNA": "19", "Pan-Keratin": "36", "Vimentin": "43"}
    for marker, frame in frames.items():
        np.testing.assert_allclose(slide[:, marker].X[:, 0], raw[frame], rtol=1e-6)
    np.testing.assert_array_equal(slide.obsm["spatial"], raw[["Column", "Row"]])
    assert slide.uns["metaniche"]["um_per_unit"] * 2048 == 800


@pytest.mark.parametrize("sample", ["22", "30", "16", "t1", "0", "42", "x", "../1"])
def test_unknown_images(sample):
    with pytest.raises(InputError, match=r"tables\(\)\[0\]\.index"):
        tnbc_mibi.read_sample(sample)
