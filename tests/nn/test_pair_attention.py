from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thinned import N_CELLS, thrice, tissue
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
    kernel = kernel * GRAPH.weight[:, None]
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


def test_an_edge_that_stands_for_three_neighbours_is_three():
    drawn, whole, who = thrice()
    signals = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))[who]
    first, kept = torch.eye(5, dtype=torch.float64)[0], torch.eye(3, dtype=torch.float64)
    for distance in (True, False):
        layer = attention(distance)
        torch.testing.assert_close(layer(signals, drawn)[0], layer(signals, whole)[0])
        torch.testing.assert_close(layer.along(signals, drawn)[1], layer.along(signals, whole)[1:].sum(0))
        bags = [layer.bag_under(first, signals, graph, kept) for graph in (drawn, whole)]
        torch.testing.assert_close(*bags, rtol=1e-5, atol=1e-7)


def test_weights_of_one_change_no_bit():
    ones, none = replace(GRAPH, weight=torch.ones(GRAPH.n_edges)), replace(GRAPH, weight=None)
    signals = torch.rand(60, 4)
    for distance in (True, False):
        layer = attention(distance).float()
        assert torch.equal(layer(signals, ones), layer(signals, none))


@pytest.mark.parametrize("length", [15.0, 40.0, 120.0])
def test_over_a_draw_of_neighbours_as_much_is_heard_as_over_all(length):
    """Amounts before saturation, on average over cells; without weights a draw hears a fraction."""
    layer = PairAttention(LIGAND, RECEPTOR, SCALE, 2, Range(length, 5, 200, 150))
    signals = torch.rand(N_CELLS, 4, generator=torch.Generator().manual_seed(1))
    signals = signals * (signals > 0.5)  # half of the cells express a gene
    drawn = tissue(24)
    all_of, kept, unweighted = (
        float(layer.amounts(signals, graph)[:, 0].sum().detach()) / N_CELLS
        for graph in (tissue(None), drawn, replace(drawn, weight=None))
    )
    assert kept == pytest.approx(all_of, rel=0.04)
    assert unweighted < 0.7 * all_of
