import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from metaniche.errors import GraphError
from metaniche.ops import use_backend
from metaniche.ops.edge_attention import edge_attention
from metaniche.ops.reference.dropout import factors


def problem(n, heads, width, degree, seed=0, dtype=torch.float64, grad=False):
    """Random graph with empty rows and one row of all cells, and its tensors."""
    g = torch.Generator().manual_seed(seed)
    near = torch.rand(n, n, generator=g) < degree / n
    near[0] = True
    near[n // 2] = False
    near.fill_diagonal_(False)
    indptr = torch.cat((torch.zeros(1, dtype=torch.int64), near.sum(1).cumsum(0)))
    indices = near.nonzero()[:, 1].to(torch.int32)
    q, k, v = (torch.randn(n, heads, width, generator=g, dtype=dtype, requires_grad=grad) for _ in range(3))
    bias = torch.randn(len(indices), heads, generator=g, dtype=dtype, requires_grad=grad)
    null = torch.randn(heads, generator=g, dtype=dtype, requires_grad=grad)
    return near, (q, k, v, indptr, indices, bias, null)


def oracle(near, q, k, v, indptr, indices, bias, null, dropout=0.0, seed=0):
    """Dense softmax in float64, and then dropout."""
    q, k, v, bias, null = (x.double() for x in (q, k, v, bias, null))
    logits = torch.einsum("nhd,mhd->hnm", q, k) / q.shape[-1] ** 0.5
    dense = torch.zeros(q.shape[1], *near.shape, dtype=torch.float64)
    dense[:, near] = bias.t()
    logits = (logits + dense).masked_fill(~near, -torch.inf)
    full = torch.cat((logits, null[:, None, None].expand(-1, len(near), 1)), dim=2)
    kept = torch.zeros_like(dense)
    kept[:, near] = factors(*bias.shape, dropout, seed).t()
    return torch.einsum("hnm,mhd->nhd", full.softmax(2)[:, :, :-1] * kept, v)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(1, 3), st.integers(1, 9), st.integers(0, 99))
def test_it_equals_a_dense_softmax_with_a_null_slot(n, heads, width, seed):
    near, args = problem(n, heads, width, degree=4, seed=seed, dtype=torch.float32)
    assert torch.allclose(edge_attention(*args).double(), oracle(near, *args), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 12, 16, 17, 32, 33, 63, 64, 65, 100, 144])
def test_heads_of_any_width(width, dtype):
    """Those that fill vectors, those with a rest, and those of several tiles; rows of more senders than a vector has lanes."""
    near, args = problem(70, 2, width, degree=6, dtype=dtype, grad=True)
    floats = [x for x in args if x.requires_grad]
    slope = torch.randn(args[0].shape, dtype=torch.float64)
    out, expected = edge_attention(*args), oracle(near, *args)
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 1e-10, "rtol": 1e-10}
    torch.testing.assert_close(out.double(), expected, **tolerance)
    ours = torch.autograd.grad((out * slope).sum(), floats)
    for own, other in zip(ours, torch.autograd.grad((expected * slope).sum(), floats), strict=True):
        torch.testing.assert_close(own, other, **tolerance)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_projections_that_lie_in_one_tensor_give_the_same_bits(backend):
    """Whose rows lie apart: one of three, the last of three, and one row for all cells."""
    _, (*qkv, indptr, indices, bias, null) = problem(20, 2, 4, degree=5, dtype=torch.float32)
    together = torch.stack(qkv, 1).requires_grad_()
    apart = [x.clone().requires_grad_() for x in qkv]
    grad = torch.randn(20, 2, 4, generator=torch.Generator().manual_seed(1))
    with use_backend(backend):
        one = edge_attention(*together.unbind(1), indptr, indices, bias, null)
        two = edge_attention(*apart, indptr, indices, bias, null)
        one.backward(grad)
        two.backward(grad)
        same_for_all = edge_attention(qkv[0][:1].expand(20, -1, -1), *qkv[1:], indptr, indices, bias, null)
        repeated = edge_attention(qkv[0][:1].repeat(20, 1, 1), *qkv[1:], indptr, indices, bias, null)
    assert torch.equal(one, two)
    assert torch.equal(together.grad, torch.stack([x.grad for x in apart], 1))
    assert torch.equal(same_for_all, repeated)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_of_everything(dropout):
    near, args = problem(7, 2, 3, degree=3, grad=True)
    indptr, indices = args[3:5]
    floats = (*args[:3], *args[5:])
    assert gradcheck(
        lambda q, k, v, b, z: edge_attention(q, k, v, indptr, indices, b, z, dropout=dropout, seed=3), floats
    )


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_it_and_its_gradients_equal_those_of_the_oracle(dropout):
    near, args = problem(30, 2, 4, degree=5, grad=True)
    weight = torch.randn(30, 2, 4, dtype=torch.float64)
    floats = [x for x in args if x.requires_grad]
    ours, theirs = edge_attention(*args, dropout=dropout, seed=5), oracle(near, *args, dropout, 5)
    assert torch.allclose(ours, theirs, atol=1e-12)
    for own, other in zip(*(torch.autograd.grad((out * weight).sum(), floats) for out in (ours, theirs))):
        assert torch.allclose(own, other, atol=1e-10)


def values_that_name_their_sender(n=60, heads=2, dtype=torch.float64):
    """Sender j's value is the j-th unit vector, so that an output holds a receiver's weights."""
    _, (q, k, _, *others) = problem(n, heads, n, degree=9, dtype=dtype)
    return (q, k, torch.eye(n, dtype=dtype)[:, None].repeat(1, heads, 1), *others)


def test_every_backend_drops_the_very_same_entries(backend):
    args = values_that_name_their_sender()
    dropped = edge_attention(*args, dropout=0.3, seed=2**63 - 1)
    with use_backend("reference"):
        assert torch.equal(dropped == 0, edge_attention(*args, dropout=0.3, seed=2**63 - 1) == 0)
    whole = edge_attention(*args)
    assert torch.allclose(dropped[dropped != 0], whole[dropped != 0] / 0.7)
    kept = (dropped != 0).sum() / (whole != 0).sum()
    assert 0.6 < kept < 0.8
    assert not torch.equal(dropped[:, 0] == 0, dropped[:, 1] == 0), "heads draw for themselves"


def test_the_mean_over_seeds_is_the_output_without_dropout():
    args = values_that_name_their_sender(20)
    draws = torch.stack([edge_attention(*args, dropout=0.5, seed=seed) for seed in range(400)])
    whole = edge_attention(*args)
    # Each weight is doubled or dropped, so its mean over n seeds has a standard deviation of weight / sqrt(n).
    error = (draws.mean(0) - whole)[whole > 0] / (whole[whole > 0] / 20)
    assert error.abs().max() < 5
    assert abs(float(error.square().mean()) - 1) < 0.2


@pytest.mark.parametrize("how", [{"dropout": 1.0}, {"dropout": -0.1}, {"dropout": 0.1, "seed": -1}, {"seed": 2**63}])
def test_a_dropout_or_seed_out_of_range_is_refused(how):
    _, args = problem(5, 1, 2, degree=2)
    with pytest.raises(ValueError, match="Expected"):
        edge_attention(*args, **how)


def test_a_row_without_senders_is_zero_and_large_logits_are_no_nan():
    near, (q, k, v, indptr, indices, bias, null) = problem(12, 2, 4, degree=3)
    out = edge_attention(q, k, v, indptr, indices, bias * 1e4, null)
    assert torch.isfinite(out).all()
    assert (out[6] == 0).all()


def test_the_null_slot_can_win():
    _, (q, k, v, indptr, indices, bias, null) = problem(12, 2, 4, degree=3)
    assert edge_attention(q, k, v, indptr, indices, bias, null + 1e4).abs().max() < 1e-9


def test_the_same_bits_every_time():
    _, args = problem(40, 2, 8, degree=6, dtype=torch.float32)
    assert torch.equal(edge_attention(*args), edge_attention(*args))


def test_tensors_that_do_not_fit_are_refused():
    _, (q, k, v, indptr, indices, bias, null) = problem(12, 2, 4, degree=3)
    for args, words in (
        ((q, k[:, :1], v, indptr, indices, bias, null), "q, k and v"),
        ((q, k, v, indptr, indices.long(), bias, null), "int32"),
        ((q, k, v, indptr, indices, bias[:-1], null), "bias_EH"),
        ((q, k, v, indptr, indices + 99, bias, null), "senders"),
    ):
        with pytest.raises(GraphError, match=words):
            edge_attention(*args)


def test_nothing_of_edges_by_width_is_kept_for_the_backward_pass():
    _, args = problem(30, 2, 16, degree=12, grad=True)
    edges, heads, sizes = len(args[4]), 2, []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        edge_attention(*args)
    assert sizes
    assert max(sizes) <= max(edges * heads, 30 * heads * 16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_come_back_and_are_computed_in_float32(dtype):
    near, args = problem(20, 2, 4, degree=4, dtype=torch.float32)
    half = [x.to(dtype) if x.is_floating_point() else x for x in args]
    out = edge_attention(*half)
    assert out.dtype == dtype
    assert torch.equal(out, edge_attention(*[x.float() if x.is_floating_point() else x for x in half]).to(dtype))


def test_autocast_does_not_touch_it():
    _, args = problem(20, 2, 4, degree=4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = edge_attention(*args)
    assert torch.equal(inside, edge_attention(*args))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("cells", "channels"), [(200, 8), (400, 5), (400, 64), (3, 8)])
def test_threads_change_no_bit(cells, channels, dropout):
    _, args = problem(cells, 2, channels, degree=20, dtype=torch.float32, grad=True)
    floats, threads, results = [x for x in args if x.requires_grad], torch.get_num_threads(), []
    try:
        for n in (1, 2, 5):  # of 3 cells, some threads have none
            torch.set_num_threads(n)
            out = edge_attention(*args, dropout=dropout, seed=1)
            results.append((out, *torch.autograd.grad(out.square().sum(), floats)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_a_graph_without_edges_or_cells_has_gradients_of_zero():
    for n in (0, 5):
        q, k, v = (torch.randn(n, 2, 3, requires_grad=True) for _ in range(3))
        bias, null = torch.zeros(0, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        out = edge_attention(
            q, k, v, torch.zeros(n + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), bias, null
        )
        assert out.shape == (n, 2, 3)
        assert (out == 0).all()
        for grad in torch.autograd.grad(out.sum(), (q, k, v, bias, null)):
            assert (grad == 0).all()


def test_only_the_gradients_asked_for_are_needed():
    _, (q, k, v, indptr, indices, bias, null) = problem(12, 2, 4, degree=3)
    v = v.requires_grad_()
    edge_attention(q, k, v, indptr, indices, bias, null).sum().backward()
    assert v.grad.abs().sum() > 0
    assert q.grad is None


def test_registered_as_a_torch_op():
    torch.manual_seed(0)
    q, k, v = (torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    indptr, indices = torch.tensor([0, 2, 2, 3, 5]), torch.tensor([1, 2, 0, 1, 3], dtype=torch.int32)
    bias = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    null = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    tensors = q, k, v, indptr, indices, bias, null
    for dropout in (0.0, 0.5):
        torch.library.opcheck(torch.ops.metaniche.edge_attention.default, (*tensors, dropout, 7))


@pytest.mark.filterwarnings("ignore")  # torch.compile speaks of its own
def test_torch_compile_takes_a_new_seed_at_every_step(backend):
    if backend == "reference":
        pytest.skip("torch.compile cannot follow segment_reduce")
    _, args = problem(6, 1, 2, degree=3, grad=True)
    compiled = torch.compile(edge_attention, backend="aot_eager")
    for seed in (3, 2**40):
        found, expected = (op(*args, dropout=0.4, seed=seed) for op in (compiled, edge_attention))
        assert torch.equal(found, expected)
        assert all(map(torch.equal, *(torch.autograd.grad(x.sum(), args[:3]) for x in (found, expected))))


def test_a_graph_and_tensors_that_do_not_lie_together():
    _, args = problem(20, 2, 8, degree=4, dtype=torch.float32, grad=True)
    apart = [torch.stack((x, x), -1)[..., 0] for x in args]
    assert not any(x.is_contiguous() for x in apart)
    floats = [x for x in args if x.requires_grad]
    found, expected = edge_attention(*apart), edge_attention(*args)
    torch.testing.assert_close(found, expected)
    for own, other in zip(*(torch.autograd.grad(out.sum(), floats) for out in (found, expected)), strict=True):
        torch.testing.assert_close(own, other)
