from dataclasses import replace

import torch
from thinned import N_CELLS, POS, thrice, tissue
from tissue import make_sample

from metaniche.nn.length_scale import Range
from metaniche.nn.neighbourhood import Neighbourhood

RANGES = [Range(20, 5, 200, 150), Range(50, 5, 200, 150)]
GRAPH = make_sample("s", "p", n_cells=60).graph


def test_it_averages_neighbours_over_each_range():
    torch.manual_seed(0)
    layer, h = Neighbourhood(8, RANGES).double(), torch.randn(60, 8, dtype=torch.float64)
    values = layer.value(h).view(60, 2, 4)
    out = torch.zeros(60, 2, 4, dtype=torch.float64)
    receiver = GRAPH.receivers()
    for head, length in enumerate(layer.lengths):
        kernel = length(GRAPH.distance_um).exp()[:, 0] * GRAPH.weight
        total = 1 + torch.zeros(60, dtype=torch.float64).index_add_(0, receiver, kernel.double())
        weight = (kernel / total[receiver])[:, None]
        out[:, head].index_add_(0, receiver, weight * values[GRAPH.indices.long(), head])
    torch.testing.assert_close(layer(h, GRAPH), out.flatten(1), atol=1e-6, rtol=1e-6)


def test_the_receiver_has_no_say():
    torch.manual_seed(0)
    layer, h = Neighbourhood(8, RANGES), torch.randn(60, 8)
    other = h.clone()
    other[7] += 1
    assert torch.equal(layer(h, GRAPH)[7], layer(other, GRAPH)[7])


def test_an_edge_that_stands_for_three_neighbours_is_three():
    drawn, whole, who = thrice()
    torch.manual_seed(0)
    layer, h = Neighbourhood(8, RANGES), torch.randn(3, 8)[who]
    torch.testing.assert_close(layer(h, drawn)[0], layer(h, whole)[0])


def test_weights_of_one_change_no_bit():
    ones, none = replace(GRAPH, weight=torch.ones(GRAPH.n_edges)), replace(GRAPH, weight=None)
    layer, h = Neighbourhood(8, RANGES), torch.randn(60, 8)
    assert torch.equal(layer(h, ones), layer(h, none))


def test_averages_over_a_draw_of_neighbours_estimate_those_over_all():
    """Of a pattern some cells wide: its amplitude, blurred by each range, and the share that the null slot leaves."""
    torch.manual_seed(0)
    layer, drawn = Neighbourhood(4, RANGES), tissue(24)
    with torch.no_grad():
        layer.value.weight.copy_(torch.eye(4))
        layer.value.bias.zero_()
        wave, one = torch.sin(POS[:, :1] / 30), torch.ones(N_CELLS, 1)
        graphs = tissue(None), drawn, replace(drawn, weight=None)
        all_of, kept, unweighted = (layer(torch.cat((wave, one, wave, one), 1), graph) for graph in graphs)
    slopes = [(x * all_of).sum(0) / all_of.square().sum(0) for x in (kept, unweighted)]
    torch.testing.assert_close(slopes[0], torch.ones(4), atol=0.02, rtol=0)
    assert ((slopes[1] - 1).abs() > 0.05).all()
