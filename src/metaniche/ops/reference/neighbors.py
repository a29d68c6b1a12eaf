"""Neighbour search on scipy's cKDTree, in blocks of rows that bound the memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from scipy import sparse
from scipy.spatial import Delaunay, QhullError, cKDTree

from metaniche.errors import GraphError
from metaniche.ops.splitmix import of_array

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
BLOCK_PAIRS = 2_000_000
# cKDTree may round the last bit of a distance differently: search a hair wider, and decide what is close in numpy.
SLACK = 1 + 1e-9


def radius_neighbors(
    pos: np.ndarray, sample_ptr: np.ndarray, radius: float, inner: float, max_per_cell: int | None, seed: int
) -> Arrays:
    """See `metaniche.ops.radius_neighbors`."""
    return thinned_neighbors(pos, sample_ptr, radius, inner, max_per_cell, seed)[:3]


def thinned_neighbors(
    pos: np.ndarray, sample_ptr: np.ndarray, radius: float, inner: float, max_per_cell: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """See `metaniche.ops.thinned_neighbors`."""
    blocks, reachable = [], [np.zeros(0, np.int64)]
    for start, stop in _samples(sample_ptr):
        points = pos[start:stop].astype(np.float64)
        tree = _tree(points)
        counts = tree.query_ball_point(points, radius * SLACK, return_length=True)
        for first, last in _row_blocks(counts):
            rows, cols = _ring_pairs(tree, points, first, last, inner, radius)
            reachable.append(np.bincount(rows - first, minlength=last - first))
            if max_per_cell is not None:
                kept = _thin(rows - first, cols, last - first, first, max_per_cell, seed)
                rows, cols = rows[kept], cols[kept]
            blocks.append(_sorted(rows + start, cols + start, _distance(points, rows, cols)))
    return *_csr(blocks, len(pos)), np.concatenate(reachable)


def knn_neighbors(pos: np.ndarray, sample_ptr: np.ndarray, k: int) -> Arrays:
    """See `metaniche.ops.knn_neighbors`."""
    blocks = []
    for start, stop in _samples(sample_ptr):
        n = stop - start
        most = min(k, n - 1)
        if most < 1:
            continue
        cols, distance = nearest(pos[start:stop].astype(np.float64), np.arange(n), most)
        blocks.append((np.repeat(np.arange(start, stop), most), cols.ravel() + start, distance.ravel()))
    return _csr(blocks, len(pos))


def nearest(points: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(Q, k) indices, ascending in each row, and distances of the k < N nearest other points of the points `queries`."""
    tree, n = _tree(points), len(points)
    # The k-th other cell is the (k + 1)-th with the cell itself; its ball holds every cell tied with it.
    reach = np.inf if k == n - 1 else tree.query(points[queries], [k + 1])[0][:, 0] * SLACK
    counts = tree.query_ball_point(points[queries], reach, return_length=True)
    blocks = [(np.zeros((0, k), np.int64), np.zeros((0, k)))]
    for first, last in _row_blocks(counts):
        cells = queries[first:last]
        balls = tree.query_ball_point(points[cells], reach if np.ndim(reach) == 0 else reach[first:last])
        rows = np.repeat(np.arange(last - first), counts[first:last])
        cols = np.fromiter(chain.from_iterable(balls), np.int64, len(rows))
        other = cells[rows] != cols
        rows, cols = rows[other], cols[other]
        distance = _distance(points, cells[rows], cols)
        order = np.lexsort((cols, distance, rows))
        kept = order[_rank(rows[order], 0, last - first) < k]
        _, cols, distance = _sorted(rows[kept], cols[kept], distance[kept])
        blocks.append((cols.reshape(-1, k), distance.reshape(-1, k)))
    cols, distance = (np.concatenate(part) for part in zip(*blocks))
    return cols, distance


def delaunay_neighbors(pos: np.ndarray, sample_ptr: np.ndarray) -> Arrays:
    """See `metaniche.ops.delaunay_neighbors`."""
    blocks = []
    for sample, (start, stop) in enumerate(_samples(sample_ptr)):
        points = pos[start:stop].astype(np.float64)
        rows, cols = _complete(len(points)) if len(points) <= 3 else _triangulated(points, sample)
        blocks.append(_sorted(rows + start, cols + start, _distance(points, rows, cols)))
    return _csr(blocks, len(pos))


def _triangulated(points: np.ndarray, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """Directed edges of the triangulation of the distinct sites, spread over the cells that stand on them."""
    sites, site_of = np.unique(points, axis=0, return_inverse=True)
    try:
        mesh = Delaunay(sites)
    except (QhullError, ValueError) as error:
        raise GraphError(
            f"Expected cells that span an area for a Delaunay graph, found {len(points)} cells on "
            f"{len(sites)} sites of one line or plane in sample number {sample}. "
            "Use builder='knn' or 'radius' for it."
        ) from error
    ptr, neighbours = mesh.vertex_neighbor_vertices
    dropped, _, nearest = mesh.coplanar.T
    left = np.concatenate([np.repeat(np.arange(len(sites)), np.diff(ptr)), dropped, nearest])
    right = np.concatenate([neighbours, nearest, dropped])
    shape = (len(sites), len(sites))
    adjacency = sparse.csr_array((np.ones(len(left), np.int32), (left, right)), shape) + sparse.eye_array(
        len(sites), dtype=np.int32, format="csr"
    )
    on_site = sparse.csr_array(
        (np.ones(len(points), np.int32), (np.arange(len(points)), site_of.ravel())), (len(points), len(sites))
    )
    rows, cols = (on_site @ adjacency @ on_site.T).nonzero()
    return rows[rows != cols].astype(np.int64), cols[rows != cols].astype(np.int64)


def _thin(rows: np.ndarray, cols: np.ndarray, n_rows: int, first: int, most: int, seed: int) -> np.ndarray:
    """Positions of each row's `most` pairs of smallest hash; `rows` count from the block's `first` row."""
    hashes = _pair_hash(seed, first, n_rows, rows, cols)
    counts = np.bincount(rows, minlength=n_rows)
    # A threshold that leaves nearly every row a few more than `most` pairs cuts the sort short.
    expected = most + 6 * np.sqrt(most) + 16
    share = expected / np.maximum(counts, 1)
    limit = np.where(share < 0.9, np.minimum(share, 0.9) * 2.0**64, 2.0**63).astype(np.uint64)
    limit[share >= 0.9] = np.iinfo(np.uint64).max
    below = hashes <= limit[rows]
    short = np.bincount(rows[below], minlength=n_rows) < np.minimum(most, counts)
    if short.any():
        below |= short[rows]
    candidates = np.flatnonzero(below)
    order = candidates[np.argsort(hashes[candidates])]
    order = order[np.argsort(rows[order].astype(np.min_scalar_type(n_rows)), kind="stable")]
    return order[_rank(rows[order], 0, n_rows) < most]


def _pair_hash(seed: int, first: int, n_rows: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """splitmix64 chained over (seed, i, j): a uint64 per pair that depends on nothing else."""
    key = of_array(np.array([seed % 2**64], np.uint64))
    row_key = of_array(key ^ np.arange(first, first + n_rows, dtype=np.uint64))
    return of_array(row_key[rows] ^ cols.astype(np.uint64))


def _ring_pairs(
    tree: cKDTree, points: np.ndarray, first: int, last: int, inner: float, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (row, column) of the rows `first:last` with `inner < d <= radius`, in no order."""
    pairs = _tree(points[first:last]).sparse_distance_matrix(tree, radius * SLACK, output_type="ndarray")
    rows, cols, distance = pairs["i"] + first, pairs["j"], pairs["v"]
    close = np.abs(distance - radius) <= radius * (SLACK - 1)
    if inner > 0:
        close |= np.abs(distance - inner) <= inner * (SLACK - 1)
    close = np.flatnonzero(close)
    distance[close] = _distance(points, rows[close], cols[close])
    keep = (distance <= radius) & ((distance > inner) if inner > 0 else (rows != cols))
    return rows[keep], cols[keep]


def _row_blocks(counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows with at most BLOCK_PAIRS pairs together, or of one row."""
    total = np.concatenate(([0], np.cumsum(counts)))
    first = 0
    while first < len(counts):
        last = int(np.searchsorted(total, total[first] + BLOCK_PAIRS, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _rank(rows: np.ndarray, first: int, last: int) -> np.ndarray:
    """Position of each entry within its row, for `rows` in ascending order."""
    starts = np.searchsorted(rows, np.arange(first, last))
    return np.arange(len(rows)) - starts[rows - first]


def _distance(points: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    squared = np.zeros(len(rows))
    for axis in points.T:
        axis = np.ascontiguousarray(axis)
        difference = axis[rows]
        difference -= axis[cols]
        difference *= difference
        squared += difference
    return np.sqrt(squared, out=squared)


def _sorted(rows: np.ndarray, cols: np.ndarray, distance: np.ndarray) -> Arrays:
    order = np.lexsort((cols, rows))
    return rows[order], cols[order], distance[order]


def _csr(blocks: list[Arrays], n: int) -> Arrays:
    empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    rows, cols, distance = (np.concatenate(part) for part in zip(empty, *blocks))
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=n)))).astype(np.int64)
    return indptr, cols.astype(np.int32), distance.astype(np.float32)


def _complete(n: int) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.divmod(np.arange(n * n), max(n, 1))
    return rows[rows != cols], cols[rows != cols]


def _samples(sample_ptr: np.ndarray) -> Iterator[tuple[int, int]]:
    return zip(sample_ptr[:-1].tolist(), sample_ptr[1:].tolist())


def _tree(points: np.ndarray) -> cKDTree:
    return cKDTree(points, balanced_tree=False, compact_nodes=False)
