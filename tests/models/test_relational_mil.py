import torch
from tissue import make_sample

from metaniche.models import RelationalMIL


def run(model, graph, x):
    return model(x, graph, torch.tensor([0, graph.n_cells]), torch.ones(graph.n_cells, dtype=torch.bool)).bag_logits


def test_distance_matters():
    torch.manual_seed(0)
    graph, x = make_sample("s", "p").graph, torch.randn(80, 5)
    model = RelationalMIL(5, 1, width=16).eval()
    near = graph.__class__(**{**graph.tensors(), "distance_um": graph.distance_um * 0.1})
    assert not torch.allclose(run(model, graph, x), run(model, near, x))


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    graph, x = make_sample("s", "p").graph, torch.randn(80, 5)
    model = RelationalMIL(5, 1, width=16)
    torch.nn.init.normal_(model.pool.weight.weight)
    run(model, graph, x).sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still in ([], ["pool.weight.bias"])  # a softmax does not see a constant
