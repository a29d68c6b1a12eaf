import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaniche.errors import InputError
from metaniche.signaling.expression import pair_expression
from metaniche.signaling.resources import COLUMNS, Resource, subunits


def resource(*pairs, **columns):
    table = pd.DataFrame(pairs, columns=["ligand", "receptor"]).assign(**columns)
    return Resource(table, "mine")


def test_a_pair_is_measured_when_every_subunit_is():
    own = resource(("TGFB1", "TGFBR1_TGFBR2"), ("CXCL12", "CXCR4"), ("FN1", "ITGA5_ITGB1"))
    found = own.overlap(["TGFB1", "TGFBR1", "CXCL12", "CXCR4", "FN1"])
    assert found.measured.index.tolist() == [1]
    assert found.missing.tolist() == ["TGFBR2", "", "ITGA5_ITGB1"]
    assert (found.n_measured, found.coverage) == (1, pytest.approx(1 / 3))
    assert found.describe() == (
        "mine: 1 of 3 pairs measured by 5 features (33%); 2 lack a gene ('TGFB1 - TGFBR1_TGFBR2', 'FN1 - ITGA5_ITGB1')"
    )


def test_a_marker_that_is_measured_under_a_name_with_an_underscore_is_no_complex():
    own = resource(("HLA_Class_1", "CD8"), ("CD8", "A_B"))
    assert own.overlap(["HLA_Class_1", "CD8", "A", "B"]).missing.tolist() == ["", ""]
    assert own.overlap(["HLA_Class_1", "CD8"]).missing.tolist() == ["", "A_B"]
    x = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    found = pair_expression(x, ["HLA_Class_1", "CD8"], own)
    assert found.names == ["HLA_Class_1 - CD8"]
    assert found.ligand_NL.to_dense()[:, 0].tolist() == [1.0, 0.0]


SYMBOLS = st.sampled_from(["CXCL12", "CXCR4", "FN1", "ITGA5", "ITGB1", "KDR"])
COMPLEXES = st.lists(SYMBOLS, min_size=1, max_size=3, unique=True).map("_".join)


@given(st.lists(st.tuples(COMPLEXES, COMPLEXES), min_size=1, max_size=8, unique=True), st.sets(SYMBOLS))
def test_measured_pairs_are_those_whose_genes_are_in_the_panel(pairs, panel):
    own = resource(*pairs)
    expected = [i for i, (a, b) in enumerate(pairs) if {*subunits(a), *subunits(b)} <= panel]
    if expected:
        assert own.overlap(panel).measured.index.tolist() == expected
    else:
        with pytest.raises(InputError, match="expected at least one of"):
            own.overlap(panel)
    assert own.genes == {g for pair in pairs for name in pair for g in subunits(name)}


@pytest.mark.parametrize(
    ("panel", "words"),
    [
        (["Cxcl12", "Cxcr4", "Cd8a"], "look like mouse names"),
        (["ENSG00000107562", "ENSG00000121966"], "look like Ensembl names"),
        (["CXCL12", "PTPRC"], "1 of them are in the resource.*Measure both sides"),
        ([], "among the 0 features"),
    ],
)
def test_an_empty_overlap_says_what_the_panel_looks_like(panel, words):
    with pytest.raises(InputError, match=words):
        resource(("CXCL12", "CXCR4")).overlap(panel)


BAD = {
    "no pair": (pd.DataFrame({"ligand": [], "receptor": []}), "at least one pair, found none"),
    "no receptor column": (pd.DataFrame({"ligand": ["A"], "recepter": ["B"]}), "'receptor'.*Did you mean 'recepter'"),
    "a blank receptor": (pd.DataFrame({"ligand": ["A", "B"], "receptor": ["C", " "]}), "1 rows without .first: row 2"),
    "a missing ligand": (pd.DataFrame({"ligand": [None], "receptor": ["C"]}), "a ligand and a receptor in every row"),
    "a blank subunit": (pd.DataFrame({"ligand": ["A"], "receptor": ["C_"]}), "a ligand and a receptor in every row"),
    "a pair twice": (pd.DataFrame({"ligand": ["A"] * 2, "receptor": ["C"] * 2}), "every pair once.*'A - C'"),
    "an unknown type": (
        pd.DataFrame({"ligand": ["A"], "receptor": ["C"], "signaling_type": ["secretd"]}),
        "found 'secretd'. Did you mean 'secreted'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_cannot_be_right_is_refused(name):
    table, words = BAD[name]
    with pytest.raises(InputError, match=f"resource mine: expected .*{words}"):
        Resource(table, "mine")


def test_the_hash_is_of_the_content():
    one, other = resource(("A", "B"), ("C", "D")), resource(("A", "B"), ("C", "D"))
    assert one.sha256 == other.sha256
    assert one.sha256 != resource(("A", "B"), ("C", "E")).sha256
    assert one.sha256 != resource(("A", "B"), ("C", "D"), pathway="x").sha256
    about = one.provenance()
    assert about["sha256"] == one.sha256
    assert (about["resource"], about["n_pairs"], about["organism"]) == ("mine", 2, "human")


def test_columns_that_are_not_given_are_missing_not_empty():
    pairs = resource(("A", "B"), signaling_type="").pairs
    assert list(pairs) == list(COLUMNS)
    assert pairs[list(COLUMNS[2:])].isna().all(axis=None)


def orthologs(*rows):
    return pd.DataFrame(rows, columns=["human", "mouse"])


def test_translation_keeps_complexes_and_says_what_is_lost():
    own = resource(("TGFB1", "TGFBR1_TGFBR2"), ("CXCL8", "CXCR1"), ("IL3", "IL3RA"), antagonist="LEFTY1_NOG")
    table = orthologs(
        ("TGFB1", "Tgfb1"), ("TGFBR1", "Tgfbr1"), ("TGFBR2", "Tgfbr2"), ("NOG", "Nog"), ("CXCR1", "Cxcr1"),
        ("IL3", "Il3"), ("IL3RA", "Il3ra"), ("IL3RA", "Il3rb"),
    )  # fmt: skip
    mouse, lost = own.translated(table, "mouse")
    assert mouse.pairs[["ligand", "receptor", "antagonist"]].to_numpy().tolist() == [["Tgfb1", "Tgfbr1_Tgfbr2", "Nog"]]
    assert lost["reason"].tolist() == ["CXCL8: no orthologue", "IL3RA: 2 orthologues"]
    assert mouse.organism == "mouse"
    both, lost = own.translated(table, "mouse", most=2)
    assert both.pairs["receptor"].tolist() == ["Tgfbr1_Tgfbr2", "Il3ra", "Il3rb"]
    assert len(lost) == 1


def test_a_table_of_orthologues_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="symbols of human"):
        resource(("A", "B")).translated(orthologs(("X", "x")), "mouse")
    with pytest.raises(InputError, match="two columns"):
        resource(("A", "B")).translated(pd.DataFrame({"human": ["A"]}), "mouse")
