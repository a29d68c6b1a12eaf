import torch
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
        kernel = length(GRAPH.distance_um).exp()[:, 0]
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
