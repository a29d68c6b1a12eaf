import numpy as np
import pytest
import torch

from metaniche.ops.cuda import cell_list as op


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    pos = torch.from_numpy(rng.uniform(0, 100, (80, 2)).astype(np.float32))
    return pos, torch.tensor([0, 50, 50, 80])


@pytest.mark.parametrize("far", [False, True])
def test_every_cell_stands_in_the_run_of_its_bin(simt, scene, far):
    pos, ptr = scene
    pos[-1] += 1e6 * far
    with simt():
        cells = op.cell_list(pos, ptr, np.full(3, 10.0))
    assert cells.dense != far
    low, side, bins, base = (x.numpy() for x in cells.grids)
    assert sorted(cells.ids.tolist()) == list(range(80))
    for place, i in enumerate(cells.ids.tolist()):
        s = int(cells.sample[place])
        assert ptr[s] <= i < ptr[s + 1]
        assert cells.axes[:, place].tolist() == pos[i].tolist()
        x, y = np.minimum(((pos[i].double().numpy() - low[s]) / side[s]).astype(int), bins[s] - 1)
        key = base[s] + y * bins[s, 0] + x
        at = key if cells.dense else int(np.searchsorted(cells.occupied.numpy(), key))
        assert cells.starts[at] <= place < cells.starts[at + 1]


def test_sides_fit_the_cells(scene, simt):
    pos, ptr = scene
    line = pos * torch.tensor([1.0, 0.0])
    with simt():
        sides, of_line = op.fitting_sides(pos, ptr, 4.0), op.fitting_sides(line, ptr, 5.0)
    assert sides[0] == pytest.approx(100 * np.sqrt(4 / 50), rel=0.1)
    assert of_line[0] == pytest.approx(10, rel=0.1)


def test_a_crowd_is_seen(simt):
    pos = torch.cat((torch.zeros(60, 2), torch.full((4, 2), 100.0)))
    with simt():
        cells = op.cell_list(pos, torch.tensor([0, 64]), np.array([10.0]))
    assert op.crowding(cells).tolist() == [32.0]


def test_a_huge_box_has_wider_bins():
    low, extent = np.zeros((2, 3)), np.full((2, 3), 1e9)
    side, bins, base, total = op._grids(low, extent, np.full(2, 1e-9))
    assert (side > 1e-9).all()
    assert total == bins.prod(axis=1).sum() < 2**62
