"""The real files against the published counts."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from metaniche.errors import InputError
from metaniche.io.datasets import her2st
from metaniche.io.datasets.registry import local


@pytest.fixture
def _mirror(mirror, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=40))
def test_fast_rows_against_plain_parsing(counts):
    columns, values = her2st._nonzero("\t".join(map(str, counts)).encode())
    np.testing.assert_array_equal(columns, np.flatnonzero(counts))
    np.testing.assert_array_equal(values, [c for c in counts if c])


@pytest.mark.usefixtures("_mirror")
def test_patients_are_joined_on_the_tumour_block():
    samples, patients = her2st.tables()
    assert len(samples) == 36
    assert samples["patient_id"].value_counts().to_dict() == {**dict.fromkeys("ABCD", 6), **dict.fromkeys("EFGH", 3)}
    assert patients["node_positive"].to_dict() == dict(A=0, B=0, C=1, D=0, E=0, F=1, G=1, H=1)
    assert patients.loc[["F", "G", "H"], "tumour_block"].tolist() == ["23810", "23903", "24044"]
    assert "23626" not in set(patients["tumour_block"]), "letter F of the sheet has no sections"
    assert patients["batch"].tolist() == ["3D"] * 4 + ["none"] * 4
    assert samples.index[samples["annotated"]].tolist() == ["A1", "B1", "C1", "D1", "E1", "F1", "G2", "H1"]
    assert "J1" not in samples.index


@pytest.mark.usefixtures("_mirror")
def test_spots_and_annotation():
    samples, _ = her2st.tables()
    spots, labels, in_files = 0, [], []
    for sample in samples.index:
        slide = her2st.read_sample(sample)
        spots += slide.n_obs
        assert slide.obs_names.is_unique
        assert slide.var_names.is_unique
        assert sparse.issparse(slide.X)
        assert slide.X.dtype == np.float32
        assert 14_000 < slide.n_vars < 16_000
        assert slide.obs[["pixel_x", "pixel_y"]].notna().all(axis=None), "under tissue"
        assert ("annotation" in slide.obs) == samples.at[sample, "annotated"]
        if "annotation" in slide.obs:
            labels.append(slide.obs["annotation"])
            in_files.append(pd.read_csv(local(her2st._annotation_path(sample)), sep="\t")["label"])
    assert spots == 13_620
    published = pd.concat(in_files).value_counts().to_dict()
    assert published == {
        "invasive cancer": 1_762,
        "connective tissue": 619,
        "undetermined": 324,
        "adipose tissue": 303,
        "immune infiltrate": 253,
        "cancer in situ": 138,
        "breast glands": 97,
    }
    # 15 annotated positions carry no counts: 6 spots outside the count tables, 9 rows without array coordinates.
    joined = pd.concat(labels)
    assert joined.notna().all()
    assert len(joined) == sum(published.values()) - 15
    lost = {name: published[name] - n for name, n in joined.value_counts().items() if published[name] != n}
    assert lost == {"invasive cancer": 4, "connective tissue": 2, "adipose tissue": 8, "immune infiltrate": 1}


@pytest.mark.usefixtures("_mirror")
def test_one_section_against_the_file():
    slide = her2st.read_sample("C3")
    with gzip.open(local(f"{her2st._ROOT}ST-cnts/C3.tsv.gz"), "rt") as file:
        table = pd.read_csv(file, sep="\t", index_col=0, low_memory=False)
    pd.testing.assert_frame_equal(slide.to_df(), table, check_dtype=False, check_names=False)
    xy = [f"{int(x)}x{int(y)}" for x, y in slide.obsm["spatial"]]
    assert xy == list(slide.obs_names)
    # One array unit is about 290 px in x and in y in this image: 200 um in both directions.
    for axis, pixel in enumerate(("pixel_x", "pixel_y")):
        assert 270 < np.polyfit(slide.obsm["spatial"][:, axis], slide.obs[pixel], 1)[0] < 330


def test_unknown_section():
    for name in ("J1", "A7", "../A1", ""):
        with pytest.raises(InputError, match="a section such as 'A1'"):
            her2st.read_sample(name)
