from dataclasses import replace

import torch
from thinned import thrice
from tissue import make_sample

from metaniche.nn.context_attention import ContextAttention
from metaniche.nn.length_scale import Range

RANGE = Range(40, 10, 150, 150)
GRAPH = make_sample("s", "p", n_cells=60).graph


def test_far_senders_count_less_unless_distance_is_left_out():
    torch.manual_seed(0)
    h = torch.randn(60, 8)
    far = GRAPH.__class__(**{**GRAPH.tensors(), "distance_um": GRAPH.distance_um * 10})
    for length, heard_less in ((RANGE, True), (None, False)):
        layer = ContextAttention(8, 2, length)
        with torch.no_grad():
            layer.project.weight[16:], layer.project.bias[16:] = 0.0, 1.0  # every sender says 1
        less = layer(h, far).sum() < 0.9 * layer(h, GRAPH).sum()
        assert bool(less) == heard_less


def test_gradients_reach_every_parameter():
    layer = ContextAttention(8, 2, RANGE)
    layer(torch.randn(60, 8), GRAPH).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


def test_what_edges_add_is_attention_times_what_the_sender_says_and_sums_to_the_read_out():
    torch.manual_seed(0)
    for length in (RANGE, None):
        layer = ContextAttention(8, 2, length).double()
        torch.nn.init.normal_(layer.null)
        h, weight = torch.randn(60, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
        added = layer.along(h, GRAPH, weight)
        q, k, v = layer.project(layer.norm(h))
        sender, receiver = GRAPH.indices.long(), GRAPH.receivers()
        e = ((q[receiver] * k[sender]).sum(2) / 2 + (layer.length(GRAPH.distance_um) if length else 0)).exp()
        e = e * GRAPH.weight[:, None]
        total = layer.null.exp() + torch.zeros(60, 2, dtype=torch.float64).index_add_(0, receiver, e)
        said = torch.einsum("ehd,khd->ehk", v[sender], weight.view(3, 2, 4))
        torch.testing.assert_close(added, ((e / total[receiver])[:, :, None] * said).sum(1))
        summed = torch.zeros(60, 3, dtype=torch.float64).index_add_(0, receiver, added)
        torch.testing.assert_close(summed, layer(h, GRAPH) @ weight.T)


def test_an_edge_that_stands_for_three_neighbours_is_three():
    drawn, whole, who = thrice()
    torch.manual_seed(0)
    h, weight = torch.randn(3, 8)[who], torch.randn(3, 8)
    for length in (RANGE, None):
        layer = ContextAttention(8, 2, length)
        torch.testing.assert_close(layer(h, drawn)[0], layer(h, whole)[0])
        torch.testing.assert_close(layer.along(h, drawn, weight)[1], layer.along(h, whole, weight)[1:].sum(0))


def test_weights_of_one_change_no_bit():
    ones, none = replace(GRAPH, weight=torch.ones(GRAPH.n_edges)), replace(GRAPH, weight=None)
    for length in (RANGE, None):
        layer, h = ContextAttention(8, 2, length), torch.randn(60, 8)
        assert torch.equal(layer(h, ones), layer(h, none))
