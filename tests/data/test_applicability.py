from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from tissue import make_sample

from metaniche.data.applicability import check_edges, check_floor, check_kind, doubts
from metaniche.data.features import FeatureConfig, Features
from metaniche.errors import ConfigError, InputError

TRAINED = [make_sample(f"s{i}", f"p{i}", seed=i, n_cells=120) for i in range(4)]
FEATURES = Features.fit(TRAINED, FeatureConfig())


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
