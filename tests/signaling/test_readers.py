import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

from metaniche.errors import InputError
from metaniche.signaling import readers
from metaniche.signaling.readers import liana_resources, open_resource, read_liana, read_resource

FORMS = {
    "liana": "ligand,receptor\nCXCL12,CXCR4\nTGFB1,TGFBR1_TGFBR2\n",
    "omnipath": "source,target,source_genesymbol,target_genesymbol\nP1,P2,CXCL12,CXCR4\nP3,C,TGFB1,TGFBR1_TGFBR2\n",
    "cellphonedb": "id,gene_a,gene_b,annotation_strategy\n1,CXCL12,CXCR4,curated\n2,TGFB1,TGFBR1+TGFBR2,curated\n",
}


def write(folder, text, name="pairs.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_gives_the_same_pairs(form, tmp_path):
    found = read_resource(write(tmp_path, FORMS[form]))
    assert found.pairs[["ligand", "receptor"]].to_numpy().tolist() == [["CXCL12", "CXCR4"], ["TGFB1", "TGFBR1_TGFBR2"]]
    assert found.name == "pairs.csv"
    assert len(found.version) == len("2020-01-01")


def test_cellchats_words_for_types_are_ours(tmp_path):
    text = (
        "interaction_name,pathway_name,ligand,receptor,co_A_receptor,annotation,ligand.symbol,receptor.symbol\n"
        "A,CXCL,CXCL12,CXCR4,,Secreted Signaling,CXCL12,CXCR4\n"
        'B,FN1,FN1,ITGA5_B1,SDC4,ECM-Receptor,FN1,"ITGA5, ITGB1"\n'
        "C,NOTCH,JAG1,NOTCH1,,Cell-Cell Contact,JAG1,NOTCH1\n"
        "D,ADO,Adenosine,ADORA2A,,Non-protein Signaling,NT5E,ADORA2A\n"
    )
    pairs = read_resource(write(tmp_path, text)).pairs
    assert pairs["receptor"].tolist() == ["CXCR4", "ITGA5_ITGB1", "NOTCH1", "ADORA2A"]
    assert pairs["signaling_type"].tolist() == ["secreted", "ecm", "contact", "non_protein"]
    assert pairs["pathway"].tolist() == ["CXCL", "FN1", "NOTCH", "ADO"]
    assert pairs["coreceptor"].dropna().tolist() == ["SDC4"]


def test_parquet_is_read_too(tmp_path):
    pd.DataFrame({"ligand": ["CXCL12"], "receptor": ["CXCR4"]}).to_parquet(tmp_path / "pairs.parquet")
    assert len(read_resource(tmp_path / "pairs.parquet").pairs) == 1


BAD = {
    "no such columns": ("lig,rec\nA,B\n", "columns ligand and receptor, source_genesymbol"),
    "a file cut in the middle": ("ligand,receptor\nCXCL12,CXCR4\nTGFB1", "a ligand and a receptor in every row"),
    "a file cut in a complex": ("ligand,receptor\nCXCL12,CXCR4\nTGFB1,TGFBR1_", "a ligand and a receptor in every row"),
    "an empty file": ("", "No columns to parse"),
    "a header only": ("ligand,receptor\n", "at least one row"),
    "an unknown type": ("ligand,receptor,annotation\nA,B,Telepathy\n", "found 'telepathy'"),
    "a pair twice": ("ligand,receptor\nA,B\nA,B\n", "every pair once"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_what_is_wrong(name, tmp_path):
    text, words = BAD[name]
    with pytest.raises(InputError, match=rf"pairs\.csv.*{words}|{words}.*pairs\.csv"):
        read_resource(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv: expected a table, found no such file"):
        read_resource(tmp_path / "nowhere.csv")


@pytest.fixture
def stand_in(monkeypatch):
    """A package liana with two resources."""
    table = pd.DataFrame({"ligand": ["CXCL12", "CXCL12"], "receptor": ["CXCR4", "CXCR4"]})
    resource = SimpleNamespace(
        show_resources=lambda: ["consensus", "mouseconsensus"], select_resource=lambda name: table.copy()
    )
    package = ModuleType("liana")
    package.resource = resource
    monkeypatch.setitem(sys.modules, "liana", package)
    monkeypatch.setattr(readers, "find_spec", lambda name: object())
    monkeypatch.setattr(readers, "metadata", lambda name: Metadata(Version="1.2", License="BSD\nmore"))


class Metadata(dict):
    """What importlib.metadata gives: a mapping with `get`."""


def test_a_resource_of_liana_carries_version_and_licence(stand_in, caplog):
    assert liana_resources() == ("consensus", "mouseconsensus")
    found = read_liana("Consensus")
    assert len(found.pairs) == 1
    assert (found.name, found.version, found.organism) == ("liana consensus", "liana 1.2", "human")
    assert "BSD" in found.licence
    assert "more" not in found.licence
    assert read_liana("mouseconsensus").organism == "mouse"
    assert "names no signaling types" in caplog.text
    with pytest.raises(InputError, match="Did you mean 'consensus'"):
        read_liana("consensuss")


def test_without_liana_the_way_out_is_said(monkeypatch):
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"metaniche\[liana\].*read_resource"):
        read_liana()


def test_the_real_package_has_the_consensus_resource():
    pytest.importorskip("liana", reason="the optional package liana is not installed")
    import_module("liana.resource")
    found = read_liana("consensus")
    assert len(found.pairs) > 4000
    assert {"CXCL12", "CXCR4"} <= found.genes
    assert found.overlap(["CXCL12", "CXCR4"]).n_measured == 1


def test_a_path_without_a_suffix_is_a_path(tmp_path):
    (tmp_path / "pairs").write_text("ligand,receptor\nA,B\n")
    with pytest.raises(InputError, match="pairs: expected a csv, tsv or parquet table"):
        open_resource(tmp_path / "pairs")
