import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tissue import make_sample

from metaniche.nn.length_scale import Range
from metaniche.nn.pair_attention import SILENT, PairAttention

GRAPH = make_sample("s", "p", n_cells=60).graph
LIGAND, RECEPTOR, SCALE = [0, 1, 0], [2, 3, 3], [1.0, 4.0, 0.5]
RANGE = Range(40, 10, 150, 150)


def attention(distance=True, seed=0):
    torch.manual_seed(seed)
    layer = PairAttention(LIGAND, RECEPTOR, SCALE, 2, RANGE if distance else None)
    torch.nn.init.normal_(layer.raw_weight, std=0.02)
    torch.nn.init.normal_(layer.null)
    return layer.double()


def oracle(layer, signals, values):
    """Every edge by every pair, as the docstring has it."""
    sender, receiver = GRAPH.indices.long(), GRAPH.receivers()
    mass = signals[sender][:, LIGAND] * signals[receiver][:, RECEPTOR] @ layer.weight.T + SILENT
    kernel = layer.length(GRAPH.distance_um).exp() if layer.length else torch.ones(GRAPH.n_edges, 1)
    a = kernel * mass
    total = 1 + layer.null.exp().reciprocal() * torch.zeros(60, 2, dtype=torch.float64).index_add_(0, receiver, a)
    return torch.zeros_like(values).index_add_(0, receiver, (a / total[receiver])[..., None] * values[sender])


@settings(max_examples=20, deadline=None)
@given(st.booleans(), st.integers(0, 99))
def test_it_is_mass_action_over_its_sum_and_the_null_slot(distance, seed):
    layer = attention(distance, seed)
    signals = torch.rand(60, 4, dtype=torch.float64) * (torch.rand(60, 4) < 0.6)
    values = torch.randn(60, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(signals, values, GRAPH), oracle(layer, signals, values), atol=1e-7, rtol=1e-7)


def test_shares_of_pairs_sum_to_the_attention():
    layer = attention()
    signals = torch.rand(60, 4, dtype=torch.float64)
    sender, receiver = GRAPH.indices.long(), GRAPH.receivers()
    products = signals[sender][:, LIGAND] * signals[receiver][:, RECEPTOR]
    share = (products @ layer.weight.T) * layer.per_mass(signals, GRAPH)
    heard = torch.zeros(60, 2, dtype=torch.float64).index_add_(0, receiver, share)
    ones = torch.ones(60, 2, 1, dtype=torch.float64)
    torch.testing.assert_close(heard, layer(signals, ones, GRAPH)[..., 0], atol=1e-5, rtol=1e-5)


def test_weights_are_shares_of_the_heads_voice_times_the_scale():
    weight = attention().weight
    assert (weight >= 0).all()
    torch.testing.assert_close((weight / torch.tensor(SCALE)).sum(1), torch.ones(2, dtype=torch.float64))
