"""Collective transport by the plain loop in the log domain, float64: COMMOT's update, doi:10.1038/s41592-022-01728-4."""

from __future__ import annotations

import numpy as np
from scipy import sparse

Solution = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def transport_solve(
    ligand_NL: np.ndarray,
    receptor_NR: np.ndarray,
    pairs_P2: np.ndarray,
    sample_ptr: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    exponent_E: np.ndarray,
    penalty: float,
    tolerance: float,
    max_iter: int,
) -> Solution:
    """Log scalings (N, L) and (N, R), iterations (S,) and marginal error (S,); `exponent_E` is cost / eps."""
    log_u, log_v = np.full(ligand_NL.shape, -np.inf), np.full(receptor_NR.shape, -np.inf)
    n_samples = len(sample_ptr) - 1
    iterations, error = np.zeros(n_samples, np.int64), np.zeros(n_samples)
    for s, (first, last) in enumerate(zip(sample_ptr[:-1].tolist(), sample_ptr[1:].tolist())):
        rows, edges = slice(first, last), slice(indptr[first], indptr[last])
        problem = _Problem(
            ligand_NL[rows], receptor_NR[rows], pairs_P2, np.diff(indptr[first : last + 1]), indices[edges] - first
        )
        iterations[s], error[s] = problem.solve(exponent_E[edges], penalty, tolerance, max_iter)
        log_u[rows], log_v[rows] = problem.log_u, problem.log_v
    return log_u, log_v, iterations, error


class _Problem:
    """One sample; no more than one number per edge is held at a time."""

    def __init__(self, ligand, receptor, pairs, degrees, senders) -> None:
        self.ligand, self.receptor, self.pairs, self.senders = ligand, receptor, pairs, senders
        self.receivers = np.repeat(np.arange(len(ligand)), degrees)
        with np.errstate(divide="ignore"):
            self.log_a, self.log_b = np.log(ligand), np.log(receptor)
        self.log_u, self.log_v = np.where(ligand > 0, 0.0, -np.inf), np.where(receptor > 0, 0.0, -np.inf)

    def solve(self, exponent: np.ndarray, penalty: float, tolerance: float, max_iter: int) -> tuple[int, float]:
        ligands = np.isin(np.arange(self.ligand.shape[1]), self.pairs[:, 0])
        supply = self.ligand[:, ligands].sum()
        error = 0.0
        for iteration in range(max_iter + 1):
            total = self._totals(exponent, penalty, to_senders=True)
            # The receivers' marginals hold after their update; the senders' show how far the loop is.
            error = np.abs(total - self.ligand)[:, ligands].sum() / supply if supply else 0.0
            if iteration == max_iter or (iteration and error <= tolerance):
                break
            self.log_u += _change(self.log_a, total)
            self.log_v += _change(self.log_b, self._totals(exponent, penalty, to_senders=False))
        return iteration, error

    def _totals(self, exponent: np.ndarray, penalty: float, to_senders: bool) -> np.ndarray:
        """What the cells of one side send (receive) and keep, per ligand (receptor)."""
        log_x = self.log_u if to_senders else self.log_v
        cells, column = (self.senders, 0) if to_senders else (self.receivers, 1)
        total = np.exp(log_x - penalty)
        for pair in self.pairs:
            plan = np.exp(self.log_u[self.senders, pair[0]] + self.log_v[self.receivers, pair[1]] - exponent)
            total[:, pair[column]] += np.bincount(cells, plan, len(total))
        return total


def _change(log_mass: np.ndarray, total: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isneginf(log_mass), 0.0, log_mass - np.log(total))


def transport_amounts(
    u_NC: np.ndarray,
    v_ND: np.ndarray,
    row_column: np.ndarray,
    other_column: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    kernel_E: np.ndarray,
) -> np.ndarray:
    """(N, P) sums over each row of the plans `u[row] * kernel * v[neighbour]`."""
    kernel = sparse.csr_array((kernel_E, indices, indptr), shape=(len(u_NC), len(v_ND)))
    amounts = np.empty((len(u_NC), len(row_column)))
    for p, (own, other) in enumerate(zip(row_column, other_column)):
        amounts[:, p] = u_NC[:, own] * (kernel @ v_ND[:, other])
    return amounts
