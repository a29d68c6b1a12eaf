import pytest
import torch
from simt.cases import segment as cases
from torch.autograd import gradcheck

from metaniche.ops import segment_max, segment_mean, segment_softmax, segment_sum
from metaniche.ops.cuda import segment as op
from metaniche.ops.reference import segment as reference

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
            results.append((op.segment_reduce(x, indptr, "sum"), op.segment_softmax(x, indptr)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


@pytest.mark.parametrize("kind", ["sum", "mean", "softmax"])
def test_gradients(simt, kind):
    x, indptr = cases.rows((2, 0, 3), (2,), "cpu", torch.float64)
    run = op.segment_softmax if kind == "softmax" else lambda x, indptr: op.segment_reduce(x, indptr, kind)
    with simt():
        assert gradcheck(lambda x: run(x, indptr), x.requires_grad_())


def test_nan_is_not_lost_in_a_maximum(simt):
    x = torch.tensor([1.0, torch.nan, 2.0, 3.0])
    with simt():
        found = op.segment_reduce(x, torch.tensor([0, 3, 4]), "max")
    assert found.isnan().tolist() == [True, False]


def test_long_rows_get_a_block_each():
    assert op.defines("sum", torch.float32, 4, 4000, 3)["WARPS"] == 8
    assert op.defines("sum", torch.float32, 400, 4000, 3)["WARPS"] == 1


def test_half_types_are_left_to_the_reference():
    assert "bfloat16" in op.unable(torch.zeros(1, dtype=torch.bfloat16))


@pytest.mark.parametrize("public", [segment_sum, segment_mean, segment_max, segment_softmax])
def test_the_public_ops_run_it(simt, on_gpu, public):
    x, indptr = cases.rows((3, 0, 5), (2, 2), "cpu", torch.float32)
    with simt(), on_gpu("segment"):
        found = public(x, indptr)
    assert torch.allclose(found, getattr(reference, public.__name__)(x, indptr), atol=1e-6)
