"""The real files against the published counts."""

import numpy as np
import pytest

from metaniche.errors import InputError
from metaniche.io.datasets import crc_codex


@pytest.fixture(autouse=True)
def _mirror(mirror, monkeypatch):
    monkeypatch.setenv("METANICHE_MIRROR", str(mirror))


def test_patients_and_labels():
    samples, patients = crc_codex.tables()
    assert len(samples) == 140
    assert len(patients) == 35
    assert (samples["patient_id"].value_counts() == 4).all()
    assert set(samples["patient_id"]) == set(patients.index)
    assert patients["group"].value_counts().to_dict() == {"DII": 18, "CLR": 17}
    assert patients["stage_iv"].value_counts().to_dict() == {0: 27, 1: 8}
    assert patients["pn2"].value_counts().to_dict() == {0: 24, 1: 11}
    assert patients["os_event"].sum() == 17
    assert patients["dfs_event"].sum() == 11
    assert patients["tnm_stage"].value_counts().to_dict() == {"IIIB": 21, "IV": 8, "IIIC": 4, "IIIA": 2}
    assert patients[["age", "tnm", "os_months", "dfs_months", "sex", "pt"]].notna().all(axis=None)


def test_stage_four_known_only_clinically():
    """Patient 8 has pM missing, p_TNM 3B and cM 1."""
    _, patients = crc_codex.tables()
    assert patients.loc["8", ["stage_iv", "tnm", "tnm_stage"]].tolist() == [1, 4.0, "IV"]


def test_the_event_code_is_not_a_censoring_code():
    """DII patients die more than CLR patients: with the code read as its name says, the log-rank p is 0.74."""
    from lifelines.statistics import logrank_test

    _, patients = crc_codex.tables()
    dii = patients["group"] == "DII"

    def p(event):
        months = patients["os_months"]
        return logrank_test(months[dii], months[~dii], event[dii], event[~dii]).p_value

    assert p(patients["os_event"]) < 0.005
    assert p(1 - patients["os_event"]) > 0.5


def test_group_in_the_file_names_agrees_with_the_patient_table():
    _, patients = crc_codex.tables()
    images = crc_codex._images()
    assert (images["patient_id"].map(patients["group"]) == images["group"]).all()


def test_cells():
    samples, _ = crc_codex.tables()
    slides = [crc_codex.read_sample(sample) for sample in samples.index]
    types = np.concatenate([slide.obs["cell_type"].to_numpy(str) for slide in slides])
    assert len(types) == 251_028
    assert (types == "undefined").sum() == 6_524
    assert set(types) == set(crc_codex.CELL_TYPES)
    assert len(crc_codex.CELL_TYPES) == 28
    assert all(slide.n_vars == 0 and slide.obs_names.is_unique for slide in slides)
    xy = np.concatenate([slide.obsm["spatial"] for slide in slides])
    assert xy.shape == (251_028, 2)
    assert xy.min() >= 0
    assert (xy.max(0) < [2000, 1500]).all(), "pixels of a core: 1920 x 1440"
    np.testing.assert_array_equal(slides[0].obsm["spatial"][0], [77, 589])
    assert slides[0].uns["metaniche"] == {"um_per_unit": 0.377, "feature_kind": "none"}


def test_unknown_core():
    with pytest.raises(InputError, match="'1_A', found '1'"):
        crc_codex.read_sample("1")
