import torch
from tissue import make_sample

from metaniche.models import AttentionMIL


def test_the_graph_is_ignored():
    torch.manual_seed(0)
    model, x = AttentionMIL(5, 1).eval(), torch.randn(80, 5)
    one, other = (
        model(x, make_sample("s", "p", seed=i).graph, torch.tensor([0, 80]), torch.ones(80, dtype=torch.bool))
        for i in range(2)
    )
    assert torch.equal(one.bag_logits, other.bag_logits)
