"""Neighbour search against all pairs in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from metaniche.errors import GraphError
from metaniche.ops import delaunay_neighbors, knn_neighbors, radius_neighbors, thinned_neighbors, use_backend


def make_points(seed, n, dim=2, extent=200.0, lattice=False):
    """Positions with ties: half of the draws lie on a 10 um lattice, where cells are co-located and distances equal."""
    rng = np.random.default_rng(seed)
    pos = rng.uniform(-extent, extent, (n, dim))
    return torch.from_numpy((np.round(pos, -1) if lattice else pos).astype(np.float32))


def all_distances(pos):
    pos = pos.double().numpy()
    squared = sum((pos[:, None, d] - pos[None, :, d]) ** 2 for d in range(pos.shape[1]))
    return np.sqrt(squared)


def sample_of(ptr):
    return np.repeat(np.arange(len(ptr) - 1), np.diff(ptr))


def edge_set(found):
    indptr, indices, _ = found
    rows = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
    return set(zip(rows.tolist(), indices.tolist()))


def assert_csr(found, n):
    indptr, indices, distance = found
    assert (indptr.dtype, indices.dtype, distance.dtype) == (torch.int64, torch.int32, torch.float32)
    assert indptr.shape == (n + 1,)
    assert indptr[0] == 0
    assert indptr[-1] == len(indices) == len(distance)
    for row in range(n):
        columns = indices[indptr[row] : indptr[row + 1]].tolist()
        assert columns == sorted(set(columns))


scenes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "sizes": st.lists(st.integers(0, 40), min_size=1, max_size=3),
        "dim": st.sampled_from((2, 3)),
        "lattice": st.booleans(),
    }
)


def make_scene(scene):
    ptr = torch.tensor(np.concatenate(([0], np.cumsum(scene["sizes"]))))
    return make_points(scene["seed"], int(ptr[-1]), scene["dim"], 40.0, scene["lattice"]), ptr


@settings(max_examples=60, deadline=None)
@given(scenes, st.sampled_from((10.0, 20.0, 37.5)), st.sampled_from((0.0, 10.0)))
def test_radius_neighbors_are_those_of_all_pairs(scene, radius, inner):
    if inner >= radius:
        inner = 0.0
    pos, ptr = make_scene(scene)
    found = radius_neighbors(pos, ptr, radius, inner_um=inner)
    distance = all_distances(pos)
    same = sample_of(ptr)[:, None] == sample_of(ptr)[None, :]
    expected = same & (distance <= radius) & ~np.eye(len(pos), dtype=bool)
    if inner > 0:
        expected &= distance > inner
    assert edge_set(found) == set(zip(*map(np.ndarray.tolist, np.nonzero(expected))))
    assert_csr(found, len(pos))
    assert np.array_equal(found[2].numpy(), distance[expected].astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(scenes, st.integers(1, 12), st.sampled_from((1.0, 1.0, 1e-22)))
def test_knn_takes_the_nearest_and_ties_go_to_the_lower_index(scene, k, scale):
    pos, ptr = make_scene(scene)
    pos = pos * scale
    found = knn_neighbors(pos, ptr, k)
    distance, expected = all_distances(pos), set()
    for start, stop in zip(ptr[:-1].tolist(), ptr[1:].tolist()):
        for i in range(start, stop):
            others = [j for j in range(start, stop) if j != i]
            expected |= {(i, j) for j in sorted(others, key=lambda j: (distance[i, j], j))[:k]}
    assert edge_set(found) == expected
    assert_csr(found, len(pos))


@settings(max_examples=40, deadline=None)
@given(scenes)
def test_delaunay_is_symmetric_and_holds_every_nearest_neighbour(scene):
    pos, ptr = make_scene(scene)
    sizes = np.array(scene["sizes"])
    spanned = all(
        n <= 3 or np.linalg.matrix_rank((p := pos[s : s + n]) - p[0]) == pos.shape[1]
        for s, n in zip(ptr.tolist(), sizes)
    )
    if not spanned:
        with pytest.raises(GraphError, match="Delaunay"):
            delaunay_neighbors(pos, ptr)
        return
    found = delaunay_neighbors(pos, ptr)
    edges, distance = edge_set(found), all_distances(pos)
    assert_csr(found, len(pos))
    assert edges == {(j, i) for i, j in edges}
    distance[sample_of(ptr)[:, None] != sample_of(ptr)[None, :]] = np.inf
    np.fill_diagonal(distance, np.inf)
    for i in range(len(pos)):
        if np.isfinite(distance[i].min()):
            assert any((i, j) in edges for j in np.flatnonzero(distance[i] == distance[i].min()))


def test_delaunay_of_a_square_with_a_centre():
    pos = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0], [1.0, 1.0]])
    edges = edge_set(delaunay_neighbors(pos, torch.tensor([0, 5])))
    sides = {(0, 1), (0, 2), (1, 3), (2, 3)} | {(i, 4) for i in range(4)}
    assert edges == sides | {(j, i) for i, j in sides}


def test_delaunay_joins_co_located_cells():
    pos = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 0.0]])
    edges = edge_set(delaunay_neighbors(pos, torch.tensor([0, 4])))
    assert {(0, 3), (3, 0), (3, 1), (3, 2)} <= edges


@pytest.mark.parametrize("n", [1, 2, 3])
def test_small_samples_are_complete(n):
    pos = torch.arange(2 * n, dtype=torch.float32).reshape(n, 2)
    expected = {(i, j) for i in range(n) for j in range(n) if i != j}
    for found in (knn_neighbors(pos, torch.tensor([0, n]), 5), delaunay_neighbors(pos, torch.tensor([0, n]))):
        assert edge_set(found) == expected


def test_thinning_keeps_short_rows_whole_and_long_rows_at_the_limit():
    pos, ptr = make_points(3, 400), torch.tensor([0, 150, 400])
    full, thin = (radius_neighbors(pos, ptr, 60.0, max_per_cell=m) for m in (None, 12))
    assert edge_set(thin) <= edge_set(full)
    assert torch.equal(thin[0].diff(), full[0].diff().clamp(max=12))
    assert_csr(thin, 400)


@settings(max_examples=30, deadline=None)
@given(scenes, st.sampled_from((0.0, 12.5)), st.sampled_from((None, 1, 4)), st.sampled_from(("cpu", "reference")))
def test_thinning_says_how_many_were_within_reach(scene, inner, most, backend):
    pos, ptr = make_scene({**scene, "lattice": False})
    with use_backend(backend):
        found, reachable = thinned_neighbors(pos, ptr, 31.0, inner_um=inner, max_per_cell=most, seed=2)
        plain = radius_neighbors(pos, ptr, 31.0, inner_um=inner, max_per_cell=most, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(found, plain))
    assert reachable.dtype == torch.int64
    expected = []
    for start, stop in zip(ptr[:-1].tolist(), ptr[1:].tolist()):
        points = pos[start:stop].double().numpy()
        if stop > start:
            tree = cKDTree(points)
            outside, within = (tree.query_ball_point(points, r, return_length=True) for r in (inner, 31.0))
            expected += (within - outside if inner else within - 1).tolist()
    assert reachable.tolist() == expected
    assert torch.equal(found[0].diff(), reachable if most is None else reachable.clamp(max=most))


def test_thinning_of_a_sample_does_not_depend_on_the_others():
    pos, ptr = make_points(4, 300), torch.tensor([0, 120, 300])
    both = radius_neighbors(pos, ptr, 80.0, max_per_cell=7, seed=5)
    alone = radius_neighbors(pos[120:], torch.tensor([0, 180]), 80.0, max_per_cell=7, seed=5)
    assert {(i - 120, j - 120) for i, j in edge_set(both) if i >= 120} == edge_set(alone)


def test_thinning_changes_with_the_seed_only():
    pos, ptr = make_points(5, 300), torch.tensor([0, 300])
    first, again, other = (radius_neighbors(pos, ptr, 90.0, max_per_cell=9, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert edge_set(first) != edge_set(other)


def test_thinning_is_uniform_over_neighbours():
    """Every neighbour of a row is kept equally often over seeds; the largest deviation is within 5 sigma."""
    pos, ptr = make_points(6, 60, extent=30.0), torch.tensor([0, 60])
    kept = np.zeros((60, 60))
    seeds = 400
    for seed in range(seeds):
        indptr, indices, _ = radius_neighbors(pos, ptr, 200.0, max_per_cell=20, seed=seed)
        kept[np.repeat(np.arange(60), 20), indices] += 1
    share = 20 / 59
    off_diagonal = kept[~np.eye(60, dtype=bool)] / seeds
    assert np.abs(off_diagonal - share).max() < 5 * np.sqrt(share * (1 - share) / seeds)


def test_radius_at_exactly_the_distance_is_inside():
    pos = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 5.0 + 1e-5]])
    assert edge_set(radius_neighbors(pos, torch.tensor([0, 3]), 5.0)) == {(0, 1), (1, 0), (1, 2), (2, 1)}


POS, PTR = torch.zeros(4, 2), torch.tensor([0, 4])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: radius_neighbors(POS.double(), PTR, 5.0), "float32"),
        (lambda: radius_neighbors(torch.zeros(4, 4), PTR, 5.0), "2 or 3"),
        (lambda: radius_neighbors(POS, PTR.int(), 5.0), "int64"),
        (lambda: radius_neighbors(POS, torch.tensor([0, 3]), 5.0), "ascend from 0 to the 4 cells"),
        (lambda: radius_neighbors(POS, torch.tensor([0, 5, 4]), 5.0), "ascend"),
        (lambda: radius_neighbors(torch.full((4, 2), torch.nan), PTR, 5.0), "4 cells with NaN"),
        (lambda: radius_neighbors(POS, PTR, 0.0), "inner_um < radius_um"),
        (lambda: radius_neighbors(POS, PTR, float("inf")), "radius_um=inf"),
        (lambda: radius_neighbors(POS, PTR, 5.0, inner_um=5.0), "inner_um=5.0"),
        (lambda: radius_neighbors(POS, PTR, 5.0, max_per_cell=0), "max_per_cell"),
        (lambda: knn_neighbors(POS, PTR, 0), "k >= 1"),
        (lambda: delaunay_neighbors(torch.arange(8.0).reshape(4, 2), PTR), "builder='knn'"),
    ],
)
def test_refuses(call, says):
    with pytest.raises(GraphError, match=says):
        call()


@pytest.mark.parametrize("dim", [2, 3])
def test_native_equals_reference_in_crowds_and_mostly_empty_boxes(dim):
    """Two dense clusters far apart, a heavy pile on one spot, and lonely cells: no bin may overflow or be missed."""
    rng = np.random.default_rng(0)
    crowd = rng.normal(0, 3, (1500, dim))
    far = rng.normal(0, 1, (700, dim)) + 1e6
    pile = np.zeros((300, dim)) + 50
    lonely = rng.uniform(-1e6, 1e6, (40, dim))
    pos = torch.from_numpy(np.concatenate([crowd, far, pile, lonely]).astype(np.float32))
    ptr = torch.tensor([0, 1200, 1200, len(pos)])
    for search in (
        lambda: radius_neighbors(pos, ptr, 2.0),
        lambda: radius_neighbors(pos, ptr, 5.0, inner_um=2.0, max_per_cell=7, seed=3),
        lambda: knn_neighbors(pos, ptr, 9),
    ):
        with use_backend("reference"):
            expected = search()
        assert all(torch.equal(a, b) for a, b in zip(search(), expected, strict=True))


def test_threads_change_nothing():
    pos, ptr = make_points(5, 5000), torch.tensor([0, 2000, 5000])
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append([*radius_neighbors(pos, ptr, 20.0, max_per_cell=5), *knn_neighbors(pos, ptr, 6)])
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
