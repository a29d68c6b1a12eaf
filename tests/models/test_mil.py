"""What every architecture promises, whatever its encoder."""

import pytest
import torch
from elsewhere import ELSEWHERE, accelerator
from tissue import make_sample

from metaniche.graph import concat
from metaniche.models import ARCHITECTURES


def forward(name, graph, x, bag_ptr, n_clinical=0, clinical=None, candidates=None):
    torch.manual_seed(0)
    model = ARCHITECTURES[name](x.shape[1], 3, n_clinical, width=16).eval()
    candidates = torch.ones(graph.n_cells, dtype=torch.bool) if candidates is None else candidates
    return model(x, graph, bag_ptr, candidates, clinical)


def said_and_learned(network, tissue):
    """Bag logits, and the gradient of every weight."""
    network.zero_grad()
    out = network(*tissue).bag_logits
    out.sum().backward()
    return out.detach(), {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ARCHITECTURES)
class TestEveryArchitecture:
    def test_shapes(self, name):
        graph = make_sample("s", "p").graph
        out = forward(name, graph, torch.randn(80, 5), torch.tensor([0, 30, 80]))
        assert out.cell_logits.shape == (80, 3)
        assert out.bag_logits.shape == (2, 3)
        assert torch.allclose(out.attention[:30].sum(), torch.tensor(1.0), atol=1e-5)

    def test_samples_in_one_batch_do_not_hear_each_other(self, name):
        graphs = [make_sample("s", "p", seed=i).graph for i in range(2)]
        x = torch.randn(160, 5)
        together = forward(name, concat(graphs), x, torch.tensor([0, 80, 160]))
        alone = forward(name, graphs[1], x[80:], torch.tensor([0, 80]))
        assert torch.allclose(together.bag_logits[1], alone.bag_logits[0], atol=1e-5)

    def test_clinical_variables_join_last(self, name):
        graph = make_sample("s", "p").graph
        x, ptr = torch.randn(80, 5), torch.tensor([0, 80])
        young, old = (forward(name, graph, x, ptr, 1, torch.tensor([[age]])) for age in (-1.0, 1.0))
        assert torch.equal(young.cell_logits, old.cell_logits)
        assert not torch.allclose(young.bag_logits, old.bag_logits)

    def test_a_missing_clinical_value_is_no_nan(self, name):
        graph = make_sample("s", "p").graph
        out = forward(name, graph, torch.randn(80, 5), torch.tensor([0, 80]), 1, torch.tensor([[torch.nan]]))
        assert torch.isfinite(out.bag_logits).all()

    def test_only_candidates_are_pooled_to_the_unit(self, name):
        graph = make_sample("s", "p").graph
        candidates = torch.arange(80) % 3 == 0
        candidates[:30] = False  # a bag without any pools all of its cells
        out = forward(name, graph, torch.randn(80, 5), torch.tensor([0, 30, 80]), candidates=candidates)
        assert (out.attention[30:] > 0).equal(candidates[30:])
        assert (out.attention[:30] > 0).all()
        for bag in (slice(0, 30), slice(30, 80)):
            assert torch.allclose(out.attention[bag].sum(), torch.tensor(1.0), atol=1e-5)
        share = out.attention[30:, None] * out.cell_logits[30:]
        assert torch.allclose(out.bag_logits[1], share.sum(0), atol=1e-5)

    def test_on_an_accelerator_it_says_and_learns_the_same(self, name):
        """Every tensor is made where the cells are."""
        torch.manual_seed(0)
        network, apart = ARCHITECTURES[name](5, 3, 2, width=16).eval(), torch.rand(80) < 0.6
        graph, ptr = make_sample("s", "p").graph, torch.tensor([0, 30, 80])
        tissue = torch.randn(80, 5), graph, ptr, ~apart, torch.randn(2, 2), torch.rand(80, 6), apart
        expected, slopes = said_and_learned(network, tissue)
        with accelerator():
            out, found = said_and_learned(network.to(ELSEWHERE), [part.to(ELSEWHERE) for part in tissue])
            assert out.device == ELSEWHERE
            assert torch.equal(out.cpu(), expected)
            assert found.keys() == slopes.keys()
            assert all(torch.equal(found[key].cpu(), slopes[key]) for key in slopes)
