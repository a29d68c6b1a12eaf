import torch

from metaniche.ops.cuda.pieces import cut


def test_pieces_cover_every_segment_and_cross_none():
    ptr = torch.tensor([0, 0, 7, 8, 8, 14, 14])
    starts, piece_ptr, segment = cut(ptr, 3)
    assert starts.tolist() == [0, 3, 6, 7, 8, 11, 14]
    assert piece_ptr.tolist() == [0, 0, 3, 4, 4, 6, 6]
    assert segment.tolist() == [1, 1, 1, 2, 4, 4]


def test_nothing_has_no_piece():
    starts, piece_ptr, segment = cut(torch.tensor([0, 0]), 3)
    assert (starts.tolist(), piece_ptr.tolist(), segment.tolist()) == ([0], [0, 0], [])
