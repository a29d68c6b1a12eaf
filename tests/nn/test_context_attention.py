import torch
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
