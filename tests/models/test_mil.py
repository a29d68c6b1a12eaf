"""What every architecture promises, whatever its encoder."""

import numpy as np
import pytest
import torch
from elsewhere import ELSEWHERE, accelerator
from tissue import make_sample

from metaniche.data.batch import Bag, Piece, collate
from metaniche.data.sampling import Windows
from metaniche.graph import concat
from metaniche.models import ARCHITECTURES, AttentionMIL, GATv2MIL, NicheGIN, RelationalMIL, SeedSoil

N = 300
PAIRS = {
    "ligand": [0, 1, 0],
    "receptor": [3, 4, 5],
    "scale": [1.0, 2.0, 0.5],
    "family": ["contact", "secreted", "secreted"],
}
NETWORKS = {
    "SeedSoil": lambda: SeedSoil(4, 1, pairs=PAIRS, width=16),
    "SeedSoil without pairs": lambda: SeedSoil(4, 1, width=16),
    "RelationalMIL, one round": lambda: RelationalMIL(4, 1, width=16, layers=1),
    "AttentionMIL": lambda: AttentionMIL(4, 1, width=16),
    "RelationalMIL": lambda: RelationalMIL(4, 1, width=16),
    "GATv2MIL": lambda: GATv2MIL(4, 1, width=16),
    "NicheGIN": lambda: NicheGIN(4, 1, width=16),
}


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


def bag():
    torch.manual_seed(0)
    graph = make_sample("s", "p", n_cells=N).graph
    candidates = torch.rand(N) < 0.5
    unlabelled = torch.full((N,), torch.nan)
    piece = Piece(torch.randn(N, 4), graph, candidates, unlabelled, torch.rand(N, 6), ~candidates)
    return Bag(0, [piece], np.zeros(1), np.zeros(0))


def logits(network, of):
    with torch.no_grad():
        return network(*collate([of]).tissue).cell_logits[:, 0]


def off(network, hops, seeds=range(5)):
    """How far logits of a window's cells are from those in the whole tissue, as a share of their spread; and its cells."""
    whole, errors, sizes = bag(), [], []
    everywhere = logits(network, whole)
    for seed in seeds:
        found = Windows(whole, hops).draw(40, np.random.default_rng(seed))
        inside = torch.ones_like(found.candidates) if found.inside is None else found.inside
        at = torch.cdist(found.graph.pos_um, whole.pieces[0].graph.pos_um).argmin(1)
        ours = logits(network, Bag(0, [found], np.zeros(1), np.zeros(0)))
        errors.append((ours - everywhere[at])[inside])
        sizes.append(int(inside.sum()))
    return float(torch.cat(errors).abs().mean() / everywhere.std()), sizes


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_are_scored_in_a_window_as_in_the_whole_tissue(name):
    torch.manual_seed(1)
    network = NETWORKS[name]().eval()
    error, sizes = off(network, network.hops)
    assert sizes == [40] * 5
    cut, _ = off(network, 0)
    if network.hops > 1:
        assert error < 0.5 * cut
        assert error < 0.2 or network.hops > 2  # the halo is one hop deep
    else:
        assert error < 1e-5
        assert (cut > 0.01) == (network.hops == 1)
