"""Second moments of sums over ordered pairs of cells when one side is permuted: Daniels' general coefficient."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class PairSums(NamedTuple):
    """What the moments need of values b_ij of ordered pairs of cells, i not j; numbers or arrays that broadcast.

    `rows` and `columns` are the sums of squared row sums and column sums, `across` that of row sum times column sum.
    """

    total: np.ndarray | float
    squares: np.ndarray | float
    mutual: np.ndarray | float
    """Sum of b_ij b_ji."""
    rows: np.ndarray | float
    columns: np.ndarray | float
    across: np.ndarray | float

    def by_shared_cells(self) -> tuple[np.ndarray | float, ...]:
        """Sums of b_ij b_kl by what the two pairs share: both cells, both crosswise, a row, a column, a chain, none.

        A chain is counted in one of its two directions.
        """
        rows, columns = self.rows - self.squares, self.columns - self.squares
        across = self.across - self.mutual
        apart = self.total**2 - self.squares - self.mutual - rows - columns - 2 * across
        return self.squares, self.mutual, rows, columns, across, apart


def of_type_pairs(n: np.ndarray) -> PairSums:
    """Of the indicator that the receiver i has one type and the sender j another, for every ordered pair of types.

    `n` (T,) cells of each type; the sums are (T, T), sender type first.
    """
    a, b = n[:, None], n[None, :]
    same = np.eye(len(n), dtype=bool)
    pairs = np.where(same, a * (a - 1), a * b)
    return PairSums(
        total=pairs,
        squares=pairs,
        mutual=np.where(same, pairs, 0.0),
        rows=pairs * np.where(same, a - 1, a),
        columns=pairs * np.where(same, b - 1, b),
        across=np.where(same, pairs * (a - 1), 0.0),
    )


def permutation_moments(
    a: PairSums, b: PairSums, n_cells: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and variance of sum_ij a_ij b_pi(i)pi(j) over all permutations pi of `n_cells` cells, and where it is fixed.

    Exact. E[T^2] is a sum over two ordered pairs of cells; pairs that share no cell, one cell or both are counted apart:
    the sums of products of each kind, divided by the number of ways to choose its cells. Fewer than four cells give NaN
    unless the kinds that need more are empty.

    Source: Daniels 1944, doi:10.2307/2332112.
    """
    n = np.asarray(n_cells, dtype=np.float64)
    two = n * (n - 1)
    three, four = two * (n - 2), two * (n - 2) * (n - 3)
    ways = two, two, three, three, three / 2, four
    second = 0.0
    for left, right, choices in zip(a.by_shared_cells(), b.by_shared_cells(), ways):
        with np.errstate(divide="ignore", invalid="ignore"):
            second = second + np.where(np.equal(choices, 0), 0.0, np.divide(np.multiply(left, right), choices))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(two == 0, 0.0, np.multiply(a.total, b.total) / two)
    variance = second - mean**2
    # What rounding leaves of a difference of equal numbers is no variance.
    fixed = variance <= 1e-13 * (second + mean**2)
    return mean, np.where(fixed, 0.0, variance), fixed
