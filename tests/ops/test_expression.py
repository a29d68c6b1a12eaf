import pytest
import torch

from metaniche.errors import GraphError
from metaniche.ops.expression import Expression, complex_expression

PTR = torch.tensor([0, 1, 3, 6])
GENES = torch.tensor([2, 0, 1, 4, 3, 0], dtype=torch.int32)


def cells(n=9, genes=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, genes, generator=g) * (torch.rand(n, genes, generator=g) < 0.7)


def test_minimum_and_geometric_mean_of_the_subunits():
    x = cells()
    least, mean = (complex_expression(x, PTR, GENES, how) for how in ("minimum", "geometric_mean"))
    for c, subunits in enumerate(([2], [0, 1], [4, 3, 0])):
        part = x[:, subunits].double()
        torch.testing.assert_close(least[:, c], part.amin(1).float(), rtol=0, atol=0)
        torch.testing.assert_close(mean[:, c], part.prod(1).pow(1 / len(subunits)).float())


@pytest.mark.parametrize("how", ["minimum", "geometric_mean"])
def test_sparse_expression_gives_sparse_complexes(how):
    x = cells()
    dense, sparse = (complex_expression(y, PTR, GENES, how) for y in (x, x.to_sparse_csr()))
    assert sparse.layout == torch.sparse_csr
    assert torch.equal(sparse.to_dense(), dense)
    assert (sparse.values() != 0).all()


def test_no_cells_and_no_complexes():
    nothing = torch.zeros(0, dtype=torch.int32)
    assert complex_expression(cells()[:0], PTR, GENES).shape == (0, 3)
    assert complex_expression(cells(), torch.zeros(1, dtype=torch.int64), nothing).shape == (9, 0)


def test_requests_that_do_not_fit_are_refused():
    x = cells()
    for args, words in (
        ((x, PTR, GENES, "mean"), "how"),
        ((x, PTR, GENES + 1), "genes"),
        ((x, PTR, GENES.long()), "genes"),
        ((x, torch.tensor([0, 0, 6]), GENES), "subunit"),
        ((-x, PTR, GENES, "geometric_mean"), "negative"),
        ((x.clone().fill_(torch.nan), PTR, GENES, "geometric_mean"), "finite"),
        ((x.to_sparse_coo(), PTR, GENES), "sparse_csr"),
    ):
        with pytest.raises(GraphError, match=words):
            complex_expression(*args)


def test_sparse_rows_are_checked():
    def matrix(ptr, columns):
        values = torch.ones(len(columns))
        return torch.sparse_csr_tensor(
            torch.tensor(ptr), torch.tensor(columns), values, size=(2, 3), check_invariants=False
        )

    Expression.of(matrix([0, 2, 3], [0, 2, 0]), "x")
    for ptr, columns, words in (
        ([0, 2, 3], [0, 3, 0], "col_indices"),
        ([0, 2, 3], [2, 0, 0], "entry 1"),
        ([0, 2, 3], [1, 1, 0], "ascend"),
        ([0, 3, 2], [0, 1, 2], "ascend"),
    ):
        with pytest.raises(GraphError, match=words):
            Expression.of(matrix(ptr, columns), "x")
