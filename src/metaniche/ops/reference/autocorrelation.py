"""The sums behind Moran's I, Geary's C and their bivariate kin, on scipy's sparse products in float64."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def autocorrelation_sums(
    x_NG: np.ndarray, indptr: np.ndarray, indices: np.ndarray, weight_E: np.ndarray, degree_N: np.ndarray
) -> np.ndarray:
    """(G, 4): sum_ij w_ij z_i z_j, sum_i degree_i z_i^2, sum z^2 and sum z^4, z the deviation from the mean."""
    z = x_NG - x_NG.mean(0, dtype=np.float64)
    lag = _matrix(indptr, indices, weight_E) @ z
    return np.stack(((z * lag).sum(0), degree_N @ z**2, (z**2).sum(0), (z**4).sum(0)), 1)


def bivariate_sums(
    x_NA: np.ndarray,
    y_NB: np.ndarray,
    pairs_P2: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    weight_E: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P,) sum_i y_i lag_i; (A, 3) sums of the lag of x, of its square and of x's squared deviation; (B,) of y's."""
    x, y = (values - values.mean(0, dtype=np.float64) for values in (x_NA, y_NB))
    lag = _matrix(indptr, indices, weight_E) @ x
    cross = np.array([lag[:, a] @ y[:, b] for a, b in pairs_P2])
    return cross, np.stack((lag.sum(0), (lag**2).sum(0), (x**2).sum(0)), 1), (y**2).sum(0)


def _matrix(indptr: np.ndarray, indices: np.ndarray, weight_E: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array((weight_E.astype(np.float64), indices, indptr), shape=(len(indptr) - 1,) * 2)
