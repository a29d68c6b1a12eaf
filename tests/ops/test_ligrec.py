from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from metaniche.errors import GraphError
from metaniche.ops.ligrec import (
    LigandReceptor,
    hill,
    received_by_pair,
    received_signal,
    sent_by_pair,
    sent_signal,
    type_pair_sums,
)


def problem(n=12, ligands=4, receptors=5, pairs=9, density=0.5, seed=0, **changes):
    """Random graph with an empty row and a full one, and half-empty expression."""
    g = torch.Generator().manual_seed(seed)
    near = torch.rand(n, n, generator=g) < 3 / n
    near[0] = True
    near[n // 2] = False
    near.fill_diagonal_(False)
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    indices = near.nonzero()[:, 1].to(torch.int32)
    left, right = (
        torch.rand(n, genes, generator=g) * 3 * (torch.rand(n, genes, generator=g) < density)
        for genes in (ligands, receptors)
    )
    lig = torch.randint(ligands, (pairs,), generator=g, dtype=torch.int32)
    rec = torch.randint(receptors, (pairs,), generator=g, dtype=torch.int32)
    weight = torch.rand(len(indices), generator=g)
    return replace(LigandReceptor(left, right, lig, rec, indptr, indices, weight), **changes)


def every_edge_and_pair(x):
    """Receivers, senders and the (E, P) signals in float64: what the ops never store."""
    receivers = torch.arange(len(x.indptr) - 1).repeat_interleave(x.indptr.diff())
    senders = x.indices.long()
    left, right = (side.to_dense().double() for side in (x.ligand_NL, x.receptor_NR))
    signal = left[senders][:, x.lig_P.long()] * right[receivers][:, x.rec_P.long()]
    if x.half_saturation is not None:
        signal = signal**x.exponent / (x.half_saturation**x.exponent + signal**x.exponent)
    return receivers, senders, signal * x.weight_E.double()[:, None]


def summed(keys, n, values):
    return torch.zeros(n, values.shape[1], dtype=torch.float64).index_add_(0, keys, values)


SCORES = [{}, {"half_saturation": 0.7}, {"half_saturation": 1.5, "exponent": 2.0}]


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 20), st.integers(1, 4), st.integers(0, 9), st.sampled_from(SCORES), st.integers(0, 99))
def test_signals_equal_sums_over_every_edge_and_pair(n, genes, pairs, score, seed):
    x = problem(n, genes, genes + 1, pairs, seed=seed, **score)
    receivers, senders, signal = every_edge_and_pair(x)
    group = torch.arange(pairs, dtype=torch.int32) % 3
    for op, cells in ((received_signal, receivers), (sent_signal, senders)):
        by_pair = summed(cells, n, signal)
        expected = torch.zeros(n, 3, dtype=torch.float64).index_add_(1, group.long(), by_pair)
        torch.testing.assert_close(op(x, group, 3).double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(op(x).double(), by_pair.sum(1, keepdim=True), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("score", SCORES)
def test_blocks_of_rows_make_up_every_pair(score):
    x = problem(23, **score)
    receivers, senders, signal = every_edge_and_pair(x)
    for op, cells in ((received_by_pair, receivers), (sent_by_pair, senders)):
        firsts, parts = zip(*op(x, rows=7))
        assert firsts == (0, 7, 14, 21)
        torch.testing.assert_close(torch.cat(parts).double(), summed(cells, 23, signal), atol=1e-5, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 20), st.integers(1, 5), st.sampled_from(SCORES), st.integers(0, 99))
def test_type_sums_equal_sums_over_every_edge(n, n_types, score, seed):
    x = problem(n, seed=seed, **score)
    types = torch.randint(n_types, (n,), dtype=torch.int32, generator=torch.Generator().manual_seed(seed))
    receivers, senders, signal = every_edge_and_pair(x)
    key = types[senders].long() * n_types + types[receivers].long()
    expected = summed(key, n_types**2, signal).view(n_types, n_types, -1)
    sums, edges = type_pair_sums(x, types, n_types)
    torch.testing.assert_close(sums, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(edges.flatten(), torch.bincount(key, minlength=n_types**2))


def test_weights_alone_are_the_signals_of_a_pair_that_every_cell_has():
    x = problem(23, half_saturation=0.7)
    receivers, _, _ = every_edge_and_pair(x)
    heard = torch.zeros(23).index_add_(0, receivers, x.weight_E)
    torch.testing.assert_close(received_signal(x.weights_alone())[:, 0], heard)


@pytest.mark.parametrize("score", SCORES)
def test_dense_and_sparse_expression_give_the_same(score):
    dense = problem(30, **score)
    sparse = replace(dense, ligand_NL=dense.ligand_NL.to_sparse_csr(), receptor_NR=dense.receptor_NR.to_sparse_csr())
    types = torch.arange(30, dtype=torch.int32) % 3
    assert torch.equal(received_signal(dense), received_signal(sparse))
    assert torch.equal(sent_signal(dense), sent_signal(sparse))
    for a, b in zip(type_pair_sums(dense, types, 3), type_pair_sums(sparse, types, 3)):
        assert torch.equal(a, b)


@pytest.mark.parametrize("score", SCORES)
def test_threads_change_no_bit(score):
    # Two types, so that one of them fills more than one chunk of rows.
    n = 9000
    step = torch.arange(1, 4)
    indices = ((torch.arange(n)[:, None] + step) % n).sort(dim=1).values.flatten().to(torch.int32)
    x = problem(20, 6, 6, 20, **score)
    g = torch.Generator().manual_seed(3)
    tall = replace(
        x,
        ligand_NL=torch.rand(n, 6, generator=g),
        receptor_NR=torch.rand(n, 6, generator=g),
        indptr=torch.arange(n + 1) * 3,
        indices=indices,
        weight_E=torch.rand(3 * n, generator=g),
    )
    types = (torch.arange(n) % 10 == 0).to(torch.int32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append((received_signal(tall), sent_signal(tall), *type_pair_sums(tall, types, 2)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
    receivers, senders, signal = every_edge_and_pair(tall)
    key = types[senders].long() * 2 + types[receivers].long()
    torch.testing.assert_close(results[0][2].view(4, -1), summed(key, 4, signal), atol=1e-5, rtol=1e-5)
    assert torch.equal(results[0][3].flatten(), torch.bincount(key, minlength=4))


def test_received_and_sent_add_up_to_the_same_total():
    x = problem(40, pairs=30)
    total = type_pair_sums(x, torch.zeros(40, dtype=torch.int32), 1)[0].sum()
    for op in (received_signal, sent_signal):
        torch.testing.assert_close(op(x).double().sum(), total, rtol=1e-5, atol=1e-5)


def test_a_saturated_signal_needs_both_sides():
    x = problem(10, half_saturation=1e-6)
    x = replace(x, receptor_NR=torch.zeros_like(x.receptor_NR))
    assert (received_signal(x) == 0).all()


def test_saturation_of_each_side_separates():
    x = problem(15)
    sides = replace(x, ligand_NL=hill(x.ligand_NL, 0.5, 2.0), receptor_NR=hill(x.receptor_NR, 2.0))
    left, right = x.ligand_NL.double() ** 2, x.receptor_NR.double()
    expected = every_edge_and_pair(replace(x, ligand_NL=left / (0.25 + left), receptor_NR=right / (2 + right)))[2]
    torch.testing.assert_close(received_signal(sides).double().sum(), expected.sum(), rtol=1e-5, atol=1e-5)
    csr = hill(x.ligand_NL.to_sparse_csr(), 0.5, 2.0)
    assert torch.equal(csr.to_dense(), sides.ligand_NL)


def test_a_tiny_half_saturation_does_not_turn_into_the_product():
    x = problem(10, half_saturation=1e-20, exponent=3.0)
    expected = every_edge_and_pair(x)[2].sum()
    torch.testing.assert_close(received_signal(x).double().sum(), expected, rtol=1e-5, atol=1e-5)


def test_no_cells_no_edges_no_pairs():
    x = problem(5, pairs=0)
    bare = replace(problem(5), indptr=torch.zeros(6, dtype=torch.int64), indices=x.indices[:0], weight_E=x.weight_E[:0])
    types = torch.zeros(5, dtype=torch.int32)
    assert (received_signal(x) == 0).all()
    assert type_pair_sums(x, types, 2)[0].shape == (2, 2, 0)
    assert (sent_signal(bare) == 0).all()
    assert (type_pair_sums(bare, types, 1)[0] == 0).all()


@pytest.mark.parametrize("exponent", [1.0, 1.5, 2.0, 4.0])
def test_the_slope_of_saturation_holds_at_0_and_far_out(exponent):
    half = 0.7
    x = torch.tensor([[0.0, 1e-3, 0.3, 0.7, 2.0, 1e3]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(hill(x, half, exponent).sum(), x)
    assert slope[0, 0] == (1 / half if exponent == 1 else 0)
    assert gradcheck(lambda above: hill(above, half, exponent), x.detach()[:, 1:].requires_grad_())
    huge = torch.tensor([[3e38]], requires_grad=True)
    assert torch.autograd.grad(hill(huge, half, exponent).sum(), huge)[0].isfinite().all()
    assert hill(huge, half, exponent) == 1


def test_weights_have_no_gradient_on_any_backend():
    x = problem()
    given_ = replace(x, weight_E=x.weight_E.clone().requires_grad_())
    assert not received_signal(given_).requires_grad
    assert not type_pair_sums(given_, torch.zeros(12, dtype=torch.int32), 1)[0].requires_grad


def test_tensors_that_do_not_fit_are_refused():
    x = problem(12)
    for changes, words in (
        ({"lig_P": x.lig_P + 9}, "lig_P"),
        ({"rec_P": x.rec_P.long()}, "rec_P"),
        ({"rec_P": x.rec_P[:-1]}, "each pair"),
        ({"indices": x.indices + 12}, "senders"),
        ({"indptr": x.indptr[:-1]}, "indptr"),
        ({"weight_E": x.weight_E[:-1]}, "weight_E"),
        ({"ligand_NL": x.ligand_NL[:-1]}, "same cells"),
        ({"ligand_NL": x.ligand_NL.long()}, "ligand_NL"),
        ({"ligand_NL": -x.ligand_NL, "half_saturation": 1.0}, "negative"),
        ({"ligand_NL": x.ligand_NL / 0, "half_saturation": 1.0}, "finite"),
        ({"half_saturation": 0.0}, "half saturation"),
    ):
        with pytest.raises(GraphError, match=words):
            received_signal(replace(x, **changes))
    types = torch.zeros(12, dtype=torch.int32)
    for args in ((types + 2, 2), (types[:-1], 2), (types, 0), (types.long(), 2)):
        with pytest.raises(GraphError, match="type"):
            type_pair_sums(x, *args)
    with pytest.raises(GraphError, match="group_P"):
        received_signal(x, torch.full((9,), 3, dtype=torch.int32), 3)
    with pytest.raises(GraphError, match="at least one row"):
        received_by_pair(x, rows=0)
