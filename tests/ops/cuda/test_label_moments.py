import pytest
import torch
from simt.cases import label_null as cases

from metaniche.ops import cluster_means_null
from metaniche.ops.cuda import label_moments as op
from metaniche.ops.expression import Expression

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("case", cases.MOMENTS, ids=lambda c: c.__name__)
def test_it_equals_dense_sums_in_float64(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    x, types, lig, rec = cases.problem(300, 5, 4, 12)
    results = []
    for seed in SEEDS:
        with simt(seed):
            results.append(op.raw_moments(Expression.of(x, "x"), types, 4, lig, rec))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_the_public_op_runs_it(simt, on_gpu, layout):
    x, types, lig, rec = cases.problem(60, 6, 4, 9)
    x = x if layout == "dense" else x.to_sparse_csr()
    with simt(), on_gpu("label_null"):
        found = cluster_means_null(x, types, 4, lig, rec)
    for a, b in zip(found, cluster_means_null(x, types, 4, lig, rec)):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, equal_nan=True)
