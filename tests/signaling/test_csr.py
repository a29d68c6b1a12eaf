import numpy as np
import torch
from scipy import sparse

from metaniche.signaling.csr import map_values, sums_by_type, to_scipy, to_torch


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


def test_sums_by_type_are_those_of_the_dense_table():
    x = np.random.default_rng(1).poisson(0.7, (9, 4)).astype(np.float32)
    types = torch.tensor([0, 2, 2, 0, 0, 2, 0, 2, 2], dtype=torch.int32)
    sparse_x = to_torch(x)
    found = sums_by_type(sparse_x, sparse_x.values() ** 2, types, 3)
    expected = np.stack([(x[types.numpy() == t] ** 2).sum(0) for t in range(3)])
    np.testing.assert_array_equal(found, expected)
