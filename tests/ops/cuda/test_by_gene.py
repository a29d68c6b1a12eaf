import pytest
import torch

from metaniche.ops.cuda.by_gene import by_gene
from metaniche.ops.expression import Expression


def expression():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(30, 150, generator=g) * (torch.rand(30, 150, generator=g) < 0.3)
    x[:, 5] = 0
    return x


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("mixed", [False, True])
def test_entries_make_up_the_columns(layout, mixed):
    """More genes than a block of columns, in any order, one of them without cells."""
    x, genes = expression(), torch.randperm(150, generator=torch.Generator().manual_seed(1))[:140]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2)) if mixed else None
    given = Expression.of(x if layout == "dense" else x.to_sparse_csr(), "x")
    ptr, cells, values = by_gene(given, genes, order)
    assert (ptr.dtype, cells.dtype, values.dtype) == (torch.int64, torch.int32, torch.float32)
    expected = (x if order is None else x[order])[:, genes]
    assert torch.equal(ptr.diff(), (expected != 0).sum(0))
    assert torch.equal(values, expected.t()[expected.t() != 0])
    gene = torch.arange(140).repeat_interleave(ptr.diff())
    assert torch.equal(expected[cells.long(), gene], values)
    assert ((cells.diff() > 0) | (gene.diff() > 0)).all()


def test_no_genes():
    ptr, cells, values = by_gene(Expression.of(expression(), "x"), torch.zeros(0, dtype=torch.int64))
    assert (ptr.tolist(), cells.numel(), values.numel()) == ([0], 0, 0)
