"""Nearest neighbours against all pairs in float64."""

from unittest.mock import patch

import numpy as np
from simt.cases.neighbors import all_pairs, cells, place, same

from metaniche.ops.cuda import nearest as op


def check(scene, k):
    pos, ptr = scene
    distance = all_pairs(pos, ptr)
    near = np.zeros(distance.shape, bool)
    for i, row in enumerate(distance):
        order = np.lexsort((np.arange(len(row)), row))[:k]
        near[i, order[np.isfinite(row[order])]] = True
    same(op.knn_neighbors(pos, ptr, k), near, distance)


def plane(device):
    check(cells((90, 0, 1, 12), 2, device), 6)


def space(device):
    check(cells((50, 9), 3, device), 7)


def lattice(device):
    check(cells((80,), 2, device, lattice=True, extent=30.0), 5)


def more_than_a_warp(device):
    check(cells((36, 2), 2, device), 34)


def four_slots(device):
    check(cells((75,), 2, device), 70)


def close_together(device):
    """All within two micrometres; of two cells each has the other."""
    check(cells((60, 2), 2, device, extent=1.0), 7)


def few_are_sure(device):
    """Where cells are spread evenly, nothing is left to nearest.cu."""
    for dim, k in ((2, 7), (2, 3), (3, 5)):
        with patch.object(op, "launch", side_effect=op.launch) as launches:
            check(cells((150,), dim, device, extent=1.0), k)
        (left,) = [call.args[2] for call in launches.mock_calls if call.args[0] is op.NEAREST]
        assert left == 0


def far_cell(device):
    """One cell stands so far off that its rings end before they reach the others."""
    for dim in (2, 3):
        pos = np.random.default_rng(4).uniform(0, 10, (60, dim)).astype(np.float32)
        pos[-1] += 1e5
        check(place(pos, (60,), device), 3)


def uneven(device):
    """Tight clumps a few bins apart: the k-th neighbour stands in a far ring."""
    rng = np.random.default_rng(5)
    centres = rng.uniform(0, 100, (12, 2))
    pos = (centres[rng.integers(0, 12, 60)] + rng.normal(0, 0.5, (60, 2))).astype(np.float32)
    check(place(pos, (60,), device), 8)


def tiny_and_huge_scenes(device):
    for scale in (1e-22, 1e19):
        pos = (np.random.default_rng(3).uniform(0, 1, (20, 2)) * scale).astype(np.float32)
        check(place(pos, (20,), device), 4)


def almost_equal(device):
    """Two neighbours whose float32 squares tie, or fall the other way: float64 decides."""
    pos = []
    for step in range(-4, 5):
        x, far = 100.0 * step, np.float32(3.0 * (1 + step * 2.0**-24))
        pos += [(x, 0.0), (x + far, 0.0), (x, 3.0), (x - 0.5, 0.25)]
    check(place(np.array(pos, np.float32), (len(pos),), device), 2)


def crowd(device):
    """More cells in one place than a thread looks at."""
    pos = np.random.default_rng(8).uniform(0, 1, (1200, 2)).astype(np.float32)
    pos[:1100] = pos[0]
    check(place(pos, (1200,), device), 3)


def by_warps(case):
    """The same with nearest.cu alone."""

    def every(device):
        with patch.object(op, "MOST_FEW", 0):
            case(device)

    every.__name__ = f"{case.__name__}_by_warps"
    return every


def no_cells(device):
    pos, ptr = cells((0,), 2, device)
    assert [x.numel() for x in op.knn_neighbors(pos, ptr, 3)] == [1, 0, 0]


BY_WARPS = tuple(
    by_warps(case)
    for case in (
        plane,
        space,
        far_cell,
        uneven,
        lattice,
        close_together,
        almost_equal,
    )
)
CASES = (
    plane,
    space,
    lattice,
    more_than_a_warp,
    four_slots,
    far_cell,
    uneven,
    close_together,
    few_are_sure,
    tiny_and_huge_scenes,
    almost_equal,
    crowd,
    *BY_WARPS,
    no_cells,
)
FEW_SHORT = (
    close_together,
    few_are_sure,
    plane,
    space,
    far_cell,
    uneven,
    lattice,
    almost_equal,
    tiny_and_huge_scenes,
)
SHORT = (more_than_a_warp, *BY_WARPS)
