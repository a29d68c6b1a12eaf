import pytest

from metaniche.data.gene_sets import GENE_SETS, measured_sets, read_gene_sets
from metaniche.errors import InputError


def test_packaged_sets_have_genes_once_and_a_source():
    sets = read_gene_sets("packaged")
    assert {"partial EMT", "EMT", "stemness", "hypoxia", "proliferation", "glycolysis"} <= set(sets)
    for name, genes in sets.items():
        assert len(genes) == len(set(genes)) > 10
        assert all(gene == gene.upper() for gene in genes)
        assert GENE_SETS[name].source


def test_gmt_and_tables_say_the_same(tmp_path):
    (tmp_path / "own.gmt").write_text("HYPOXIA\tabout\tADM\tVEGFA\tADM\n\nEMT\tabout\tVIM\n")
    (tmp_path / "own.csv").write_text("set,gene\nHYPOXIA,ADM\nHYPOXIA, VEGFA\nEMT,VIM\nHYPOXIA,ADM\n")
    expected = {"HYPOXIA": ("ADM", "VEGFA"), "EMT": ("VIM",)}
    assert read_gene_sets(tmp_path / "own.gmt") == read_gene_sets(tmp_path / "own.csv") == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.gmt", "HYPOXIA ADM VEGFA\n", "line 1 without a tab"),
        ("b.gmt", "HYPOXIA\tabout\n", "'HYPOXIA' without"),
        ("c.gmt", "EMT\tx\tVIM\nEMT\tx\tFN1\n", "1 names in 2 lines"),
        ("d.gmt", "", "sets of different names"),
        ("e.csv", "set,symbol\nEMT,VIM\n", "columns set and gene"),
        ("f.csv", "set,gene\nEMT,\n", "sets with genes, found none"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"{name}.*{words}"):
        read_gene_sets(tmp_path / name)


def test_a_name_that_is_neither_packaged_nor_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="'packaged'"):
        read_gene_sets(tmp_path / "none.gmt")


def test_sets_of_too_few_measured_genes_are_left_out_and_said():
    sets = {"one": ("A", "B", "C"), "two": ("A", "X", "Y")}
    kept, few = measured_sets(sets, {"A", "B", "C"}, 3)
    assert kept == {"one": ("A", "B", "C")}
    assert few == ["two (1 of 3)"]
    with pytest.raises(InputError, match="at least 4 measured genes"):
        measured_sets(sets, {"A", "B", "C"}, 4)
