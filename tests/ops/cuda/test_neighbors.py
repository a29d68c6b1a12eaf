import numpy as np
import pytest
import torch
from simt.cases import neighbors as cases

from metaniche.ops import knn_neighbors, radius_neighbors, thinned_neighbors
from metaniche.ops.cuda import neighbors as op


@pytest.mark.parametrize("case", cases.CASES, ids=lambda c: c.__name__)
def test_it_equals_all_pairs(simt, case):
    for seed in (0, 1, 2):
        with simt(seed):
            case("cpu")


@pytest.mark.parametrize("seed", range(6))
def test_random_scenes_equal_the_cpu(simt, on_gpu, seed):
    """Fresh scenes of both dimensions, with and without ties, through the public ops."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 40, rng.integers(1, 4)).tolist()
    pos, ptr = cases.cells(sizes, int(rng.integers(2, 4)), "cpu", seed, 30.0, lattice=seed % 2 == 0)
    calls = (
        lambda: radius_neighbors(pos, ptr, 20.0),
        lambda: radius_neighbors(pos, ptr, 30.0, inner_um=10.0, max_per_cell=4, seed=-3),
        lambda: thinned_neighbors(pos, ptr, 30.0, inner_um=10.0, max_per_cell=4)[1:],
        lambda: knn_neighbors(pos, ptr, 5),
    )
    for call in calls:
        with simt(seed), on_gpu("neighbors"):
            found = call()
        assert all(torch.equal(a, b) for a, b in zip(found, call()))


@pytest.mark.parametrize("distance", [0.0, 1e-20, 0.3, 50.0, 1e18, 1e19, 1e200])
def test_bounds_leave_room_for_rounding(distance):
    surely, maybe = op.bounds(distance)
    square = np.float64(distance) ** 2 if distance < 1e150 else np.inf
    assert surely < square or square == 0
    assert maybe > square or maybe == np.inf
