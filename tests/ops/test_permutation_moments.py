import itertools

import numpy as np
import pytest

from metaniche.ops.permutation_moments import PairSums, of_type_pairs, permutation_moments


def sums(b):
    b = b - np.diag(np.diag(b))
    rows, columns = b.sum(1), b.sum(0)
    return PairSums(b.sum(), (b**2).sum(), (b * b.T).sum(), (rows**2).sum(), (columns**2).sum(), (rows * columns).sum())


def all_permutations(a, b):
    a = a - np.diag(np.diag(a))
    orders = itertools.permutations(range(len(a)))
    return np.array([(a * b[np.ix_(order, order)]).sum() for order in map(list, orders)])


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_moments_are_those_of_all_permutations(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n, n))
    every = all_permutations(a, b)
    mean, variance, fixed = permutation_moments(sums(a), sums(b), n)
    assert mean == pytest.approx(every.mean())
    assert variance == pytest.approx(every.var())
    assert not fixed


def test_what_no_permutation_changes_is_fixed():
    a = np.random.default_rng(0).random((5, 5))
    mean, variance, fixed = permutation_moments(sums(a), sums(np.ones((5, 5))), 5)
    assert fixed
    assert variance == 0
    assert mean == pytest.approx(sums(a).total)


def test_sums_of_type_pairs_are_those_of_their_indicators():
    types = np.array([0, 0, 0, 1, 1, 2])
    found = of_type_pairs(np.bincount(types).astype(float))
    for sender, receiver in itertools.product(range(3), repeat=2):
        indicator = ((types[:, None] == receiver) & (types[None, :] == sender)).astype(float)
        assert [part[sender, receiver] for part in found] == pytest.approx(list(sums(indicator)))
