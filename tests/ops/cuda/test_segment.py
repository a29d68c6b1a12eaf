import pytest
import torch
from simt.cases import segment as cases
from torch.autograd import gradcheck

from metaniche.ops import segment_max, segment_mean, segment_softmax, segment_sum
from metaniche.ops.cuda import segment as op

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_loops_in_float64(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    x, indptr = cases.rows((400, 0, 200), (3,), "cpu", torch.float32)
    results = []
    for seed in SEEDS:
        with simt(seed):
            results.append((op.segment_sum(x, indptr), op.segment_softmax(x, indptr)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


def test_long_rows_get_a_block_each():
    assert op.defines("sum", torch.float32, 4, 4000, 3)["WARPS"] == 8
    assert op.defines("sum", torch.float32, 400, 4000, 3)["WARPS"] == 1


@pytest.mark.parametrize("public", [segment_sum, segment_mean, segment_max, segment_softmax])
def test_the_public_ops_run_it_and_differentiate(simt, on_gpu, public):
    x, indptr = cases.rows((3, 0, 5), (2, 2), "cpu", torch.float64)
    with simt(), on_gpu("segment"):
        found = public(x, indptr)
        assert gradcheck(lambda x: public(x, indptr), x.requires_grad_())
        apart = torch.stack((indptr, indptr), 1)[:, 0]
        assert torch.equal(public(x, apart), found)
    assert torch.allclose(found, public(x, indptr), atol=1e-12)
