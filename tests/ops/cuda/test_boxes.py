import torch

from metaniche.ops.cuda.boxes import boxes, sample_of


def test_boxes_hold_their_samples_and_an_empty_one_is_at_zero(simt):
    pos = torch.tensor([[1.0, 5.0], [3.0, -2.0], [7.0, 7.0]])
    with simt():
        low, high = boxes(pos, torch.tensor([0, 2, 2, 3]))
    assert low.tolist() == [[1.0, -2.0], [0.0, 0.0], [7.0, 7.0]]
    assert high.tolist() == [[3.0, 5.0], [0.0, 0.0], [7.0, 7.0]]


def test_every_cell_knows_its_sample():
    found = sample_of(torch.tensor([0, 2, 2, 3]), 3)
    assert (found.tolist(), found.dtype) == ([0, 0, 2], torch.int32)


def test_a_box_of_more_cells_than_a_piece(simt):
    pos = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0)) - 4.0
    with simt():
        low, high = boxes(pos, torch.tensor([0, 2999, 3000]))
    assert torch.equal(low, torch.stack((pos[:2999].amin(0), pos[2999])).double())
    assert torch.equal(high, torch.stack((pos[:2999].amax(0), pos[2999])).double())
