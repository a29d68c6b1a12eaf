import pytest
import torch

from metaniche.ops.cuda.pieces import pieces


@pytest.mark.parametrize("sizes", [(0, 3, 9, 1, 0, 8, 0), (4,), (0, 0), (), (20, 20)])
def test_pieces_cover_every_row_and_no_other(sizes):
    indptr = torch.tensor([0, *sizes]).cumsum(0)
    bounds, of_row = pieces(indptr, sum(sizes), 4)
    assert bounds.numel() - 1 == len(sizes) + sum(sizes) // 4
    assert (bounds.diff() >= 0).all()
    assert (bounds.diff() <= 4).all()
    assert torch.equal(bounds[of_row], indptr)
    assert int(bounds[-1]) == sum(sizes)
