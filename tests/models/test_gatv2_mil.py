import torch
from tissue import make_sample

from metaniche.models import GATv2MIL


def test_distance_is_an_edge_feature():
    torch.manual_seed(0)
    graph, x = make_sample("s", "p").graph, torch.randn(80, 5)
    near = graph.__class__(**{**graph.tensors(), "distance_um": graph.distance_um * 0.1})
    model = GATv2MIL(5, 1).eval()
    args = torch.tensor([0, 80]), torch.ones(80, dtype=torch.bool)
    assert not torch.allclose(model(x, graph, *args).bag_logits, model(x, near, *args).bag_logits)
