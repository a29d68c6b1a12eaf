import pytest
import torch

from metaniche.ops.cuda.pieces import cut, pieces


def test_pieces_cover_every_segment_and_cross_none():
    ptr = torch.tensor([0, 0, 7, 8, 8, 14, 14])
    starts, piece_ptr, segment = cut(ptr, 3)
    assert starts.tolist() == [0, 3, 6, 7, 8, 11, 14]
    assert piece_ptr.tolist() == [0, 0, 3, 4, 4, 6, 6]
    assert segment.tolist() == [1, 1, 1, 2, 4, 4]


def test_nothing_has_no_piece():
    starts, piece_ptr, segment = cut(torch.tensor([0, 0]), 3)
    assert (starts.tolist(), piece_ptr.tolist(), segment.tolist()) == ([0], [0, 0], [])


@pytest.mark.parametrize("sizes", [(0, 3, 9, 1, 0, 8, 0), (4,), (0, 0), (), (20, 20)])
def test_pieces_cover_every_row_and_no_other(sizes):
    indptr = torch.tensor([0, *sizes]).cumsum(0)
    bounds, of_row = pieces(indptr, sum(sizes), 4)
    assert bounds.numel() - 1 == len(sizes) + sum(sizes) // 4
    assert (bounds.diff() >= 0).all()
    assert (bounds.diff() <= 4).all()
    assert torch.equal(bounds[of_row], indptr)
    assert int(bounds[-1]) == sum(sizes)
