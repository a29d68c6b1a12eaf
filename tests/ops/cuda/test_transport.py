import pytest
import torch
from simt.cases import transport as cases

from metaniche.ops import radius_neighbors, transport
from metaniche.ops.cuda import transport as op

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_dense_sums(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    _, edges, _, (a, b, *_) = cases.problem(30, (2, 2), "cpu")
    results = []
    for seed in SEEDS:
        with simt(seed):
            results.append((*op.senders(op.turned(*edges), b, a, 0.1), op.receivers(edges, a, b, 0.1)))
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other))


def test_few_columns_leave_lanes_for_the_edges():
    layouts = [op.defines(width) for width in (0, 1, 5, 16, 40)]
    assert [(x["COLUMNS"], x["ENTRIES"]) for x in layouts] == [(1, 4), (1, 4), (8, 4), (16, 2), (32, 1)]


def tissue(sizes, pairs, seed=0):
    """Two samples on a lattice with co-located cells, cells without neighbours and without mass."""
    g = torch.Generator().manual_seed(seed)
    n, (ligands, receptors) = sum(sizes), (pairs.max(0).values + 2).tolist()
    pos, ptr = (torch.rand(n, 2, generator=g) * 10).round() * 10, torch.tensor([0, *sizes]).cumsum(0)
    graph = radius_neighbors(pos, ptr, 25.0)
    masses = [
        torch.rand(n, width, generator=g, dtype=torch.float64) * (torch.rand(n, width, generator=g) < 0.5)
        for width in (ligands, receptors)
    ]
    return (*masses, pairs, *graph), ptr


@pytest.mark.parametrize("pairs", [[[0, 0]], [[0, 0], [0, 1], [1, 1], [2, 2]]], ids=["one", "two groups"])
def test_the_public_op_agrees_with_the_cpu(simt, on_gpu, pairs):
    args, ptr = tissue((23, 0, 17), torch.tensor(pairs))
    settings = dict(sample_ptr=ptr, rho=0.3, tolerance=1e-7)
    with simt(1, seconds=300), on_gpu("transport"):
        found = transport(*args, **settings)
        amounts, plan = found.amounts(), found.plan(0)
    expected = transport(*args, **settings)
    assert found.converged_S.all()
    assert (found.marginal_error_S <= 1e-7).all()
    assert found.iterations_S.shape == (3,)
    for own, other in zip(amounts, expected.amounts()):
        assert (own - other).abs().max() <= 1e-5 * other.max()
    assert torch.allclose(plan, expected.plan(0), atol=1e-5)
    for own, other in ((found.log_u_NL, expected.log_u_NL), (found.log_v_NR, expected.log_v_NR)):
        assert torch.equal(own.isfinite(), other.isfinite())
