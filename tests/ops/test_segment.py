import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from metaniche.errors import GraphError
from metaniche.ops import segment, use_backend
from metaniche.ops.segment import segment_max, segment_mean, segment_softmax, segment_sum

OPS = {"sum": segment_sum, "mean": segment_mean, "max": segment_max}


def rows(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.sampled_from(list(OPS)), st.integers(0, 99))
def test_each_row_is_reduced_alone_and_an_empty_row_gives_zero(sizes, name, seed):
    x = torch.randn(sum(sizes), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    out = OPS[name](x, rows(sizes))
    for value, part in zip(out, x.split(sizes)):
        expected = torch.zeros(3, dtype=torch.float64)
        if len(part):
            expected = part.amax(0) if name == "max" else getattr(part, name)(0)
        assert torch.allclose(value, expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_softmax_within_rows_survives_large_logits_and_minus_infinity(sizes):
    logits = torch.randn(sum(sizes), 2, dtype=torch.float64) * 500
    for value, part in zip(segment_softmax(logits, rows(sizes)).split(sizes), logits.split(sizes)):
        assert torch.allclose(value, part.softmax(0))


@pytest.mark.parametrize("op", [*OPS.values(), segment_softmax])
def test_gradients(op):
    x = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda z: op(z, rows([3, 0, 1, 5])), (x,))


def test_pointers_that_do_not_fit_are_refused():
    for bad in (
        torch.tensor([0, 5]),
        torch.tensor([1, 4]),
        torch.tensor([0, 3, 2, 4]),
        torch.tensor([0, 4], dtype=torch.int32),
    ):
        with pytest.raises(GraphError, match="indptr"):
            segment_sum(torch.zeros(4, 1), bad)


def test_softmax_rows_sum_to_one_in_float32_and_every_run_is_the_same():
    g = torch.Generator().manual_seed(0)
    sizes = torch.randint(0, 40, (500,), generator=g)
    logits = torch.randn(int(sizes.sum()), 4, generator=g) * 30
    first, second = (segment_softmax(logits, rows(sizes.tolist())) for _ in range(2))
    assert torch.equal(first, second)
    totals = segment_sum(first, rows(sizes.tolist()))
    assert torch.allclose(totals, (sizes > 0).float()[:, None].expand(-1, 4), atol=1e-5)


@pytest.mark.parametrize("op", [*OPS.values(), segment_softmax])
def test_one_dimension_and_no_entries_are_fine(op):
    assert op(torch.arange(3.0), rows([3, 0])).ndim == 1
    assert op(torch.zeros(0, 2), rows([0, 0])).shape[1] == 2


def test_maxima_of_negative_rows_are_not_zero():
    assert segment_max(torch.tensor([-3.0, -2.0]), rows([2, 0])).tolist() == [-2.0, 0.0]


@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_softmax"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_native_and_reference_agree_and_threads_change_nothing(name, dtype):
    g = torch.Generator().manual_seed(3)
    ptr = rows(torch.randint(0, 9, (700,), generator=g).tolist())
    x = torch.randn(int(ptr[-1]), 3, 2, generator=g, dtype=dtype)
    op = getattr(segment, name)
    with use_backend("reference"):
        expected = op(x, ptr)
    one = op(x, ptr)
    torch.set_num_threads(2)
    two = op(x, ptr)
    torch.set_num_threads(1)
    assert torch.equal(one, two)
    assert torch.allclose(one, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["segment_sum", "segment_max", "segment_softmax"])
def test_registered_as_torch_ops(name):
    x = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(getattr(torch.ops.metaniche, name).default, (x, rows([3, 0, 1, 5])))
