from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import GraphError
from metaniche.ops.backend import use_backend
from metaniche.ops.label_null import cluster_means_null, cluster_means_permutations
from metaniche.ops.reference import label_null as reference

BACKENDS = ("auto", "reference")


def problem(n=7, genes=4, n_types=3, pairs=6, seed=0, density=0.6):
    """Skewed, half-empty expression, every type present."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, genes, generator=g).pow(3) * 5 * (torch.rand(n, genes, generator=g) < density)
    types = torch.cat((torch.arange(n_types), torch.randint(n_types, (n - n_types,), generator=g))).to(torch.int32)
    lig, rec = (torch.randint(genes, (pairs,), generator=g, dtype=torch.int32) for _ in range(2))
    return x, types, n_types, lig, rec


def score(x, types, n_types, lig, rec):
    """(T, T, P) in float64, straight from the definition."""
    x = x.double()
    means = torch.stack([x[types == a].mean(0) for a in range(n_types)])
    return means[:, None, lig.long()] + means[None, :, rec.long()]


def test_three_moments_equal_those_of_all_permutations():
    x, types, n_types, lig, rec = problem()
    every = torch.stack([score(x, types[list(order)], n_types, lig, rec) for order in permutations(range(7))])
    mean = every.mean(0)
    variance = (every - mean).square().mean(0)
    skewness = (every - mean).pow(3).mean(0) / variance.pow(1.5)
    null = cluster_means_null(x, types, n_types, lig, rec)
    torch.testing.assert_close(null.score, score(x, types, n_types, lig, rec), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(null.mean.expand_as(mean), mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(null.variance, variance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(null.skewness, skewness, rtol=1e-7, atol=1e-7)


def test_permutations_agree_with_all_of_them():
    x, types, n_types, lig, rec = problem()
    seen = score(x, types, n_types, lig, rec)
    every = torch.stack([score(x, types[list(order)], n_types, lig, rec) for order in permutations(range(7))])
    exact = (every >= seen - 1e-9).double().mean(0)
    null = cluster_means_permutations(x, types, n_types, lig, rec, 20000)
    error = (null.p_value - exact).abs()
    assert (error <= 5 * (exact * (1 - exact) / 20000).sqrt() + 1e-4).all()
    assert torch.equal(null.p_value, (null.reached.double() + 1) / 20001)


def test_the_closed_form_agrees_with_permutations():
    x, types, n_types, lig, rec = problem(2000, 30, 6, 60, density=0.3)
    # Some pairs differ between types.
    x[types == 1, :10] *= 1.3
    closed = cluster_means_null(x, types, n_types, lig, rec).p_value
    drawn = cluster_means_permutations(x, types, n_types, lig, rec, 4000).p_value
    assert (closed - drawn).abs().max() < 5 * np.sqrt(0.25 / 4000)
    tail = (drawn < 0.05) & (drawn > 0.005)
    assert tail.sum() > 20
    assert (closed / drawn)[tail].log().abs().median() < 0.1


def most_in_one_type(n, outside, draw, pairs=150, seed=0):
    """All cells but a few are of type 0; ligands and receptors are columns of their own."""
    rng = np.random.default_rng(seed)
    types = torch.zeros(n, dtype=torch.int32)
    types[torch.from_numpy(rng.choice(n, outside, replace=False))] = 1
    x = torch.from_numpy(draw(rng, (n, 2 * pairs)).astype(np.float32))
    return x, types, 2, *torch.arange(2 * pairs, dtype=torch.int32).split(pairs)


def lognormal(rng, shape):
    return rng.lognormal(0, 1.5, shape)


def counts(rng, shape):
    return rng.poisson(rng.lognormal(-1, 1.5, shape))


def standardised(rng, shape):
    x = lognormal(rng, shape)
    return (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize(
    ("n", "outside", "draw"),
    [(200, 2, lognormal), (200, 5, lognormal), (1000, 20, lognormal), (500, 25, counts), (500, 10, standardised)],
)
def test_a_type_of_nearly_all_cells_is_not_found_by_chance(n, outside, draw):
    """The law of its mean ends where the other cells express nothing, and no value lies beyond."""
    args = [most_in_one_type(n, outside, draw, seed=seed) for seed in range(4)]
    p = torch.cat([cluster_means_null(*given).p_value[0, 0] for given in args])
    assert p.min() > 1e-6
    assert (p < 1e-3).double().mean() < 2e-3
    assert (p < 0.05).double().mean() < 0.06
    drawn = cluster_means_permutations(*args[0], 400).p_value[0, 0]
    assert (cluster_means_null(*args[0]).p_value[0, 0] > drawn / 4 - 5e-3).all()


def test_what_only_a_type_of_nearly_all_cells_expresses_is_as_likely_as_no_event():
    n, outside, expressing = 2000, 100, 40
    x = torch.zeros(n, 1)
    x[:expressing] = 1.0
    types = (torch.arange(n) >= n - outside).int()
    pair = torch.zeros(1, dtype=torch.int32)
    p = cluster_means_null(x, types, 2, pair, pair).p_value[0, 0, 0]
    exact = np.prod([(n - outside - i) / (n - i) for i in range(expressing)])
    assert 0.5 < p / exact < 2


@settings(max_examples=15, deadline=None)
@given(st.integers(4, 30), st.integers(1, 40), st.integers(1, 4), st.integers(0, 9), st.sampled_from([None, 1, 3]))
def test_native_and_reference_count_the_same(n, genes, n_types, seed, stop_after):
    # Genes of every density: some are added up over all cells, some over the cells that express them.
    args = problem(n, genes, n_types, 12, seed, density=torch.linspace(0, 1, genes))
    results = []
    for backend in BACKENDS:
        with use_backend(backend):
            results.append(cluster_means_permutations(*args, 37, seed=seed, stop_after=stop_after))
    for a, b in zip(*results):
        assert torch.equal(a, b)


@pytest.mark.parametrize("stop_after", [None, 5])
def test_dense_and_sparse_expression_and_threads_give_the_same(stop_after):
    x, *rest = problem(300, 70, 4, 50)
    threads, results = torch.get_num_threads(), []
    try:
        for count, cells in ((1, x), (2, x), (3, x.to_sparse_csr())):
            torch.set_num_threads(count)
            drawn = cluster_means_permutations(cells, *rest, 100, stop_after=stop_after)
            results.append((*drawn, *cluster_means_null(cells, *rest)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_stopping_early_is_counting_to_the_same_permutation():
    args = problem(40, 6, 3, 10)
    whole = cluster_means_permutations(*args, 200)
    early = cluster_means_permutations(*args, 200, stop_after=4)
    stopped = early.reached == 4
    assert stopped.any()
    assert not stopped.all()
    assert torch.equal(early.p_value[stopped], 4 / early.drawn[stopped].double())
    assert torch.equal(early.p_value[~stopped], whole.p_value[~stopped])
    assert (early.drawn[~stopped] == 200).all()
    assert (whole.drawn == 200).all()
    for drawn in early.drawn[stopped].unique().tolist():
        before, at = (cluster_means_permutations(*args, count).reached for count in (max(drawn - 1, 1), drawn))
        here = stopped & (early.drawn == drawn)
        assert (at[here] == 4).all()
        assert drawn == 1 or (before[here] == 3).all()


def test_shuffles_are_permutations_and_uniform():
    places = np.stack([reference.shuffled(np.arange(6), 7, k) for k in range(3000)])
    assert (np.sort(places, axis=1) == np.arange(6)).all()
    counts = np.stack([np.bincount(places[:, i], minlength=6) for i in range(6)])
    assert ((counts - 500) ** 2 / 500).sum() < 60  # chi-square with 25 degrees of freedom
    assert not np.array_equal(places[:50], np.stack([reference.shuffled(np.arange(6), 8, k) for k in range(50)]))


def test_tied_scores_count_as_reached():
    x = torch.zeros(9, 1)
    x[0] = 0.3
    types = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2], dtype=torch.int32)
    pair = torch.zeros(1, dtype=torch.int32)
    null = cluster_means_permutations(x, types, 3, pair, pair, 3000)
    # The one expressing cell is in type 0 in a third of the permutations.
    assert abs(null.p_value[0, 0, 0] - 1 / 3) < 0.05
    assert null.p_value[1, 1, 0] == 1


@pytest.mark.parametrize("rest", [70000, 0])
def test_whole_numbers_are_kept_and_large_sums_do_not_overflow(rest):
    n = 70000 * 8
    x = torch.zeros(n, 1)
    x[: 70000 + rest * 7] = 32767.0
    x[:70000:2] = 32765.0
    types = torch.zeros(n, dtype=torch.int32)
    types[-2:] = 1
    pair = torch.zeros(1, dtype=torch.int32)
    null = cluster_means_permutations(x, types, 2, pair, pair, 3)
    closed = cluster_means_null(x, types, 2, pair, pair)
    for found in (null.score, closed.score):
        torch.testing.assert_close(found, score(x, types, 2, pair, pair), rtol=1e-12, atol=0)
    within = closed.variance[1, 1, 0]
    torch.testing.assert_close(within, 4 * x.double().var(unbiased=False) * (n - 2) / (2 * (n - 1)))


def test_a_type_without_cells_is_nan_and_a_constant_gene_says_nothing():
    x, types, n_types, lig, rec = problem(20)
    x[:, 1] = 2.0
    one = torch.ones(1, dtype=torch.int32)
    for null in (cluster_means_null(x, types, 5, one, one), cluster_means_permutations(x, types, 5, one, one, 30)):
        assert torch.isnan(null.p_value[3:]).all()
        assert torch.isnan(null.score[:, 3:]).all()
        assert (null.p_value[:3, :3] == 1).all()


@pytest.mark.parametrize("form", [torch.Tensor.contiguous, torch.Tensor.to_sparse_csr])
@pytest.mark.parametrize("offset", [2.0**12, 2.0**18, -(2.0**18)])
def test_how_far_from_0_all_of_a_gene_lies_changes_nothing(form, offset):
    x, types, n_types, lig, rec = problem(3000, 4, 3, 6, density=1.0)
    x = (x * 8).round() / 8  # kept by float32 beside the offset
    x[types == 1] += 0.5
    near = cluster_means_null(form(x + 8), types, n_types, lig, rec)
    far = cluster_means_null(form(x + offset), types, n_types, lig, rec)
    torch.testing.assert_close(far.score, near.score + 2 * (offset - 8), rtol=1e-12, atol=0)
    torch.testing.assert_close(far.mean, near.mean + 2 * (offset - 8), rtol=1e-12, atol=0)
    torch.testing.assert_close(far[2:], near[2:], rtol=1e-6, atol=1e-9)
    assert (near.p_value < 1e-3).any()


def test_genes_whose_sum_is_the_same_in_every_cell_say_nothing_together():
    x, types, n_types, *_ = problem(50, 2)
    x[:, 1] = 7 - (x[:, 0] * 8).round() / 8
    x[:, 0] = 7 - x[:, 1]
    null = cluster_means_null(x, types, n_types, *torch.tensor([[0], [1]], dtype=torch.int32))
    same = torch.arange(n_types)
    assert (null.p_value[same, same] == 1).all()
    assert (null.variance[same, same] == 0).all()


def test_one_type_has_nothing_to_permute():
    x, types, _, lig, rec = problem(20)
    types = torch.zeros_like(types)
    assert (cluster_means_null(x, types, 1, lig, rec).p_value == 1).all()
    assert (cluster_means_permutations(x, types, 1, lig, rec, 9).p_value == 1).all()


def test_no_pairs():
    x, types, n_types, lig, rec = problem()
    for op in (cluster_means_null, cluster_means_permutations):
        assert op(x, types, n_types, lig[:0], rec[:0]).p_value.shape == (3, 3, 0)


def test_tensors_that_do_not_fit_are_refused():
    x, types, n_types, lig, rec = problem()
    for args, words in (
        ((x, types[:-1], n_types, lig, rec), "type for each"),
        ((x, types + 1, n_types, lig, rec), "type_N"),
        ((x, types, n_types, lig + 4, rec), "lig_P"),
        ((x, types, n_types, lig, rec.long()), "rec_P"),
        ((x, types, n_types, lig, rec[:-1]), "each pair"),
    ):
        for op in (cluster_means_null, cluster_means_permutations):
            with pytest.raises(GraphError, match=words):
                op(*args)
    with pytest.raises(GraphError, match="n_permutations"):
        cluster_means_permutations(x, types, n_types, lig, rec, 0)
    x[0, 0] = torch.inf
    with pytest.raises(GraphError, match="finite"):
        cluster_means_permutations(x, types, n_types, lig, rec)


@pytest.mark.parametrize("form", [torch.Tensor.clone, torch.Tensor.to_sparse_csr])
def test_other_genes_do_not_change_a_pair(form):
    """Of a type of nearly all cells, whose law ends where the others express least."""
    x, types, n_types, lig, rec = most_in_one_type(200, 5, standardised, pairs=20)
    outlier = torch.zeros(200, 1)
    outlier[3] = -1000.0
    found, more = (
        cluster_means_null(form(given), types, n_types, lig, rec) for given in (x, torch.cat((x, outlier), 1))
    )
    assert torch.equal(found.p_value, more.p_value)
