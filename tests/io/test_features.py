import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from metaniche.errors import InputError
from metaniche.io.features import check_features, looks_like

HUMAN = ["ACTB", "C1orf112", "MT-CO1", "HLA-DRA", "FO538757.1", "A1BG", "CD4", "MKI67"]
MOUSE = ["Actb", "mt-Nd1", "H2-K1", "Cd4", "Mki67", "Gm1234", "Epcam", "4930402H24Rik"]
MARKERS = ["CD3", "Ki67", "Beta catenin", "HLA_Class_1", "Pan-Keratin", "dsDNA"]


def named(names):
    return AnnData(np.zeros((2, len(names)), np.float32), var=pd.DataFrame(index=names))


def check(names, **options):
    check_features(named(names), where="s", **{"feature_kind": "counts", "organism": None} | options)


def test_exceptions_to_the_spelling_rules_pass():
    check(HUMAN, organism="human")
    check(MOUSE, organism="mouse")
    check(HUMAN + MOUSE)


def test_spelling_of_the_other_organism_is_refused():
    with pytest.raises(InputError, match="human gene symbols"):
        check(MOUSE, organism="human")
    with pytest.raises(InputError, match="mouse gene symbols"):
        check(HUMAN, organism="mouse")


def test_markers_are_not_judged_as_genes():
    check(MARKERS, feature_kind="intensity", organism="human")
    check([f"ENSG{i:011d}" for i in range(3)], feature_kind="intensity")


def test_one_feature_of_the_panel_is_enough():
    check(HUMAN, panel=["CD4", "NOT1"])
    with pytest.raises(InputError, match="none of them"):
        check(HUMAN, panel=["cd4"])


@pytest.mark.parametrize("name", ["ENSG00000139618", "ENSMUSG00000041147", "ENSG00000139618.15"])
def test_ensembl_ids_of_any_species_and_version(name):
    with pytest.raises(InputError, match="Ensembl ids"):
        check([name])


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (HUMAN, "human"),
        (MOUSE, "mouse"),
        (["ENSG00000107562", "ENSMUSG00000001"], "Ensembl"),
        (["1", "2"], None),
        ([], None),
    ],
)
def test_what_names_look_like(names, kind):
    assert looks_like(names) == kind
