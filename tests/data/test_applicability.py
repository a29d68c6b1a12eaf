from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from tissue import make_sample

from metaniche.data.applicability import check_coverage, check_edges, check_floor, check_kind, doubts
from metaniche.data.features import FeatureConfig, Features
from metaniche.data.pairs import PairFeatures
from metaniche.errors import ConfigError, InputError
from metaniche.signaling import Resource

TRAINED = [make_sample(f"s{i}", f"p{i}", seed=i, n_cells=120) for i in range(4)]
FEATURES = Features.fit(TRAINED, FeatureConfig())
TABLE = pd.DataFrame({"ligand": ["CXCL12", "CD3E"], "receptor": ["CXCR4", "KRT8"]})
PAIRS = PairFeatures.fit(TRAINED, Resource(TABLE, "made up"))


def test_the_samples_it_was_fitted_on_leave_no_doubt():
    assert [doubts([sample], FEATURES, "all") for sample in TRAINED] == [[]] * 4


@pytest.mark.parametrize("change", [lambda x: x * 1000, lambda x: (x - x.mean(0)) / x.std(0) - 5, lambda x: x * 0])
def test_values_on_another_scale_are_named(change):
    sample = replace(TRAINED[0], x=change(TRAINED[0].x).astype(np.float32))
    (found,) = doubts([sample], FEATURES, "all")
    assert found.startswith("sample s0: ")
    assert "% of features lie more than 2 sd from the training mean" in found


def test_sparse_counts_are_looked_at_too():
    counts = [make_sample(f"s{i}", f"p{i}", seed=i, kind="counts", n_cells=120) for i in range(4)]
    features = Features.fit(counts, FeatureConfig())
    alike = replace(counts[0], x=sparse.csr_array(counts[0].x))
    assert doubts([alike], features, "all") == []


def test_types_alone_have_no_values_to_doubt():
    bare = [make_sample(f"s{i}", f"p{i}", seed=i, kind="none", n_cells=120) for i in range(4)]
    assert doubts(bare[:1], Features.fit(bare, FeatureConfig()), "all") == []


def test_cells_that_mostly_stand_alone_are_named():
    sample = TRAINED[0]
    graph = replace(sample.graph, indptr=sample.graph.indptr.clone().clamp(max=int(sample.graph.indptr[30])))
    assert "sample s0: 75 % of cells have no neighbour" in doubts([replace(sample, graph=graph)], FEATURES, "all")


def test_a_unit_is_as_large_as_its_samples_together():
    halves = [make_sample(f"h{i}", "p", seed=i, n_cells=60) for i in range(2)]
    assert any("only 60 cells" in text for text in doubts(halves[:1], FEATURES, "all"))
    assert not any("cells, fewer" in text for text in doubts(halves, FEATURES, "all"))


def test_floor_kind_and_edges_pass_what_they_should():
    assert check_floor(np.float32(0.5)) == 0.5
    assert check_floor(0) == 0
    check_kind(None, FEATURES, where="s")
    check_kind("intensity", FEATURES, where="s")
    check_edges(TRAINED[0], 150.0, where="s")


def test_floor_kind_and_edges_refuse_what_they_should():
    with pytest.raises(ConfigError, match="found 50"):
        check_floor(50)
    with pytest.raises(InputError, match=r"s: expected features of kind 'intensity'.*found 'counts'"):
        check_kind("counts", FEATURES, where="s")
    graph = replace(TRAINED[0].graph, indices=TRAINED[0].graph.indices[:0])
    with pytest.raises(InputError, match=r"f, sample s0: expected cells with neighbours within 150 um.*none among 120"):
        check_edges(replace(TRAINED[0], graph=graph), 150.0, where="f")


@pytest.mark.parametrize("n_there", range(5))
def test_pairs_that_are_not_measured_are_counted_refused_below_the_floor_and_named(n_there):
    """Whatever genes are gone: what is not heard is said, and what is heard leaves no doubt."""
    sample = TRAINED[0]
    part = replace(sample, x=sample.x[:, :n_there], features=sample.features[:n_there])
    share = (n_there >= 2) / 2 + (n_there >= 4) / 2
    assert check_coverage([part], FEATURES, 0.0, PAIRS).at["s0", "pair_coverage"] == share
    said = [text for text in doubts([part], FEATURES, "all", PAIRS) if "pairs" in text]
    assert len(said) == (share < 1)
    assert all("CD3E-KRT8" in text and ("CXCL12-CXCR4" in text) == (share == 0) for text in said)
    assert not any("pairs" in text for text in doubts([part], FEATURES, "all"))


def test_too_few_pairs_are_refused_where_enough_features_are_there():
    table = pd.DataFrame({"ligand": ["CXCL12"], "receptor": ["CXCR4"]})
    pairs = PairFeatures.fit(TRAINED, Resource(table, "made up"))
    sample = TRAINED[0]
    part = replace(sample, x=sample.x[:, 1:], features=sample.features[1:])
    assert check_coverage([part], FEATURES, 0.5).at["s0", "coverage"] == 0.75
    with pytest.raises(InputError, match=r"at least 50 %, found 0 % of the 1 ligand-receptor pairs.*CXCL12-CXCR4"):
        check_coverage([part], FEATURES, 0.5, pairs)


def test_a_sample_of_tumour_alone_has_no_soil_and_says_so():
    sample = TRAINED[0]
    alone = replace(sample, cells=sample.cells.assign(is_malignant=True))
    unknown = replace(sample, cells=sample.cells.drop(columns="is_malignant"))
    for units, said in (([alone], True), ([alone, sample], False), ([unknown], False)):
        assert any("every cell is malignant" in text for text in doubts(units, FEATURES, "all")) == said
