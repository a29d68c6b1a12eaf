import logging

import numpy as np
import pytest
import torch
from scipy import sparse

from metaniche.errors import ConfigError, GraphError
from metaniche.graph import GraphConfig, build_graph, estimate_memory

POS = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 200
PTR = torch.tensor([0, 120, 200])


@pytest.mark.parametrize("builder", ["radius", "knn", "delaunay"])
def test_every_builder_gives_a_valid_graph_within_the_radius(builder):
    graph = build_graph(POS, PTR, GraphConfig(builder=builder, contact_um=12, radius_um=40)).validate()
    assert graph.n_edges > 0
    assert graph.distance_um.max() <= 40
    assert torch.equal(graph.relation == 0, graph.distance_um <= 12)


def test_every_contact_is_kept_and_paracrine_senders_are_capped():
    everyone = build_graph(POS, PTR, GraphConfig(contact_um=15, radius_um=60, max_paracrine=None))
    capped = build_graph(POS, PTR, GraphConfig(contact_um=15, radius_um=60, max_paracrine=4))
    assert torch.equal(everyone.select("contact").indices, capped.select("contact").indices)
    assert capped.select("paracrine").indptr.diff().max() == 4
    assert everyone.select("paracrine").indptr.diff().max() > 4


def test_a_stored_graph_is_used_as_it_is():
    near = np.zeros((200, 200))
    near[3, 5] = near[150, 160] = 1
    config = GraphConfig(builder="stored", contact_um=100, radius_um=300)
    graph = build_graph(POS, PTR, config, sparse.csr_array(near))
    assert list(zip(graph.receivers().tolist(), graph.indices.tolist())) == [(3, 5), (150, 160)]
    with pytest.raises(GraphError, match="stored"):
        build_graph(POS, PTR, config)
    near[3, 150] = 1
    with pytest.raises(GraphError, match="sample"):
        build_graph(POS, PTR, config, sparse.csr_array(near))


@pytest.mark.parametrize(
    "wrong", [{"builder": "voronoi"}, {"contact_um": 200.0}, {"contact_um": 0.0}, {"k": 0}, {"max_paracrine": 0}]
)
def test_an_impossible_config_is_refused(wrong):
    with pytest.raises(ConfigError, match="graph"):
        GraphConfig(**wrong)


def test_memory_is_estimated_within_a_factor_and_said_before_a_large_build(monkeypatch, caplog):
    config = GraphConfig(contact_um=12, radius_um=40)
    graph = build_graph(POS, PTR, config)
    stored = sum(t.numel() * t.element_size() for t in graph.tensors().values())
    assert estimate_memory(200, POS, config) > stored / 2
    assert estimate_memory(2_000_000, 4e8, config) > 100 * estimate_memory(2_000, 4e5, config)
    monkeypatch.setattr("metaniche.graph.build.LARGE_BYTES", 1)
    with caplog.at_level(logging.WARNING):
        build_graph(POS, PTR, config)
    assert "GB of memory" in caplog.text
