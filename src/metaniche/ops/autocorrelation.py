"""Spatial autocorrelation of many genes at once, with exact moments under permutation of the cells."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import native
from metaniche.ops.cuda import autocorrelation as cuda
from metaniche.ops.neighbors import CPU, runner
from metaniche.ops.pearson import SMALLEST
from metaniche.ops.reference import autocorrelation as reference
from metaniche.ops.segment import check_graph

# Of the terms that a variance or a sum of weights is the difference of: no more than rounding leaves of one that is 0.
ROUNDING = 1e-12


class Autocorrelation(NamedTuple):
    """Statistic, its exact mean and variance when all permutations are equally likely, z-score and two-sided p.

    All (G,) or (P,) float64 where x is; p is that of a normal with these moments, and never 0. A gene without variance
    has no statistic: NaN. So has the variance of fewer than four cells (bivariate: two). A statistic that no permutation
    changes, as where every cell is the neighbour of every other, has variance 0, z NaN and p 1.
    """

    statistic: Tensor
    expected: Tensor
    variance: Tensor
    z: Tensor
    p: Tensor


def moran(x_NG: Tensor, indptr: Tensor, indices: Tensor, weight_E: Tensor) -> Autocorrelation:
    """Moran's I of every gene, as squidpy's `spatial_autocorr` defines it.

    .. math:: I = \\frac{N}{S_0} \\frac{\\sum_{ij} w_{ij} z_i z_j}{\\sum_i z_i^2}, \\quad z = x - \\bar x,
        \\quad S_0 = \\sum_{ij} w_{ij}

    Mean and variance are those under randomisation, so they include the kurtosis of the gene (Cliff and Ord 1981,
    "Spatial Processes", ISBN 0850860814); squidpy's closed form takes the gene as normal.

    Parameters
    ----------
    x_NG
        (N, G) expression of the cells of one sample, float32 or float64. float32 is summed in float32 over the
        neighbours of a cell and in float64 over cells.
    indptr, indices, weight_E
        CSR of the graph without self edges, (N + 1,) int64 and (E,) int32, and the weight of every edge.

    Raises
    ------
    GraphError
        When shapes, dtypes or values do not fit, on self edges, and when the weights sum to 0 but for rounding.
    """
    graph = _graph(x_NG, indptr, indices, weight_E)
    graph.refuse_self_edges()
    cross, _, squares, fourths = graph.sums()
    squares = graph.of_those_that_vary(squares)
    n, s0, s1, s2 = graph.n, graph.s0, graph.s1, graph.s2
    expected = torch.full_like(cross, -1 / (n - 1) if n > 1 else math.nan)
    kurtosis = n * fourths / squares**2
    spread = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
    peaked = (n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2
    falling = (n - 1) * (n - 2) * (n - 3) * s0**2
    variance = (spread - kurtosis * peaked) / falling - expected**2 if n > 3 else torch.full_like(cross, math.nan)
    terms = n * (n**2 * s1 + n * s2 + 3 * s0**2) + kurtosis * (n**2 * s1 + 2 * n * s2 + 6 * s0**2)
    return _scored(n / s0 * cross / squares, expected, variance, terms / falling if n > 3 else terms)


def geary(x_NG: Tensor, indptr: Tensor, indices: Tensor, weight_E: Tensor) -> Autocorrelation:
    """Geary's C of every gene, as squidpy's `spatial_autocorr` defines it; below 1 where neighbours are alike.

    .. math:: C = \\frac{N - 1}{2 S_0} \\frac{\\sum_{ij} w_{ij} (x_i - x_j)^2}{\\sum_i z_i^2}

    Moments under randomisation (Cliff and Ord 1981), parameters and errors as in `moran`.
    """
    graph = _graph(x_NG, indptr, indices, weight_E)
    graph.refuse_self_edges()
    cross, around, squares, fourths = graph.sums()
    squares = graph.of_those_that_vary(squares)
    n, s0, s1, s2 = graph.n, graph.s0, graph.s1, graph.s2
    kurtosis = n * fourths / squares**2
    variance, terms = torch.full_like(cross, math.nan), torch.zeros_like(cross)
    if n > 3:
        close = (n - 1) * s1 * (n**2 - 3 * n + 3 - (n - 1) * kurtosis)
        shared = (n - 1) * s2 * (n**2 + 3 * n - 6 - (n**2 - n + 2) * kurtosis) / 4
        far = s0**2 * (n**2 - 3 - (n - 1) ** 2 * kurtosis)
        falling = n * (n - 2) * (n - 3) * s0**2
        variance = (close - shared + far) / falling
        terms = n**2 * (n * s1 + s0**2 + (s1 + n * s2 / 4 + s0**2) * kurtosis) / falling
    # w (x_i - x_j)^2 summed over edges: the squares around every cell less twice the cross products.
    statistic = (n - 1) / (2 * s0) * (around - 2 * cross) / squares
    return _scored(statistic, torch.ones_like(cross), variance, terms)


def bivariate_moran(
    x_NA: Tensor, y_NB: Tensor, pairs_P2: Tensor, indptr: Tensor, indices: Tensor, weight_E: Tensor
) -> Autocorrelation:
    """Moran's R of pairs of genes: the correlation of y with what the senders around hold of x.

    .. math:: R = \\frac{N}{S_0} \\frac{\\sum_{ij} w_{ij} y'_i x'_j}{\\sqrt{\\sum_i x_i'^2 \\sum_i y_i'^2}}, \\quad
        x' = x - \\bar x, \\; y' = y - \\bar y

    The global R of SpatialDM (Li et al. 2023, doi:10.1038/s41467-023-39608-w), which LIANA offers as
    "morans", with row i = receiver and column j = sender. Mean and variance are exact for permutations of y over the
    cells with x held: :math:`\\sum_i y'_i l_i` of a fixed lag :math:`l_i = \\sum_j w_{ij} x'_j` has mean 0 and
    variance :math:`\\sum (l_i - \\bar l)^2 \\sum y_i'^2 / (N - 1)`.

    Parameters
    ----------
    x_NA, y_NB
        (N, A) of the senders and (N, B) of the receivers, both float32 or both float64.
    pairs_P2
        (P, 2) int64: columns of x and y.
    indptr, indices, weight_E
        As in `moran`; self edges are allowed.

    Raises
    ------
    GraphError
        When shapes, dtypes or values do not fit, and when the weights sum to 0.
    """
    graph = _graph(x_NA, indptr, indices, weight_E)
    y, y_varies = _checked_values("y_NB", y_NB)
    y = y.to(graph.x.device)
    if y.shape[0] != x_NA.shape[0] or y_NB.dtype != x_NA.dtype:
        raise GraphError(
            f"Expected x and y of one dtype for the same cells, found {tuple(x_NA.shape)} {x_NA.dtype} and "
            f"{tuple(y_NB.shape)} {y_NB.dtype}."
        )
    widths = torch.tensor([x_NA.shape[1], y_NB.shape[1]])
    if pairs_P2.dtype != torch.int64 or pairs_P2.ndim != 2 or pairs_P2.shape[1] != 2:
        raise GraphError(f"Expected `pairs_P2` (P, 2) int64, found {tuple(pairs_P2.shape)} {pairs_P2.dtype}.")
    if ((pairs_P2.cpu() < 0) | (pairs_P2.cpu() >= widths)).any():
        raise GraphError(f"Expected `pairs_P2` to name {widths[0]} columns of x and {widths[1]} of y, found others.")
    cross, lags, y_squares = graph.bivariate_sums(y, pairs_P2)
    a, b = pairs_P2.to(cross.device).unbind(1)
    n = graph.n
    lag_sum, lag_squares, x_squares = lags[a].unbind(1)
    x_squares, y_squares = graph.of_those_that_vary(x_squares, a), _or_nan(y_squares, y_varies)[b]
    scale = n / graph.s0 / (x_squares * y_squares).sqrt()
    spread = (lag_squares - lag_sum**2 / n).clamp(min=0)
    shuffled = scale**2 * y_squares / max(n - 1, 1)
    variance = shuffled * spread if n > 1 else torch.full_like(cross, math.nan)
    # No sum of squared lags is larger.
    terms = shuffled * x_squares * graph.sum_of_squared_weights()
    return _scored(scale * cross, torch.zeros_like(cross), variance, terms)


def _scored(statistic: Tensor, expected: Tensor, variance: Tensor, terms: Tensor) -> Autocorrelation:
    """`terms`: how large what the variance is the difference of may be."""
    fixed = variance <= ROUNDING * terms
    z = torch.where(fixed, math.nan, (statistic - expected) / variance.sqrt())
    p = torch.where(fixed, 1.0, torch.erfc(z.abs() / math.sqrt(2)).clamp(min=SMALLEST))
    return Autocorrelation(statistic, expected, torch.where(fixed, 0.0, variance), z, p)


def _graph(x: Tensor, indptr: Tensor, indices: Tensor, weight_E: Tensor) -> _HostGraph | _CudaGraph:
    chosen = runner("autocorrelation", x)
    return (
        _CudaGraph(x, indptr, indices, weight_E, x.device)
        if chosen == "cuda"
        else (_HostGraph(x, indptr, indices, weight_E, CPU, chosen))
    )


class _Graph:
    """Checked values and graph where they are summed; Cliff and Ord's sums of weights are its subclasses'."""

    def __init__(
        self, x: Tensor, indptr: Tensor, indices: Tensor, weight_E: Tensor, device: torch.device, runs: str = "cuda"
    ) -> None:
        values, self.varies = _checked_values("x", x)
        self.x, self.home, self.runs = values.to(device), x.device, runs
        n = self.x.shape[0]
        weight = weight_E.detach().to(device).contiguous()
        # Where they lie there already the very tensors: what is kept of a graph is found by them.
        pointer, columns = indptr.to(device).contiguous(), indices.to(device).contiguous()
        check_graph(pointer, columns, n, on_device=True)
        if weight.shape != columns.shape or not weight.is_floating_point() or not torch.isfinite(weight).all():
            raise GraphError(
                f"Expected `weight_E` of shape {tuple(columns.shape)}, a float type and finite, "
                f"found {tuple(weight.shape)} {weight.dtype}."
            )
        self.n, self.csr, self.weight = n, (pointer, columns), weight
        self.s0 = self.sum_of_weights()
        if abs(self.s0) <= ROUNDING * float(weight.abs().sum(dtype=torch.float64)):
            raise GraphError(f"Expected weights that do not sum to 0, found {columns.numel()} edges that do.")

    def of_those_that_vary(self, squares: Tensor, columns: Tensor | slice = slice(None)) -> Tensor:
        """Sums of squares of these columns of x; NaN where there is nothing but what rounding left of a constant."""
        return _or_nan(squares, self.varies[columns])

    def sum_of_squared_weights(self) -> float:
        return float(self.weight.double().square().sum())

    @property
    def s2(self) -> float:
        return float((self.degree**2).sum())

    def refuse_self_edges(self) -> None:
        if self.loops:
            raise GraphError(
                f"Expected no cell as its own neighbour, found {self.loops} that are. Drop the self edges."
            )


class _CudaGraph(_Graph):
    def sum_of_weights(self) -> float:
        return float(self.weight.sum(dtype=torch.float64))

    def refuse_self_edges(self) -> None:
        self.degree, self.s1, self.loops = cuda.weight_sums(*self.csr, self.weight)
        super().refuse_self_edges()

    def sums(self) -> tuple[Tensor, ...]:
        return cuda.spatial_sums(self.x, *self.csr, self.weight.to(self.x.dtype), self.degree).unbind(1)

    def bivariate_sums(self, y: Tensor, pairs: Tensor) -> tuple[Tensor, ...]:
        return cuda.bivariate_sums(self.x, y, pairs.to(y.device), *self.csr, self.weight.to(self.x.dtype))


class _HostGraph(_Graph):
    def sum_of_weights(self) -> float:
        pointer, columns = (part.numpy() for part in self.csr)
        # A copy: scipy joins repeated edges in place.
        self.matrix = sparse.csr_array((self.weight.numpy().astype(np.float64), columns.copy(), pointer.copy()))
        self.matrix.resize((self.n, self.n))
        return float(self.matrix.sum())

    @property
    def loops(self) -> int:
        return int(np.count_nonzero(self.matrix.diagonal()))

    @property
    def degree(self) -> np.ndarray:
        """(N,) weights of the edges to and from each cell."""
        return np.asarray(self.matrix.sum(0) + self.matrix.sum(1)).ravel()

    @property
    def s1(self) -> float:
        """Half the sum of (w_ij + w_ji)^2."""
        self.matrix.sum_duplicates()
        return float((self.matrix.data**2).sum() + self.matrix.multiply(self.matrix.T.tocsr()).sum())

    def sums(self) -> tuple[Tensor, ...]:
        x, csr = self.x.numpy(), [part.numpy() for part in self.csr]
        degree, weight = self.degree, self.weight.numpy().astype(x.dtype)
        if self.runs == "reference":
            sums = reference.autocorrelation_sums(x, *csr, weight, degree)
        else:
            sums = np.empty((x.shape[1], 4))
            native().autocorrelation_sums(x, *csr, weight, degree, sums)
        return torch.from_numpy(sums).to(self.home).unbind(1)

    def bivariate_sums(self, y: Tensor, pairs: Tensor) -> tuple[Tensor, ...]:
        args = self.x.numpy(), y.numpy(), pairs.cpu().numpy().astype(np.int32, order="C")
        args = *args, *(part.numpy() for part in self.csr), self.weight.numpy().astype(args[0].dtype)
        if self.runs == "reference":
            sums = reference.bivariate_sums(*args)
        else:
            sums = np.empty(len(pairs)), np.empty((self.x.shape[1], 3)), np.empty(y.shape[1])
            native().bivariate_sums(*args, *sums)
        return tuple(torch.from_numpy(part).to(self.home) for part in sums)


def _or_nan(squares: Tensor, varies: Tensor) -> Tensor:
    return torch.where(varies.to(squares.device), squares, math.nan)


def _checked_values(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """The values, and (columns,) bool where they vary."""
    if x.ndim == 2 and x.is_floating_point():
        low, high = torch.aminmax(x, dim=0) if x.numel() else (x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1]))
        finite = bool((torch.isfinite(low) & torch.isfinite(high)).all())  # NaN passes through
        if finite and x.dtype in (torch.float32, torch.float64):
            return x.detach().contiguous(), low < high
    raise GraphError(f"Expected `{name}` (N, columns) float32 or float64 and finite, found {tuple(x.shape)} {x.dtype}.")
