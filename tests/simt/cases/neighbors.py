"""Radius neighbours against all pairs in float64."""

import numpy as np
import torch

from metaniche.ops.cuda import neighbors as op
from metaniche.ops.reference import neighbors as reference


def cells(sizes, dim, device, seed=0, extent=60.0, lattice=False):
    """Cells in a box; on a 10 um lattice many share a place and many distances are equal."""
    rng = np.random.default_rng(seed)
    pos = rng.uniform(-extent, extent, (sum(sizes), dim))
    pos = (np.round(pos, -1) if lattice else pos).astype(np.float32)
    return place(pos, sizes, device)


def place(pos, sizes, device):
    ptr = np.concatenate(([0], np.cumsum(sizes)))
    return torch.from_numpy(pos).to(device), torch.from_numpy(ptr).to(device)


def all_pairs(pos, ptr):
    """(N, N) float64 distances; infinite to itself and to other samples."""
    points = pos.cpu().double().numpy()
    squared = sum((points[:, None, d] - points[None, :, d]) ** 2 for d in range(points.shape[1]))
    sample = np.repeat(np.arange(len(ptr) - 1), np.diff(ptr.cpu().numpy()))
    distance = np.sqrt(squared)
    distance[sample[:, None] != sample[None, :]] = np.inf
    np.fill_diagonal(distance, np.inf)
    return distance


def same(found, near, distance):
    """The CSR holds exactly the pairs of `near`, columns ascending, with their distances."""
    rows, columns = np.nonzero(near)
    indptr, indices, lengths = (x.cpu().numpy() for x in found)
    assert np.array_equal(indptr, np.concatenate(([0], np.cumsum(near.sum(1)))))
    assert np.array_equal(indices, columns)
    assert np.array_equal(lengths, distance[rows, columns].astype(np.float32))


def check_radius(scene, radius, inner=0.0):
    pos, ptr = scene
    distance = all_pairs(pos, ptr)
    near = distance <= radius
    if inner > 0:
        near &= distance > inner
    *found, reachable = op.thinned_neighbors(pos, ptr, radius, inner, None, 0)
    same(found, near, distance)
    assert np.array_equal(reachable.cpu().numpy(), near.sum(1))


def radius_plane(device):
    check_radius(cells((70, 0, 1, 37), 2, device), 20.0)


def radius_space(device):
    check_radius(cells((60, 21), 3, device), 30.0)


def radius_lattice(device):
    """Distances exactly at the radius, co-located cells, and rows longer than the lanes of a row."""
    check_radius(cells((130,), 2, device, lattice=True, extent=30.0), 10.0)
    check_radius(cells((60,), 3, device, lattice=True, extent=20.0), 20.0)


def radius_ring(device):
    check_radius(cells((90,), 2, device, lattice=True), 30.0, inner=10.0)


def radius_ring_small(device):
    """Bounds below 1 um, exactly met."""
    pos, ptr = cells((90,), 2, device, lattice=True)
    for inner in (0.5, 0.0):
        check_radius((pos / 20, ptr), 1.5, inner)
    pos, ptr = cells((60,), 2, device, extent=2.0)
    check_radius((pos, ptr), 0.9, 0.6)


def radius_near_the_bounds(device):
    """Distances a few units of the last place from the bounds: float64 decides."""
    radius, inner = np.float32(1.5), np.float32(0.75)
    pos = []
    for i, bound in enumerate((radius, inner) * 9):
        step = np.float32((i // 2 - 4) * 2.0**-24)
        pos += [(10.0 * i, 0.0), (10.0 * i, bound * (1 + step))]
    scene = place(np.array(pos, np.float32), (len(pos),), device)
    check_radius(scene, 1.5)
    check_radius(scene, 1.5, 0.75)


def radius_thin_strip(device):
    """One bin wide, and one bin high."""
    pos = np.random.default_rng(6).uniform(0, 1, (40, 3)).astype(np.float32)
    for axis in range(3):
        check_radius(place(pos * np.eye(3, dtype=np.float32)[axis] * 60, (40,), device), 8.0)


def radius_sparse_box(device):
    """A few cells far away leave the box mostly empty; in space along z as well."""
    for dim in (2, 3):
        pos = np.random.default_rng(1).uniform(0, 40, (50, dim)).astype(np.float32)
        pos[-1] += 1e6
        pos[-2] -= 1e6
        check_radius(place(pos, (50,), device), 12.0 if dim == 2 else 20.0)


def radius_one_heavy_bin(device):
    pos = np.random.default_rng(2).uniform(0, 1, (75, 2)).astype(np.float32)
    pos[:40] = pos[0]
    check_radius(place(pos, (75,), device), 0.5)


def radius_of_tiny_and_huge_scenes(device):
    for scale in (1e-22, 1e19):
        pos = (np.random.default_rng(3).uniform(0, 1, (20, 2)) * scale).astype(np.float32)
        check_radius(place(pos, (20,), device), 0.4 * scale)


def thinning(device):
    pos, ptr = cells((60, 33), 2, device)
    for most in (1, 5, 9):
        found = op.thinned_neighbors(pos, ptr, 40.0, 0.0, most, seed=7)
        expected = reference.thinned_neighbors(pos.cpu().numpy(), ptr.cpu().numpy(), 40.0, 0.0, most, 7)
        assert all(np.array_equal(a.cpu().numpy(), b) for a, b in zip(found, expected))


def no_cells(device):
    pos, ptr = cells((0,), 2, device)
    assert [x.numel() for x in op.thinned_neighbors(pos, ptr, 5.0, 0.0, None, 0)] == [1, 0, 0, 0]


CASES = (
    radius_plane,
    radius_space,
    radius_lattice,
    radius_ring,
    radius_ring_small,
    radius_near_the_bounds,
    radius_thin_strip,
    radius_sparse_box,
    radius_one_heavy_bin,
    radius_of_tiny_and_huge_scenes,
    thinning,
    no_cells,
)
SHORT = (
    radius_plane,
    radius_space,
    radius_lattice,
    radius_ring_small,
    radius_near_the_bounds,
    radius_thin_strip,
    radius_sparse_box,
    radius_one_heavy_bin,
    thinning,
)
