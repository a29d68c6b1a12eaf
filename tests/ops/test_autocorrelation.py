"""Statistics against their textbook sums, moments against every permutation there is."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaniche.errors import GraphError
from metaniche.ops import bivariate_moran, geary, moran
from metaniche.ops.backend import use_backend

BACKENDS = ("auto", "reference")


@pytest.fixture(autouse=True, scope="module")
def backend():
    """The tests here say themselves which implementation they ask."""


def make_graph(n, seed=0, density=0.4, loops=False):
    """Asymmetric weights, a row and a column without edges; dense and as CSR."""
    rng = np.random.default_rng(seed)
    w = rng.random((n, n)) * (rng.random((n, n)) < density)
    w[0, 1] = 0.7
    if n > 4:
        w[2] = 0
        w[:, 3] = 0
    if not loops:
        np.fill_diagonal(w, 0)
    rows, cols = np.nonzero(w)
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n))))
    return w, (torch.from_numpy(indptr), torch.from_numpy(cols.astype(np.int32)), torch.from_numpy(w[rows, cols]))


def make_values(n, genes, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.exponential(1, (n, genes)) + 5).to(dtype)


def moran_of(x, w):
    z = x - x.mean()
    return len(x) / w.sum() * (w * np.outer(z, z)).sum() / (z**2).sum()


def geary_of(x, w):
    z = x - x.mean()
    return (len(x) - 1) / (2 * w.sum()) * (w * (x[:, None] - x) ** 2).sum() / (z**2).sum()


def bivariate_of(x, y, w):
    x, y = x - x.mean(), y - y.mean()
    return len(x) / w.sum() * (y @ w @ x) / np.sqrt((x**2).sum() * (y**2).sum())


STATISTICS = [(moran, moran_of), (geary, geary_of)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("op", "plain"), STATISTICS)
@settings(max_examples=15, deadline=None)
@given(n=st.integers(4, 150), genes=st.sampled_from((1, 3, 64, 65, 130)), seed=st.integers(0, 99))
def test_it_is_the_textbook_sum(backend, op, plain, n, genes, seed):
    w, graph = make_graph(n, seed)
    x = make_values(n, genes, seed)
    with use_backend(backend):
        found = op(x, *graph)
    expected = [plain(column, w) for column in x.T.numpy()]
    assert np.allclose(found.statistic, expected, atol=1e-12)
    assert all(part.shape == (genes,) and part.dtype == torch.float64 for part in found)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("op", "plain"), STATISTICS)
@pytest.mark.parametrize("n", [4, 5, 6, 7])
def test_moments_are_those_of_all_permutations(backend, op, plain, n):
    w, graph = make_graph(n, seed=n)
    x = make_values(n, 2, seed=n)
    with use_backend(backend):
        found = op(x, *graph)
    for gene in range(2):
        values = x[:, gene].numpy()
        every = np.array([plain(values[list(order)], w) for order in permutations(range(n))])
        assert np.isclose(found.expected[gene], every.mean(), atol=1e-12)
        assert np.isclose(found.variance[gene], every.var(), rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("n", [2, 5, 6])
def test_bivariate_moments_are_those_of_all_permutations_of_one_side(backend, loops, n):
    w, graph = make_graph(n, seed=n, loops=loops)
    x, y = make_values(n, 2, seed=1), make_values(n, 2, seed=2)
    pairs = torch.tensor([[0, 1], [1, 0]])
    with use_backend(backend):
        found = bivariate_moran(x, y, pairs, *graph)
    for p, (a, b) in enumerate(pairs.tolist()):
        own, other = x[:, a].numpy(), y[:, b].numpy()
        assert np.isclose(found.statistic[p], bivariate_of(own, other, w))
        every = np.array([bivariate_of(own, other[list(order)], w) for order in permutations(range(n))])
        assert np.isclose(every.mean(), 0, atol=1e-12)
        assert np.isclose(found.variance[p], every.var(), rtol=1e-10)
        assert found.expected[p] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_bivariate_of_many_columns_is_the_textbook_sum(backend):
    w, graph = make_graph(90, 3, loops=True)
    x, y = make_values(90, 70, 4), make_values(90, 5, 5)
    pairs = torch.tensor([[69, 0], [0, 4], [0, 4], [64, 2]])
    with use_backend(backend):
        found = bivariate_moran(x, y, pairs, *graph)
    assert np.allclose(found.statistic, [bivariate_of(x[:, a].numpy(), y[:, b].numpy(), w) for a, b in pairs])


def test_scores_are_those_of_a_normal():
    _, graph = make_graph(40)
    found = moran(make_values(40, 3), *graph)
    assert torch.allclose(found.z, (found.statistic - found.expected) / found.variance.sqrt())
    normal = torch.distributions.Normal(0.0, 1.0)
    assert torch.allclose(found.p, 2 * (1 - normal.cdf(found.z.abs())), atol=1e-6)


def test_p_is_uniform_when_cells_are_shuffled():
    _, graph = make_graph(60, density=0.1)
    x = torch.randn(60, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for found in (
        moran(x, *graph),
        geary(x, *graph),
        bivariate_moran(x, x.flip(1), torch.arange(2000).repeat(2, 1).T.contiguous(), *graph),
    ):
        assert abs(float((found.p < 0.05).double().mean()) - 0.05) < 0.02


def test_float32_is_close_to_float64_even_far_from_zero():
    _, graph = make_graph(300, density=0.05)
    x = make_values(300, 70) + 1000
    for op in (moran, geary):
        wide, narrow = op(x.float().double(), *graph), op(x.float(), *graph)
        assert torch.allclose(narrow.statistic, wide.statistic, atol=1e-5)
        assert torch.allclose(narrow.z, wide.z, atol=1e-3)


def test_a_gradient_is_correlated_and_a_chessboard_is_anti_correlated():
    side = torch.arange(8.0, dtype=torch.float64)
    pos = torch.cartesian_prod(side, side)
    near = torch.cdist(pos, pos, p=1) == 1
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    graph = indptr, near.nonzero()[:, 1].int(), torch.ones(int(near.sum()), dtype=torch.float64)
    x = torch.stack((pos[:, 0], pos.sum(1) % 2), 1)
    i, c = moran(x, *graph), geary(x, *graph)
    assert i.statistic[0] > 0.8
    assert torch.isclose(i.statistic[1], torch.tensor(-1.0, dtype=torch.float64))
    assert c.statistic[0] < 0.2
    assert c.statistic[1] > 1.9
    assert (i.p < 1e-9).all()


def test_threads_and_runs_change_no_bit():
    _, graph = make_graph(500, density=0.03)
    x, pairs = make_values(500, 130, dtype=torch.float32), torch.tensor([[0, 1], [129, 7]])
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 2):
            torch.set_num_threads(n)
            results.append((*moran(x, *graph), *geary(x, *graph), *bivariate_moran(x, x, pairs, *graph)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_has_no_statistic_is_nan(backend):
    _, graph = make_graph(6)
    flat = torch.full((6, 2), 0.1, dtype=torch.float64)  # whose mean in float64 is not 0.1
    varying = make_values(6, 1).double()
    small = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2)
    with use_backend(backend):
        for op in (moran, geary):
            for part in ("statistic", "variance", "z", "p"):
                assert getattr(op(flat, *graph), part).isnan().all(), part
            three = op(make_values(3, 1), *small)
            assert three.statistic.isfinite().all()
            assert three.variance.isnan().all()
            assert three.p.isnan().all()
            assert op(make_values(6, 0), *graph).z.shape == (0,)
        for x, y in ((flat, flat), (flat, varying), (varying, flat)):
            found = bivariate_moran(x, y, torch.tensor([[0, 0]]), *graph)
            assert found.statistic.isnan().all()
            assert found.z.isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_no_permutation_changes_has_p_1(backend, dtype):
    """Every cell the neighbour of every other (bivariate: also its own); variances are what rounding left."""
    x = make_values(12, 5, dtype=dtype)
    all_of_them = torch.ones(12, 12, dtype=torch.bool)
    with use_backend(backend):
        found = []
        for near in (all_of_them ^ torch.eye(12, dtype=torch.bool), all_of_them):
            ptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
            graph = ptr, near.nonzero()[:, 1].int(), torch.full((int(near.sum()),), 0.1)
            loops = near is all_of_them
            found += [bivariate_moran(x, x, PAIRS, *graph)] if loops else [moran(x, *graph), geary(x, *graph)]
    for null in found:
        assert (null.variance == 0).all()
        assert null.z.isnan().all()
        assert (null.p == 1).all()
        assert null.statistic.isfinite().all()


def test_p_is_never_0():
    n = 3000
    ring = torch.arange(n + 1) * 2, torch.tensor([[(i - 1) % n, (i + 1) % n] for i in range(n)]).int().flatten()
    wave = torch.sin(torch.arange(n, dtype=torch.float64) * (2 * torch.pi / n))[:, None]
    graph = *ring, torch.ones(2 * n)
    for found in (moran(wave, *graph), geary(wave, *graph), bivariate_moran(wave, wave, PAIRS * 0, *graph)):
        assert found.z.abs() > 40
        assert 0 < found.p < 1e-300


def test_repeated_edges_add_up():
    x = make_values(6, 3)
    one = torch.tensor([0, 1, 2, 3, 4, 4, 4]), torch.tensor([1, 2, 3, 0]).int(), torch.full((4,), 2.0)
    two = one[0] * 2, torch.tensor([1, 1, 2, 2, 3, 3, 0, 0]).int(), torch.ones(8)
    for op in (moran, geary):
        for a, b in zip(op(x, *one), op(x, *two)):
            assert torch.allclose(a, b)


def test_the_callers_graph_is_left_alone():
    graph = torch.tensor([0, 2, 3, 3, 3]), torch.tensor([2, 1, 0]).int(), torch.tensor([1.0, 2.0, 3.0])
    before = [part.clone() for part in graph]
    moran(make_values(4, 1), *graph)
    assert all(torch.equal(a, b) for a, b in zip(graph, before))


_, GRAPH = make_graph(6)
X = make_values(6, 2)
LOOPS = make_graph(6, loops=True, density=1.0)[1]
CANCELS = torch.tensor([0, 1, 2, 3, 3]), torch.full((3,), 3).int(), torch.tensor([0.1, 0.2, -0.3], dtype=torch.float64)
PAIRS = torch.tensor([[0, 1]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: moran(X.long(), *GRAPH), "float32 or float64"),
        (lambda: moran(X * torch.nan, *GRAPH), "finite"),
        (lambda: geary(X[:5], *GRAPH), "indptr"),
        (lambda: moran(X, GRAPH[0], GRAPH[1].long(), GRAPH[2]), "int32"),
        (lambda: moran(X, GRAPH[0], GRAPH[1] + 3, GRAPH[2]), "senders in"),
        (lambda: moran(X, GRAPH[0], GRAPH[1], GRAPH[2][:-1]), "weight_E"),
        (lambda: moran(X, GRAPH[0], GRAPH[1], GRAPH[2] * torch.inf), "weight_E"),
        (lambda: moran(X, GRAPH[0], GRAPH[1], GRAPH[2] * 0), "sum to 0"),
        (lambda: moran(X[:4], *CANCELS), "sum to 0"),
        (lambda: moran(X, *LOOPS), "self edges"),
        (lambda: geary(X, *LOOPS), "self edges"),
        (lambda: bivariate_moran(X, X.float(), PAIRS, *GRAPH), "one dtype"),
        (lambda: bivariate_moran(X, X[:5], PAIRS, *GRAPH), "same cells"),
        (lambda: bivariate_moran(X, X, PAIRS.int(), *GRAPH), "int64"),
        (lambda: bivariate_moran(X, X, PAIRS + 1, *GRAPH), "columns"),
        (lambda: bivariate_moran(X, X, PAIRS - 1, *GRAPH), "columns"),
    ],
)
def test_refuses(call, says):
    with pytest.raises(GraphError, match=says):
        call()
