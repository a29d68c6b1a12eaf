import torch
from tissue import make_sample

from metaniche.models import NicheGIN


def test_the_patient_is_the_mean_of_its_niches():
    torch.manual_seed(0)
    graph = make_sample("s", "p").graph
    out = NicheGIN(5, 2).eval()(torch.randn(80, 5), graph, torch.tensor([0, 80]), torch.ones(80, dtype=torch.bool))
    assert torch.allclose(out.bag_logits[0], out.cell_logits.mean(0), atol=1e-6)


def test_a_niche_is_three_hops_wide():
    torch.manual_seed(0)
    graph = make_sample("s", "p", n_cells=400).graph
    x = torch.randn(400, 5, requires_grad=True)
    model = NicheGIN(5, 1).eval()
    model(x, graph, torch.tensor([0, 400]), torch.ones(400, dtype=torch.bool)).cell_logits[0].sum().backward()
    reached, frontier = {0}, {0}
    for _ in range(3):
        frontier = {j for i in frontier for j in graph.indices[graph.indptr[i] : graph.indptr[i + 1]].tolist()}
        reached |= frontier
    heard = set(x.grad.abs().sum(1).nonzero().flatten().tolist())
    assert heard <= reached
    assert heard & frontier, "the third hop is heard"


def test_other_cells_than_candidates_do_not_count():
    torch.manual_seed(0)
    graph, candidates = make_sample("s", "p").graph, torch.arange(80) % 3 == 0
    out = NicheGIN(5, 2).eval()(torch.randn(80, 5), graph, torch.tensor([0, 80]), candidates)
    assert torch.allclose(out.bag_logits[0], out.cell_logits[candidates].mean(0), atol=1e-6)
