from importlib import import_module

import pytest
import torch
from simt.cases import ligrec
from simt.cases import pair_logits as cases
from torch.autograd import gradcheck

from metaniche.ops.cuda import pair_logits as op

SEEDS = (0, 1, 2)
public = import_module("metaniche.ops.pair_logits")


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_every_edge_by_every_pair(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    _, given, slope = cases.problem(3)
    results = []
    for seed in SEEDS:
        with simt(seed):
            results.append((op.forward(*given), *op.backward(slope, *given, [True] * 3)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


def test_the_public_op_runs_it_and_differentiates(simt, on_gpu):
    (left, right, weight, _), (*_, lig, rec, indptr, indices), _ = cases.problem(2, 4, 6, density=0.6)
    indptr, indices = torch.tensor([0, 2, 2, *[3] * (len(ligrec.ROWS) - 2)]), indices[-3:].clone()
    floats = [x.requires_grad_() for x in (left, right, weight)]

    def run(*floats):
        return public.pair_logits(*floats, lig, rec, indptr, indices)

    with simt(), on_gpu("pair_logits"):
        found = run(*floats)
        assert gradcheck(run, floats)
    torch.testing.assert_close(found, run(*floats))


def test_without_heads_nothing_has_a_gradient(simt, on_gpu):
    (left, right, weight, _), (*_, lig, rec, indptr, indices), _ = cases.problem(2, 4, 6, density=0.6)
    floats = [x.requires_grad_() for x in (left, right, weight[:0])]
    with simt(), on_gpu("pair_logits"):
        out = public.pair_logits(*floats, lig, rec, indptr, indices)
        assert out.shape == (indices.numel(), 0)
        assert all((x == 0).all() for x in torch.autograd.grad(out.sum(), floats[:2]))


def test_heads_share_memory_as_far_as_it_goes():
    assert op.columns_for(4, 704, 704, 4) == 4
    assert op.columns_for(32, 704, 704, 4) == op.MOST_COLUMNS
    assert op.columns_for(8, 2000, 2000, 4) == 4
    assert op.columns_for(8, 9000, 9000, 4) == 0
    assert op.unable(30_000, 30_000, 2000, 8, 4) is None
    assert "ligands" in op.unable(9000, 9000, 20_000, 8, 4)
