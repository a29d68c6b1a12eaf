import pytest
import torch

from metaniche.ops.expression import Expression
from metaniche.ops.offsets import without_offsets

GENES = torch.tensor([0, 1, 2, 4, 0], dtype=torch.int32)


def cells(n=200):
    """Genes far above 0, far below, around it, far above but of no pair, and far above but for one cell."""
    noise = torch.rand(n, 5, generator=torch.Generator().manual_seed(0))
    x = noise + torch.tensor([300.0, -300.0, 0.0, 300.0, 300.0])
    x[n // 2 + 1, 4] = 0.0
    return x


@pytest.mark.parametrize("form", [torch.Tensor.contiguous, torch.Tensor.to_sparse_csr])
def test_values_that_all_lie_far_from_0_are_taken_from_their_least(form):
    x = cells()
    found, offset = without_offsets(Expression.of(form(x), "x"), GENES)
    assert (offset != 0).tolist() == [True, True, False, False, False]
    assert torch.equal(offset[:2], x[:, :2].amin(0).double())
    values = (
        torch.sparse_csr_tensor(found.ptr, found.columns.long(), found.values, found.shape).to_dense()
        if found.ptr is not None
        else found.values
    )
    assert torch.equal(values.double() + offset, x.double())  # exactly
    assert (values[:, :2].amin(0) == 0).all()


@pytest.mark.parametrize("form", [torch.Tensor.contiguous, torch.Tensor.to_sparse_csr])
@pytest.mark.parametrize("n", [0, 3, 200])
def test_counts_are_left_alone(form, n):
    x = Expression.of(form(torch.poisson(torch.ones(n, 5), generator=torch.Generator().manual_seed(1))), "x")
    found, offset = without_offsets(x, GENES[:0] if n == 3 else GENES)
    assert found is x
    assert (offset == 0).all()
