import logging

import numpy as np
import pandas as pd
import pytest

from metaniche.data.organs import OrganProfiles, check_organs, organ_columns, read_organs
from metaniche.data.pairs import PairFeatures
from metaniche.data.task import Task
from metaniche.errors import ConfigError, InputError

PAIRS = pd.DataFrame(
    {"ligand": ["L1", "L2_L3", "L4"], "receptor": ["R1", "R1", "R2"], "signaling_type": "secreted", "pathway": None}
)
FEATURES = PairFeatures(PAIRS, np.ones(5, np.float32), np.full(5, 0.25, np.float32))
TABLE = pd.DataFrame({"liver": [8.0, 4.0, 1.0], "lung": [0.0, 4.0, 9.0]}, index=["L1", "L2", "L3"])


def written(tmp_path, text):
    path = tmp_path / "organs.csv"
    path.write_text(text)
    return path


def test_a_table_is_read_and_repeated_genes_are_averaged(tmp_path):
    found = read_organs(
        written(tmp_path, "gene,liver,lung,brain\nL1,8,0,\nL1,4,,\nL2,1,2,\nL3,,1,\n")
    )  # no brain, no L3
    expected = pd.DataFrame({"liver": [6.0, 1.0], "lung": [0.0, 2.0]}, index=pd.Index(["L1", "L2"], name="gene"))
    pd.testing.assert_frame_equal(found.table, expected)


def test_two_contents_have_two_names_and_one_content_one():
    assert repr(OrganProfiles(TABLE)) == repr(OrganProfiles(TABLE.copy()))
    others = TABLE * 2, TABLE.rename(columns={"lung": "bone"}), TABLE.rename(index={"L1": "L9"})
    assert len({repr(OrganProfiles(t)) for t in (TABLE, *others)}) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gene\nL1\n", "column of expression per organ"),
        ("symbol,liver\nL1,3\n", "a column 'gene'"),
        ("gene,liver,lung\nL1,high,3\n", "other values in 'liver'"),
        ("gene,liver,lung\nL1,2,-3\n", "0 or above.*'lung'.*not as logarithms"),
        ("gene,liver\nL1,inf\n", "other values in 'liver'"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_organs(written(tmp_path, text))


def test_levels_are_saturated_over_the_organs_and_complexes_are_at_their_weakest(caplog):
    with caplog.at_level(logging.WARNING):
        columns = organ_columns(OrganProfiles(TABLE), ["liver", "bone", "lung"], FEATURES)
    assert "No reference profile of 'bone'" in caplog.text
    liver, bone, lung = columns["ligand"]
    assert bone is None
    # L1: 8 and 0, half 8; the complex: min(4, 1) and min(4, 9), half 2.5; L4 is in no organ
    np.testing.assert_allclose(liver, [0.5, 1 / 3.5, 0.0])
    np.testing.assert_allclose(lung, [0.0, 4 / 6.5, 0.0])
    place = {name: i for i, (_, name) in enumerate(FEATURES.names)}
    assert columns["receptor"] == [place["R1"], place["R1"], place["R2"]]
    np.testing.assert_allclose(
        columns["scale"][:2], [1 / (0.25 * 0.25), 1 / (0.25 * (1 / 3.5 + 4 / 6.5) / 2)], rtol=1e-6
    )
    assert columns["scale"][2] == pytest.approx(1 / (0.25 * 0.02))


def test_the_scale_of_the_profiles_does_not_matter():
    first, second = (organ_columns(OrganProfiles(t), ["liver", "lung"], FEATURES) for t in (TABLE, TABLE * 1000))
    np.testing.assert_allclose(first["ligand"], second["ligand"])


def test_ligands_without_profile_are_named_and_profiles_without_any_refused(caplog):
    with caplog.at_level(logging.WARNING):
        organ_columns(OrganProfiles(TABLE), ["liver", "lung"], FEATURES)
    assert "lack 1 of 3 ligands: 'L4'" in caplog.text
    with pytest.raises(ConfigError, match=r"none of 3 \('L1', .*'ENSG1'.*Name genes"):
        organ_columns(OrganProfiles(TABLE.set_axis(["ENSG1", "ENSG2", "ENSG3"])), ["liver", "lung"], FEATURES)


def test_organs_that_are_no_sites_are_refused():
    def sites(*names):
        return Task("s", "s", kind="sites", sites=names)

    check_organs(OrganProfiles(TABLE), sites("lung", "brain", "liver"))
    with pytest.raises(ConfigError, match=r"two sites or more.*Did you mean.*'liver'"):
        check_organs(OrganProfiles(TABLE), sites("Liver", "brain"))
    with pytest.raises(ConfigError, match="two sites or more"):
        check_organs(OrganProfiles(TABLE[["liver"]]), sites("liver", "lung"))
    with pytest.raises(ConfigError, match="task 't' of kind 'cox'"):
        check_organs(OrganProfiles(TABLE), Task("t", "t", kind="cox", time="time", event="event"))


def test_a_marker_whose_name_has_an_underscore_is_one_gene_where_the_profiles_have_it():
    whole = OrganProfiles(TABLE.iloc[:1].rename(index={"L1": "L2_L3"}))
    assert organ_columns(whole, ["liver", "lung"], FEATURES)["ligand"][0][1] == pytest.approx(0.5)
