import pytest
import torch
from simt.cases import edge_attention as cases

from metaniche.errors import KernelError
from metaniche.ops.backend import use_backend
from metaniche.ops.cuda import edge_attention as op
from metaniche.ops.edge_attention import edge_attention as public

SEEDS = (0, 1, 2)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_a_dense_softmax(simt, case):
    for seed in SEEDS:
        with simt(seed):
            case("cpu")


def test_every_order_of_threads_gives_the_same_bits(simt):
    grad, tensors = cases.problem(cases.random_graph(13), 2, 8, torch.float32, "cpu")
    results = []
    for seed in SEEDS:
        with simt(seed):
            out, lse = op.forward(*tensors)
            results.append((out, lse, *op.backward(grad, *tensors, out, lse)))
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))


@pytest.mark.parametrize(
    ("heads", "width", "dtype", "expected"),
    [
        (4, 64, torch.bfloat16, (8, 8, 4)),  # one head is 8 lanes of 16 bytes
        (4, 16, torch.float32, (4, 4, 4)),  # two rows a warp
        (3, 12, torch.float32, (4, 4, 4)),  # a slot and a lane stand idle
        (1, 5, torch.float32, (1, 8, 1)),  # an odd width is read one by one
        (32, 1, torch.bfloat16, (1, 1, 32)),
    ],
)
def test_layout_of_the_lanes(heads, width, dtype, expected):
    how = op.defines(heads, width, dtype)
    assert (how["VEC"], how["GROUP"], how["SLOTS"]) == expected


@pytest.mark.parametrize(
    ("shape", "dtype", "says"),
    [
        ((2, 33, 4), torch.float32, "33 heads"),
        ((2, 2, 0), torch.float32, "0 channels"),
        ((2, 16, 128), torch.float32, "registers"),
        ((2, 2, 4), torch.float64, "float64"),
    ],
)
def test_says_what_it_cannot_run(shape, dtype, says):
    assert says in op.unable(torch.zeros(shape, dtype=dtype))


def test_a_view_that_starts_anywhere_is_copied(simt):
    _, (q, *others) = cases.problem(cases.random_graph(7), 2, 8, torch.float32, "cpu")
    moved = torch.cat((torch.zeros(1), q.flatten()))[1:].view_as(q)
    with simt():
        assert torch.equal(op.forward(moved, *others)[0], op.forward(q, *others)[0])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_public_op_runs_it_and_trains_through_it(simt, on_gpu, dropout):
    near = cases.random_graph(11)
    grad, (q, k, v, indptr, indices, bias, null) = cases.problem(near, 2, 8, torch.bfloat16, "cpu")
    floats = [x.requires_grad_() for x in (q, k, v, bias, null)]
    with simt(), on_gpu("edge_attention"):
        out = public(q, k, v, indptr, indices, bias, null, dropout=dropout, seed=4)
        found = torch.autograd.grad(out, floats, grad)
    assert [x.dtype for x in (out, *found)] == [torch.bfloat16] * 4 + [torch.float32] * 2
    expected = cases.oracle(
        near, grad, *(x.detach() for x in (q, k, v)), indptr, indices, bias.detach(), null.detach(), dropout, 4
    )
    for own, other in zip((out, *found), (expected[0], *expected[2:])):
        assert (own.double() - other).norm() < 0.03 * other.norm()


def test_tensors_of_two_dtypes_and_a_graph_whose_numbers_lie_apart_are_read_like_others(simt, on_gpu):
    near = cases.random_graph(11)
    _, (q, k, v, indptr, indices, bias, null) = cases.problem(near, 2, 8, torch.float32, "cpu")
    apart = [torch.stack((x, x), 1)[:, 0] for x in (indptr, indices)]
    with simt(), on_gpu("edge_attention"):
        mixed = public(q.bfloat16(), k, v, *apart, bias, null)
        alike = public(q.bfloat16().float(), k, v, indptr, indices, bias, null)
    assert mixed.dtype == torch.bfloat16
    torch.testing.assert_close(mixed, alike.bfloat16())


def test_backend_cuda_refuses_tensors_of_the_cpu():
    _, tensors = cases.problem(cases.random_graph(5), 2, 4, torch.float32, "cpu")
    with use_backend("cuda"), pytest.raises(KernelError, match="found cpu"):
        public(*tensors)
