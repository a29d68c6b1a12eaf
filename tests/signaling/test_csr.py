import numpy as np
import torch
from scipy import sparse

from metaniche.signaling.csr import map_values, one_hot, take_rows, to_scipy, to_torch


def test_there_and_back():
    x = np.random.default_rng(0).poisson(0.5, (7, 5)).astype(np.float32)
    for given in (x, sparse.csr_array(x), sparse.csc_matrix(x)):
        there = to_torch(given)
        assert there.layout == torch.sparse_csr
        assert there.dtype == torch.float32
        np.testing.assert_array_equal(there.to_dense(), x)
        np.testing.assert_array_equal(to_scipy(there).toarray(), x)


def test_repeated_and_stored_zeros_do_not_stay():
    twice = sparse.coo_array(([1.0, 2.0, 0.0], ([0, 0, 1], [1, 1, 0])), shape=(2, 2))
    there = to_torch(twice)
    assert there.values().tolist() == [3.0]


def test_other_values_at_the_same_places():
    x = to_torch(np.diag([1.0, 4.0, 9.0]))
    np.testing.assert_array_equal(map_values(x, x.values().sqrt()).to_dense(), np.diag([1.0, 2.0, 3.0]))


def test_rows_are_taken_in_any_order_and_more_than_once():
    x = np.random.default_rng(1).poisson(0.7, (9, 4)).astype(np.float32)
    rows = torch.tensor([8, 0, 0, 3, 5])
    np.testing.assert_array_equal(take_rows(to_torch(x), rows).to_dense(), x[rows])
    assert take_rows(to_torch(x), rows[:0]).to_dense().shape == (0, 4)


def test_one_hot():
    assert one_hot(torch.tensor([2, 0, 2], dtype=torch.int32), 3).to_dense().tolist() == [
        [0, 0, 1],
        [1, 0, 0],
        [0, 0, 1],
    ]
