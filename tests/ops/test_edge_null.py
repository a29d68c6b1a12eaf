from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from metaniche.errors import GraphError
from metaniche.ops.backend import use_backend
from metaniche.ops.edge_null import edge_scores_null, neighborhood_enrichment
from metaniche.ops.neighbors import radius_neighbors


def problem(n=7, n_types=3, seed=0, density=0.4, symmetric=False):
    """Asymmetric scores on a directed graph with an empty row."""
    g = torch.Generator().manual_seed(seed)
    near = torch.rand(n, n, generator=g) < density
    near[n // 2] = False
    near = (near | near.t()) if symmetric else near
    near.fill_diagonal_(False)
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    indices = near.nonzero()[:, 1].to(torch.int32)
    types = torch.cat((torch.arange(n_types), torch.randint(n_types, (n - n_types,), generator=g))).to(torch.int32)
    return torch.rand(len(indices), generator=g, dtype=torch.float64), indptr, indices, types, n_types


def sums(score, indptr, indices, types, n_types):
    receivers = torch.arange(len(indptr) - 1).repeat_interleave(indptr.diff())
    key = types[indices.long()].long() * n_types + types[receivers].long()
    return torch.zeros(n_types**2, dtype=torch.float64).index_add_(0, key, score).view(n_types, n_types)


def every_permutation(score, indptr, indices, types, n_types):
    orders = map(list, permutations(range(len(types))))
    return torch.stack([sums(score, indptr, indices, types[order], n_types) for order in orders])


@pytest.mark.parametrize(
    "changes", [{}, {"n_types": 1}, {"n_types": 5}, {"symmetric": True}, {"density": 0.1}, {"n": 4, "n_types": 2}]
)
def test_moments_equal_those_of_all_permutations(changes):
    args = problem(**changes)
    every = every_permutation(*args)
    null = edge_scores_null(*args)
    torch.testing.assert_close(null.score, sums(*args))
    torch.testing.assert_close(null.mean, every.mean(0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(null.variance, every.var(0, unbiased=False), rtol=1e-8, atol=1e-10)


def test_negative_scores_have_the_same_moments_and_normal_tails():
    score, *rest = problem()
    score = score - 0.6
    every = every_permutation(score, *rest)
    null = edge_scores_null(score, *rest)
    torch.testing.assert_close(null.variance, every.var(0, unbiased=False), rtol=1e-8, atol=1e-10)
    varies = null.variance > 0
    np.testing.assert_allclose(null.p_greater[varies], norm.sf(null.z[varies]), rtol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 40), st.integers(1, 4), st.integers(0, 99), st.booleans())
def test_native_equals_reference(n, n_types, seed, symmetric):
    args = problem(n, n_types, seed, 0.2, symmetric)
    native = edge_scores_null(*args)
    with use_backend("reference"):
        plain = edge_scores_null(*args)
    for a, b in zip(native, plain):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def tissue(n=1500, n_types=4):
    g = torch.Generator().manual_seed(1)
    graph = radius_neighbors(torch.rand(n, 2, generator=g) * 400, torch.tensor([0, n]), 25.0)
    return *graph, torch.randint(n_types, (n,), generator=g, dtype=torch.int32), g


def drawn(score, indptr, indices, types, n_types, count, g):
    return torch.stack(
        [sums(score, indptr, indices, types[torch.randperm(len(types), generator=g)], n_types) for _ in range(count)]
    )


def test_tails_agree_with_permutations_for_a_skewed_score():
    indptr, indices, distance, types, g = tissue()
    source = torch.rand(len(types), generator=g).pow(8)
    score = torch.exp(-distance / 10).double() * source[indices.long()].double()
    null = edge_scores_null(score, indptr, indices, types, 4)
    every = drawn(score, indptr, indices, types, 4, 1500, g)
    noise = np.sqrt(0.25 / 1500)
    assert ((every >= null.score).double().mean(0) - null.p_greater).abs().max() < 5 * noise
    assert ((every <= null.score).double().mean(0) - null.p_less).abs().max() < 5 * noise


def test_enrichment_equals_counting_permutations():
    indptr, indices, _, types, g = tissue()
    null = neighborhood_enrichment(indptr, indices, types, 4)
    ones = torch.ones(len(indices), dtype=torch.float64)
    every = drawn(ones, indptr, indices, types, 4, 1500, g)
    assert torch.equal(null.score, sums(ones, indptr, indices, types, 4))
    torch.testing.assert_close(null.z, null.z.t())
    torch.testing.assert_close((null.score - every.mean(0)) / every.std(0), null.z, atol=0.3, rtol=0.1)
    noise = np.sqrt(0.25 / 1500)
    assert ((every >= null.score).double().mean(0) - null.p_greater).abs().max() < 5 * noise
    assert ((every <= null.score).double().mean(0) - null.p_less).abs().max() < 5 * noise


def test_cells_that_keep_to_their_own_are_enriched():
    n = 900
    side = torch.arange(30, dtype=torch.float32)
    pos = torch.cartesian_prod(side, side)
    indptr, indices, _ = radius_neighbors(pos, torch.tensor([0, n]), 1.0)
    types = (pos[:, 0] >= 15).to(torch.int32)
    null = neighborhood_enrichment(indptr, indices, types, 2)
    assert (null.z.diag() > 20).all()
    assert (null.p_greater.diag() < 1e-50).all()
    assert null.p_less[0, 1] < 1e-50
    assert null.p_greater[0, 1] > 0.999


def test_what_no_permutation_changes_says_nothing():
    score, indptr, indices, types, _ = problem()
    one_type = edge_scores_null(score, indptr, indices, torch.zeros_like(types), 2)
    no_edges = edge_scores_null(score[:0], torch.zeros_like(indptr), indices[:0], types, 3)
    for null in (one_type, no_edges):
        assert (null.variance == 0).all()
        assert (null.z == 0).all()
        assert (null.p_greater == 1).all()
        assert (null.p_less == 1).all()


def test_threads_change_no_bit():
    n = 40000
    indices = ((torch.arange(n)[:, None] + torch.arange(1, 4)) % n).sort(dim=1).values.flatten().to(torch.int32)
    score = torch.rand(3 * n, generator=torch.Generator().manual_seed(0))
    types = (torch.arange(n) % 7).to(torch.int32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(edge_scores_null(score, torch.arange(n + 1) * 3, indices, types, 7))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
    torch.testing.assert_close(results[0].score, sums(score.double(), torch.arange(n + 1) * 3, indices, types, 7))
    torch.testing.assert_close(results[0].mean.sum(), score.double().sum())


def test_graphs_that_do_not_fit_are_refused():
    score, indptr, indices, types, n_types = problem()
    loop = indices.clone()
    loop[0] = 0
    for args, words in (
        ((score[:-1], indptr, indices, types, n_types), "score for each"),
        ((score.clone().fill_(torch.nan), indptr, indices, types, n_types), "finite"),
        ((score / 0, indptr, indices, types, n_types), "finite"),
        ((score, indptr, indices, types + 1, n_types), "type_N"),
        ((score, indptr, indices + 7, types, n_types), "senders"),
        ((score, indptr, indices.flip(0), types, n_types), "ascend|own neighbour"),
        ((score, indptr, loop, types, n_types), "own neighbour"),
        ((score[:2], indptr[:4].clamp(max=2), indices[:2] % 3, types[:3], n_types), "4 cells"),
    ):
        with pytest.raises(GraphError, match=words):
            edge_scores_null(*args)
