"""Sparse expression times weights against the dense product in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from metaniche.errors import GraphError
from metaniche.ops import csr_encoder
from metaniche.ops.backend import use_backend

BACKENDS = ("auto", "reference")


@pytest.fixture(autouse=True, scope="module")
def backend():
    """The tests here say themselves which implementation they ask."""


def make_expression(n, genes, density=0.2, seed=0, dtype=torch.float64):
    """CSR with an empty row and a full one, and the same matrix dense."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, genes, generator=g, dtype=torch.float64) * (torch.rand(n, genes, generator=g) < density)
    if n > 2:
        x[1] = 0
        x[2] = torch.randn(genes, generator=g, dtype=torch.float64)
    present = x != 0
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), present.sum(1).cumsum(0)))
    return (indptr, present.nonzero()[:, 1].int(), x[present].to(dtype)), x


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(0, 600),
    genes=st.integers(1, 300),
    width=st.sampled_from((1, 5, 63, 64, 65, 130)),
    seed=st.integers(0, 99),
)
def test_it_is_the_dense_product(backend, n, genes, width, seed):
    csr, x = make_expression(n, genes, seed=seed)
    weight = torch.randn(genes, width, dtype=torch.float64)
    with use_backend(backend):
        assert torch.allclose(csr_encoder(*csr, weight), x @ weight, atol=1e-10)


@pytest.mark.parametrize("genes", [4096, 5001])
def test_many_genes_are_several_panels_and_a_part(genes):
    """1024 genes of 64 float32 make a panel."""
    csr, x = make_expression(300, genes, density=0.02, dtype=torch.float32)
    weight = torch.randn(genes, 64, generator=torch.Generator().manual_seed(genes))
    out = csr_encoder(*csr, weight)
    assert torch.allclose(out.double(), x @ weight.double(), rtol=1e-4, atol=2e-3)  # a row is full


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_values_and_weights(backend):
    csr, _ = make_expression(7, 9)
    values, weight = csr[2].requires_grad_(), torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    with use_backend(backend):
        assert gradcheck(lambda v, w: csr_encoder(*csr[:2], v, w), (values, weight))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("genes", "width"), [(4096, 64), (5000, 70), (40, 64), (1, 1)])
def test_gradients_equal_those_of_the_dense_product(backend, genes, width):
    csr, x = make_expression(400, genes, density=0.05)
    values, weight = csr[2].requires_grad_(), torch.randn(genes, width, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(400, width, dtype=torch.float64)
    with use_backend(backend):
        ours = torch.autograd.grad((csr_encoder(*csr[:2], values, weight) * direction).sum(), (values, weight))
    assert torch.allclose(ours[1], x.t() @ direction, atol=1e-10)
    assert torch.allclose(ours[0], (direction @ weight.t())[x != 0], atol=1e-10)


def test_opcheck():
    csr, _ = make_expression(7, 9)
    values, weight = csr[2].requires_grad_(), torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.metaniche.csr_encoder.default, (*csr[:2], values, weight))
    grad = torch.randn(7, 5, dtype=torch.float64)
    plain = values.detach(), weight.detach()
    ops = torch.ops.metaniche
    torch.library.opcheck(ops.csr_encoder_weight_gradient.default, (*csr[:2], plain[0], grad, 9))
    torch.library.opcheck(ops.csr_encoder_values_gradient.default, (*csr[:2], plain[1], grad))


def test_threads_and_runs_change_no_bit():
    csr, _ = make_expression(900, 700, dtype=torch.float32)
    values, weight = csr[2].requires_grad_(), torch.randn(700, 100, requires_grad=True)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 2):
            torch.set_num_threads(n)
            out = csr_encoder(*csr[:2], values, weight)
            results.append((out, *torch.autograd.grad(out.square().sum(), (values, weight))))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_only_the_gradients_asked_for_are_computed():
    csr, _ = make_expression(7, 9)
    weight = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    csr_encoder(*csr, weight).sum().backward()
    assert weight.grad.abs().sum() > 0
    assert csr[2].grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_come_back_and_are_computed_in_float32(dtype):
    csr, _ = make_expression(20, 30, dtype=torch.float32)
    weight = torch.randn(30, 8).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        out = csr_encoder(*csr, weight)
    assert out.dtype == dtype
    assert torch.equal(out, csr_encoder(*csr, weight.float()).to(dtype))


def test_a_view_of_weights_is_read_right():
    csr, x = make_expression(20, 30)
    weight = torch.randn(8, 30, dtype=torch.float64).t()
    assert torch.allclose(csr_encoder(*csr, weight), x @ weight)


def test_no_cells_no_entries_and_no_columns():
    empty = torch.zeros(0, dtype=torch.int32), torch.zeros(0)
    for n, genes, width in ((0, 3, 2), (4, 3, 2), (4, 0, 2), (4, 3, 0)):
        weight = torch.randn(genes, width, requires_grad=True)
        out = csr_encoder(torch.zeros(n + 1, dtype=torch.int64), *empty, weight)
        assert out.shape == (n, width)
        assert (out == 0).all()
        assert (torch.autograd.grad(out.sum(), weight)[0] == 0).all()


CSR = make_expression(6, 8, density=0.5, dtype=torch.float32)[0]
WEIGHT = torch.zeros(8, 3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({1: CSR[1].long()}, "int32"),
        ({1: CSR[1] + 7}, "row 0"),
        ({1: CSR[1] - 1}, "genes of each row"),
        ({1: CSR[1].flip(0)}, "ascending"),
        ({2: CSR[2][:-1]}, "values"),
        ({2: CSR[2].int()}, "float types"),
        ({0: CSR[0] + 1}, "indptr"),
        ({3: WEIGHT[0]}, "weight_GD"),
        ({3: WEIGHT[:7]}, "weights of all genes"),
    ],
)
def test_refuses(backend, change, says):
    args = [change.get(k, x) for k, x in enumerate((*CSR, WEIGHT))]
    with use_backend(backend), pytest.raises(GraphError, match=says):
        csr_encoder(*args)


def test_it_is_scipys_product():
    sparse = pytest.importorskip("scipy.sparse")
    x = sparse.random_array((50, 40), density=0.2, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
    x.sort_indices()
    weight = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)
    csr = (torch.from_numpy(part) for part in (x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data))
    assert np.allclose(csr_encoder(*csr, torch.from_numpy(weight)), x @ weight, atol=1e-5)
