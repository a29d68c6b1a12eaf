from dataclasses import replace

import pytest
import torch
from thinned import thrice
from tissue import make_sample

from metaniche.errors import ConfigError
from metaniche.nn.distance import DistanceEncoding
from metaniche.nn.relational_attention import RelationalAttention


@pytest.fixture
def layer_and_edges():
    torch.manual_seed(0)
    graph = make_sample("s", "p", n_cells=50).graph
    encode = DistanceEncoding(150.0)
    edges = {r: (graph.select(r), encode(graph.select(r).distance_um)) for r in graph.relation_names}
    return RelationalAttention(16, 4, graph.relation_names, 8), edges, graph


def test_a_cell_hears_its_senders_and_nobody_else(layer_and_edges):
    layer, edges, graph = layer_and_edges
    h = torch.randn(50, 16, requires_grad=True)
    layer(h, edges)[7].sum().backward()
    heard = set(h.grad.abs().sum(1).nonzero().flatten().tolist())
    assert heard == {7, *graph.indices[graph.indptr[7] : graph.indptr[8]].tolist()}


def test_a_null_slot_that_wins_silences_the_neighbours(layer_and_edges):
    layer, edges, _ = layer_and_edges
    h = torch.randn(50, 16)
    for null in layer.null.values():
        torch.nn.init.constant_(null, 1e4)
    assert torch.allclose(layer(h, edges), h + layer.out.bias, atol=1e-6)


def test_relations_have_their_own_weights(layer_and_edges):
    layer, edges, _ = layer_and_edges
    h = torch.randn(50, 16)
    swapped = {"contact": edges["paracrine"], "paracrine": edges["contact"]}
    assert not torch.allclose(layer(h, edges), layer(h, swapped))


def test_attention_dropout_falls_on_edges_in_training_alone_and_follows_torch_s_seed(layer_and_edges):
    layer, edges, graph = layer_and_edges
    h = torch.randn(50, 16)
    plain = layer(h, edges)
    layer.attention_dropout = 0.5
    assert torch.equal(layer.eval()(h, edges), plain)
    layer.train()
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(layer(h, edges))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert not torch.equal(outs[0], plain)


def test_a_share_of_dropout_that_cannot_be_is_refused_at_once():
    with pytest.raises(ValueError, match=r"dropout in \[0, 1\), found 1\.5"):
        RelationalAttention(8, 4, ("contact",), 8, attention_dropout=1.5)


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ConfigError, match=r"multiple of model\.heads, found width=10, heads=4"):
        RelationalAttention(10, 4, ("contact",), 8)


def test_an_edge_that_stands_for_three_neighbours_is_three():
    drawn, whole, who = thrice()
    torch.manual_seed(0)
    layer, h, encode = RelationalAttention(16, 4, ("contact",), 8), torch.randn(3, 16)[who], DistanceEncoding(150.0)
    told = [layer(h, {"contact": (graph, encode(graph.distance_um))})[0] for graph in (drawn, whole)]
    torch.testing.assert_close(*told)


def test_weights_of_one_change_no_bit(layer_and_edges):
    layer, edges, _ = layer_and_edges
    h = torch.randn(50, 16)
    ones, none = (
        {r: (replace(graph, weight=weight and torch.ones(graph.n_edges)), basis) for r, (graph, basis) in edges.items()}
        for weight in (True, None)
    )
    assert torch.equal(layer(h, ones), layer(h, none))
