import pytest
import torch
from simt.cases import autocorrelation as cases

from metaniche.errors import GraphError
from metaniche.ops import bivariate_moran, geary, moran
from metaniche.ops.cuda import autocorrelation as op

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_dense_matrices_in_float64(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_parts_of_the_rows_and_pairs_do_not_change_the_sums(simt, monkeypatch):
    monkeypatch.setattr(op, "ROWS_OF_LAG", 32)
    monkeypatch.setattr(op, "NUMBERS_OF_LAG", 1)
    monkeypatch.setattr(op, "MOST_PAIRS", 7)
    with simt(1):
        cases.pairs_of_genes("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    (x,), graph = cases.cells(90, (35,), "cpu", torch.float32)
    degree, pairs, results = torch.ones(90, dtype=torch.float64), torch.tensor([[0, 1], [34, 7]]), []
    for seed in SEEDS:
        with simt(seed):
            results.append((op.spatial_sums(x, *graph, degree), *op.bivariate_sums(x, x, pairs, *graph)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


def test_many_genes_share_the_weights_they_read():
    assert op.defines(3, torch.float32)["COLUMNS"] == 4
    assert op.defines(127, torch.float32)["WIDE"] == 1
    assert op.defines(128, torch.float32)["WIDE"] == 4


def graph():
    """Two cells apart, without self edges."""
    n = 50
    indptr = torch.arange(n + 1) * 2
    indices = torch.stack(((torch.arange(n) + 1) % n, (torch.arange(n) + 7) % n), 1).sort(1).values.flatten().int()
    return indptr, indices, torch.rand(2 * n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_public_ops_run_it(simt, on_gpu):
    (x, y), _ = cases.cells(50, (3, 4), "cpu")
    pairs = torch.tensor([[0, 1], [2, 3]])
    calls = [lambda: moran(x, *graph()), lambda: geary(x, *graph()), lambda: bivariate_moran(x, y, pairs, *graph())]
    for call in calls:
        with simt(), on_gpu("autocorrelation"):
            found = call()
        for a, b in zip(found, call()):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_self_edges_are_refused(simt, on_gpu):
    (x,), with_loop = cases.cells(50, (3,), "cpu")
    with simt(), on_gpu("autocorrelation"), pytest.raises(GraphError, match="found 1 that are"):
        moran(x, *with_loop)
