import torch

from metaniche.ops.cuda.boxes import boxes, sample_of


def test_boxes_hold_their_samples_and_an_empty_one_is_at_zero():
    pos = torch.tensor([[1.0, 5.0], [3.0, -2.0], [7.0, 7.0]])
    low, high = boxes(pos, torch.tensor([0, 2, 2, 3]))
    assert low.tolist() == [[1.0, -2.0], [0.0, 0.0], [7.0, 7.0]]
    assert high.tolist() == [[3.0, 5.0], [0.0, 0.0], [7.0, 7.0]]


def test_every_cell_knows_its_sample():
    found = sample_of(torch.tensor([0, 2, 2, 3]), 3)
    assert (found.tolist(), found.dtype) == ([0, 0, 2], torch.int32)
