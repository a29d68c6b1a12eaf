"""The blocks and hashes behind the neighbour search."""

import numpy as np
import pytest

from metaniche.ops.reference import neighbors


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    return rng.uniform(0, 100, (500, 2)), np.array([0, 200, 500])


@pytest.mark.parametrize("pairs", [1, 700, 10_000])
def test_block_size_changes_nothing(cells, monkeypatch, pairs):
    calls = [
        lambda: neighbors.radius_neighbors(*cells, 30.0, 5.0, 11, 3),
        lambda: neighbors.radius_neighbors(*cells, 10.0, 0.0, None, 0),
        lambda: neighbors.knn_neighbors(*cells, 8),
    ]
    whole = [call() for call in calls]
    monkeypatch.setattr(neighbors, "BLOCK_PAIRS", pairs)
    for call, expected in zip(calls, whole):
        assert all(np.array_equal(a, b) for a, b in zip(call(), expected))


def test_thinning_takes_the_smallest_hashes_exactly(cells):
    """The threshold before the sort must never change the result: compare with a sort of every row's hashes."""
    pos, ptr = cells[0], np.array([0, 500])
    full_ptr, full_cols, _ = neighbors.radius_neighbors(pos, ptr, 60.0, 0.0, None, 0)
    thin_ptr, thin_cols, _ = neighbors.radius_neighbors(pos, ptr, 60.0, 0.0, 5, 42)
    for row in range(500):
        cols = full_cols[full_ptr[row] : full_ptr[row + 1]].astype(np.int64)
        hashes = neighbors._pair_hash(42, row, 1, np.zeros(len(cols), np.int64), cols)
        expected = np.sort(cols[np.argsort(hashes, kind="stable")[:5]])
        assert np.array_equal(thin_cols[thin_ptr[row] : thin_ptr[row + 1]], expected)


def test_rows_short_of_candidates_are_taken_whole(cells, monkeypatch):
    """Hashes so large that the threshold drops whole rows: the kept set must still be the smallest ones."""
    pos, ptr = cells[0], np.array([0, 500])
    honest = neighbors._pair_hash
    high = np.uint64(2**63) + np.uint64(2**62)
    monkeypatch.setattr(neighbors, "_pair_hash", lambda *args: (honest(*args) >> np.uint64(2)) | high)
    indptr, _, _ = neighbors.radius_neighbors(pos, ptr, 90.0, 0.0, 4, 0)
    assert (np.diff(indptr) == 4).all()


def test_co_located_cells_stay_bounded_and_right():
    pos, ptr = np.zeros((300, 2)), np.array([0, 300])
    indptr, _, distance = neighbors.radius_neighbors(pos, ptr, 5.0, 0.0, 10, 0)
    assert (np.diff(indptr) == 10).all()
    assert (distance == 0).all()
    indptr, indices, _ = neighbors.knn_neighbors(pos, ptr, 3)
    assert indices[indptr[0] : indptr[1]].tolist() == [1, 2, 3]
    assert indices[indptr[299] : indptr[300]].tolist() == [0, 1, 2]
