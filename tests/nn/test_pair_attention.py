import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tissue import make_sample

from metaniche.nn.length_scale import Range
from metaniche.nn.pair_attention import PairAttention

GRAPH = make_sample("s", "p", n_cells=60).graph
LIGAND, RECEPTOR, SCALE = [0, 1, 0], [2, 3, 3], [1.0, 4.0, 0.5]
RANGE = Range(40, 10, 150, 150)


def attention(distance=True, seed=0):
    torch.manual_seed(seed)
    layer = PairAttention(LIGAND, RECEPTOR, SCALE, 2, RANGE if distance else None)
    torch.nn.init.normal_(layer.raw_weight, std=0.02)
    torch.nn.init.normal_(layer.null)
    return layer.double()


def oracle(layer, signals):
    """Every edge by every pair, as the docstring has it."""
    sender, receiver = GRAPH.indices.long(), GRAPH.receivers()
    mass = signals[sender][:, LIGAND] * signals[receiver][:, RECEPTOR] @ layer.weight.T
    kernel = layer.length(GRAPH.distance_um).exp() if layer.length else torch.ones(GRAPH.n_edges, 1)
    a = kernel * mass
    share = torch.zeros(60, 2, dtype=torch.float64)
    for cell in range(60):
        logits = torch.cat((layer.null[None], a[receiver == cell].log()))
        share[cell] = torch.softmax(logits, 0)[1:].sum(0)
    return share * layer.null.exp()


@settings(max_examples=20, deadline=None)
@given(st.booleans(), st.integers(0, 99))
def test_it_is_what_a_softmax_with_a_null_slot_leaves_to_the_senders(distance, seed):
    layer = attention(distance, seed)
    signals = torch.rand(60, 4, dtype=torch.float64) * (torch.rand(60, 4) < 0.6)
    torch.testing.assert_close(layer(signals, GRAPH), oracle(layer, signals), atol=1e-7, rtol=1e-7)


def test_shares_of_pairs_sum_to_what_is_heard():
    layer = attention()
    signals = torch.rand(60, 4, dtype=torch.float64)
    sender, receiver = GRAPH.indices.long(), GRAPH.receivers()
    products = signals[sender][:, LIGAND] * signals[receiver][:, RECEPTOR]
    share = (products @ layer.weight.T) * layer.per_mass(signals, GRAPH)
    heard = torch.zeros(60, 2, dtype=torch.float64).index_add_(0, receiver, share)
    torch.testing.assert_close(heard, layer(signals, GRAPH), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(layer.along(signals, GRAPH), share, atol=1e-12, rtol=1e-9)


def test_weights_are_shares_of_the_heads_voice_times_the_scale():
    weight = attention().weight
    assert (weight >= 0).all()
    torch.testing.assert_close((weight / torch.tensor(SCALE)).sum(1), torch.ones(2, dtype=torch.float64))
