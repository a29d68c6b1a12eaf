import pytest
import torch
from simt.cases import csr_encoder as cases
from torch.autograd import gradcheck

from metaniche.ops import csr_encoder
from metaniche.ops.cuda import csr_encoder as op
from metaniche.ops.reference import by_sender

SEEDS = (0, 1, 2)
PIECES = cases.a_gene_of_several_pieces


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_the_dense_product(simt, case):
    for seed in SEEDS[:1] if case is PIECES else SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    _, (indptr, indices, values), weight, grad = cases.problem(40, 30, 5, torch.float32, "cpu")
    results = []
    for seed in SEEDS:
        with simt(seed):
            results.append(
                (
                    op.csr_encoder(indptr, indices, values, weight),
                    op.weight_gradient(indptr, indices, values, grad, 30),
                    op.values_gradient(indptr, indices, weight, grad),
                )
            )
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


def test_lanes_are_shared_out_by_the_width():
    layouts = {w: op.defines(w, torch.float32) for w in (0, 1, 5, 32, 33, 97, 1000)}
    assert {w: (x["COLUMNS"], x["ENTRIES"], x["PIECES"]) for w, x in layouts.items()} == {
        0: (1, 32, 1),
        1: (1, 32, 1),
        5: (8, 4, 1),
        32: (32, 1, 1),
        33: (32, 1, 2),
        97: (32, 1, 4),
        1000: (32, 1, 4),
    }


def test_the_public_op_runs_it_and_differentiates(simt, on_gpu):
    x, (indptr, indices, values), weight, _ = cases.problem(6, 5, 3, torch.float64, "cpu")
    with simt(), on_gpu("csr_encoder"):
        assert torch.allclose(csr_encoder(indptr, indices, values, weight), x @ weight)
        assert gradcheck(
            lambda v, w: csr_encoder(indptr, indices, v, w), (values.requires_grad_(), weight.requires_grad_())
        )


def test_the_matrix_is_turned_once_for_all_steps(simt, on_gpu, monkeypatch):
    _, (indptr, indices, values), weight, _ = cases.problem(6, 5, 3, torch.float32, "cpu")
    found, sorts, sort = [], [], torch.sort
    monkeypatch.setattr(by_sender.torch, "sort", lambda *x, **how: sorts.append(1) or sort(*x, **how))
    with simt(), on_gpu("csr_encoder"), on_gpu("by_sender"):
        for _ in range(2):
            out = csr_encoder(indptr, indices, values, weight.requires_grad_())
            found.append(torch.autograd.grad(out.sum(), weight)[0])
    assert torch.equal(*found)
    assert sorts == [1]
