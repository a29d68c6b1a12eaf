import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from metaniche.errors import GraphError
from metaniche.ops.pair_logits import pair_logits


def problem(n=9, ligands=3, receptors=4, pairs=7, heads=2, seed=0, dtype=torch.float64, grad=False):
    """Random graph with an empty row and a full one, half-empty expression and repeated pairs."""
    g = torch.Generator().manual_seed(seed)
    near = torch.rand(n, n, generator=g) < 3 / n
    near[0] = True
    near[n // 2] = False
    near.fill_diagonal_(False)
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    indices = near.nonzero()[:, 1].to(torch.int32)
    left, right = (
        torch.randn(n, genes, generator=g, dtype=dtype) * (torch.rand(n, genes, generator=g) < 0.5)
        for genes in (ligands, receptors)
    )
    weight = torch.randn(heads, pairs, generator=g, dtype=dtype)
    lig = torch.randint(ligands, (pairs,), generator=g, dtype=torch.int32)
    rec = torch.randint(receptors, (pairs,), generator=g, dtype=torch.int32)
    floats = [x.requires_grad_(grad) for x in (left, right, weight)]
    return *floats, lig, rec, indptr, indices


def oracle(left, right, weight, lig, rec, indptr, indices):
    """Every edge by every pair in float64."""
    receivers = torch.arange(len(indptr) - 1).repeat_interleave(indptr.diff())
    product = left.double()[indices.long()][:, lig.long()] * right.double()[receivers][:, rec.long()]
    return product @ weight.double().t()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.integers(1, 5), st.integers(0, 9), st.integers(1, 9), st.integers(0, 99))
def test_it_equals_a_sum_over_every_pair(n, genes, pairs, heads, seed):
    args = problem(n, genes, genes + 1, pairs, heads, seed, dtype=torch.float32)
    torch.testing.assert_close(pair_logits(*args).double(), oracle(*args), atol=1e-5, rtol=1e-5)


def test_gradients_of_everything():
    *floats, lig, rec, indptr, indices = problem(grad=True)
    assert gradcheck(lambda x, y, w: pair_logits(x, y, w, lig, rec, indptr, indices), floats)


@pytest.mark.parametrize("heads", [1, 3, 4])
def test_gradients_equal_those_of_the_oracle(heads):
    args = problem(30, 6, 5, 20, heads, grad=True)
    slope = torch.randn(len(args[-1]), heads, dtype=torch.float64)
    theirs = torch.autograd.grad((oracle(*args) * slope).sum(), args[:3])
    ours = torch.autograd.grad((pair_logits(*args) * slope).sum(), args[:3])
    for own, other in zip(ours, theirs):
        torch.testing.assert_close(own, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize(("genes", "heads"), [(1, 1), (15, 2), (16, 3), (64, 2), (65, 4), (150, 5)])
def test_any_number_of_genes_and_any_share_of_zeros(genes, heads, share):
    """Few numbers among zeros are read one by one, others by vectors."""
    *floats, lig, rec, indptr, indices = problem(60, genes, genes + 3, 2 * genes, heads, dtype=torch.float32)
    kept = torch.Generator().manual_seed(1)
    left, right = (
        (1 + torch.rand(x.shape, generator=kept)) * (torch.rand(x.shape, generator=kept) < share) for x in floats[:2]
    )
    sides = [x.requires_grad_() for x in (left, right, floats[2])]
    args = *sides, lig, rec, indptr, indices
    slope = torch.randn(len(indices), heads, dtype=torch.float64)
    out, expected = pair_logits(*args), oracle(*args)
    torch.testing.assert_close(out.double(), expected, atol=1e-3, rtol=1e-4)
    theirs = torch.autograd.grad((expected * slope).sum(), sides)
    for own, other in zip(torch.autograd.grad((out * slope).sum(), sides), theirs, strict=True):
        torch.testing.assert_close(own, other, atol=1e-3, rtol=1e-4)


def test_sparse_expression_gives_the_same_and_gradients_at_its_entries():
    left, right, weight, *rest = problem(30, 6, 5, 20, 4, grad=True)
    expected = torch.autograd.grad(pair_logits(left, right, weight, *rest).square().sum(), (left, right, weight))
    values = [x.detach().to_sparse_csr().values().clone().requires_grad_() for x in (left, right)]
    ends = [(x.crow_indices(), x.col_indices(), x.shape) for x in (y.detach().to_sparse_csr() for y in (left, right))]
    sparse = [
        torch.sparse_csr_tensor(ptr, columns, v, shape, check_invariants=False)
        for v, (ptr, columns, shape) in zip(values, ends)
    ]
    out = pair_logits(*sparse, weight, *rest)
    found = torch.autograd.grad(out.square().sum(), (*values, weight))
    torch.testing.assert_close(out, pair_logits(left, right, weight, *rest))
    for own, other, dense in zip(found[:2], expected, (left, right)):
        torch.testing.assert_close(own, other[dense != 0])
    torch.testing.assert_close(found[2], expected[2])


def test_only_the_gradients_asked_for_are_computed():
    left, right, weight, *rest = problem()
    weight.requires_grad_()
    pair_logits(left, right, weight, *rest).sum().backward()
    assert weight.grad.abs().sum() > 0
    assert left.grad is None
    assert right.grad is None


@pytest.mark.parametrize("sparse", [False, True])
def test_the_operator_keeps_torchs_rules(sparse):
    left, right, weight, lig, rec, indptr, indices = problem(grad=True)
    sides = [left, None, None, left.shape[1], right, None, None, right.shape[1]]
    if sparse:
        x = left.detach().to_sparse_csr()
        sides[:3] = x.values().clone().requires_grad_(), x.crow_indices(), x.col_indices().to(torch.int32)
    torch.library.opcheck(torch.ops.metaniche.pair_logits.default, (*sides, weight, lig, rec, indptr, indices))


def test_threads_change_no_bit():
    n = 9000
    g = torch.Generator().manual_seed(0)
    left, right, weight = (torch.rand(*shape, generator=g, requires_grad=True) for shape in ((n, 4), (n, 5), (3, 8)))
    lig, rec = (torch.randint(4, (8,), generator=g, dtype=torch.int32) for _ in range(2))
    indices = ((torch.arange(n)[:, None] + torch.arange(1, 4)) % n).sort(dim=1).values.flatten().to(torch.int32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out = pair_logits(left, right, weight, lig, rec, torch.arange(n + 1) * 3, indices)
            results.append((out, *torch.autograd.grad(out.square().sum(), (left, right, weight))))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))
    truth = oracle(left, right, weight, lig, rec, torch.arange(n + 1) * 3, indices)
    for own, other in zip(results[0][1:], torch.autograd.grad(truth.square().sum(), (left, right, weight))):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-3)


def test_nothing_of_edges_by_pairs_is_kept_for_the_backward_pass():
    args, sizes = problem(30, 5, 5, 400, 2, grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        pair_logits(*args)
    assert max(sizes) <= max(args[2].numel(), 30 * 5, len(args[-1]) * 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype):
    floats = [x.to(dtype) for x in problem(dtype=torch.float32)[:3]]
    rest = problem()[3:]
    out = pair_logits(*floats, *rest)
    assert out.dtype == dtype
    assert torch.equal(out, pair_logits(*[x.float() for x in floats], *rest).to(dtype))


def test_a_graph_without_edges_has_gradients_of_zero():
    left, right, weight, lig, rec, indptr, indices = problem(grad=True)
    out = pair_logits(left, right, weight, lig, rec, torch.zeros_like(indptr), indices[:0])
    assert out.shape == (0, 2)
    for grad in torch.autograd.grad(out.sum(), (left, right, weight)):
        assert (grad == 0).all()


def test_tensors_that_do_not_fit_are_refused():
    left, right, weight, lig, rec, indptr, indices = problem()
    for args, words in (
        ((left[:-1], right, weight, lig, rec, indptr, indices), "same cells"),
        ((left, right, weight[:, :-1], lig, rec, indptr, indices), "weight_HP"),
        ((left, right, weight, lig + 3, rec, indptr, indices), "lig_P"),
        ((left, right, weight, lig, rec.long(), indptr, indices), "rec_P"),
        ((left, right, weight, lig, rec, indptr, indices - 1), "senders"),
    ):
        with pytest.raises(GraphError, match=words):
            pair_logits(*args)
