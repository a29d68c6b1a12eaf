"""Where in the tissue a ligand and its receptor stand together: local bivariate statistics, and their global values."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.special import erfc
from scipy.stats import false_discovery_control
from torch import Tensor

from metaniche.errors import ConfigError, GraphError
from metaniche.graph import CellGraph
from metaniche.io.wording import listed
from metaniche.ops import bivariate_moran
from metaniche.ops.pearson import SMALLEST
from metaniche.signaling.csr import to_scipy
from metaniche.signaling.expression import PairExpression
from metaniche.signaling.signal_config import SignalConfig

log = logging.getLogger(__name__)

STATISTICS = ("moran", "lee", "cosine")
ASSOCIATION = ("ligand", "receptor", "value", "expected", "variance", "z", "p")
NUMBERS = ASSOCIATION[2:]
PAIRS_AT_ONCE = 16
# Of the largest value that a sum may have: no more than rounding leaves of one that is 0.
ROUNDING = 1e-12
CLIP = 10.0  # of z-scores, LIANA's
COSINE_FLOOR = float(np.finfo(np.float32).eps)


def local_association(
    expression: PairExpression,
    graph: CellGraph,
    weight_E: Tensor,
    pairs: Sequence[int],
    statistic: str = "moran",
    *,
    self_weight: float = 0.0,
    clip: float = CLIP,
) -> Tensor:
    """How much of the ligand and of the receptor of each chosen pair stands together at each cell, as LIANA+ scores it.

    With ligand x and receptor y of a pair, their z-scores :math:`z` over all cells (standard deviation over N, cut off at
    `clip`), weights w of the edges j -> i and :math:`S_0` their sum,

    .. math::
        \\text{moran:} \\quad R_i = \\frac{N}{S_0} \\Big(z^x_i \\sum_j w_{ij} z^y_j + z^y_i \\sum_j w_{ij} z^x_j\\Big)

        \\text{lee:} \\quad L_i = \\Big(\\sum_j w_{ij} z^x_j\\Big) \\Big(\\sum_j w_{ij} z^y_j\\Big)

        \\text{cosine:} \\quad c_i = \\frac{\\sum_j w_{ij} x_j y_j}
        {\\sqrt{\\sum_j w_{ij} x_j^2 \\sum_j w_{ij} y_j^2 + \\epsilon}}, \\quad \\epsilon = 2^{-23}

    Over the cells the first has a mean of 2 R where weights are symmetric and nothing was cut off, the second a sum of
    :math:`L \\sum_i (\\sum_j w_{ij})^2`, R and L as in `global_association`. Both are unit-free; the first does not change
    with the scale of the weights, the second does with its square. Lee's own local form (2001) divides the second by the
    mean of the squared row sums, which is 1 for weights that sum to 1 in each row. The cosine is in [0, 1]; its floor
    matters where the two sums are of its size, so weights near 1 are best.

    Parameters
    ----------
    expression
        Of the cells of one sample.
    graph, weight_E
        The edges, and (E,) the weight of each, 0 or above, such as a decay with distance.
    pairs
        Positions in `expression`; the result has a column for each.
    statistic
        moran, lee or cosine.
    self_weight
        Weight of a cell among its own neighbours. With 0 a cell's own value does not count in sums over neighbours.
    clip
        Bound of the z-scores: LIANA's is 10; `inf` cuts nothing off.

    Returns
    -------
    (N, len(pairs)) float32. A gene that does not vary has no z-score: its columns are NaN for moran and lee. The cosine
    is 0 where a neighbourhood holds nothing of one side. Beside the result memory is O(E) and that of 16 pairs.

    Raises
    ------
    ConfigError
        For an unknown statistic, a negative `self_weight` or a `clip` that is not above 0.
    GraphError
        When cells or weights do not fit the graph, weights are negative, not finite or all 0, the graph has several
        samples, or a pair is not there.

    Sources: LIANA+ (Dimitrov et al. 2024, doi:10.1038/s41556-024-01469-w); Lee 2001, doi:10.1007/s101090100064; the local R
    is SpatialDM's (Li et al. 2023, doi:10.1038/s41467-023-39608-w).
    """
    weight = _weights(expression, graph, weight_E, statistic, self_weight, clip)
    positions = np.asarray(pairs, dtype=np.int64)
    wrong = positions[(positions < 0) | (positions >= expression.n_pairs)]
    if positions.ndim != 1 or len(wrong):
        raise GraphError(
            f"Expected positions of pairs in [0, {expression.n_pairs}), found {listed(np.unique(wrong))}. "
            "Count them in expression.pairs."
        )
    out = np.empty((graph.n_cells, len(positions)), np.float32)
    for block, scored in _blocks(expression.select(positions), weight, statistic, clip):
        out[:, block] = scored.local
    return torch.from_numpy(out)


def local_scores(
    expression: PairExpression, graph: CellGraph, config: SignalConfig, statistic: str = "moran"
) -> pd.DataFrame:
    """`local_association` of all pairs, each over the reach of its signaling type: a row per cell, a column
    "ligand - receptor" per pair.
    """
    out = np.full((graph.n_cells, expression.n_pairs), np.nan, np.float32)
    for mine, weight in _within_reach(expression, graph, config, statistic):
        for block, scored in _blocks(expression.select(mine), weight, statistic):
            out[:, mine[block]] = scored.local
    return pd.DataFrame(out, columns=expression.names, copy=False)


def global_scores(
    expression: PairExpression,
    graph: CellGraph,
    config: SignalConfig,
    statistic: str = "moran",
    *,
    local: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> pd.DataFrame:
    """`global_association` of all pairs, each over the reach of its signaling type, with `q` (Benjamini and Hochberg) over
    those that have a p; smallest p first. Pairs out of reach are left out.

    `local`, a float32 array with a column for each pair, has `local_scores` written into the rows of the cells, `rows` (N,), in
    the same pass.
    """
    parts = []
    for mine, weight in _within_reach(expression, graph, config, statistic):
        part = expression.select(mine)
        found = np.full((part.n_pairs, len(NUMBERS)), np.nan)
        for block, scored in _blocks(part, weight, statistic):
            found[block] = scored.overall()
            if local is not None:
                local[np.ix_(rows, mine[block])] = scored.local
        parts.append(_named(part, found))
    if not parts:
        return pd.DataFrame(columns=[*ASSOCIATION, "q"])
    table = pd.concat(parts, ignore_index=True)
    tested = table["p"].notna()
    table.loc[tested, "q"] = false_discovery_control(table.loc[tested, "p"]) if tested.any() else np.nan
    return table.sort_values("p", kind="stable", ignore_index=True)


def _within_reach(
    expression: PairExpression, graph: CellGraph, config: SignalConfig, statistic: str
) -> Iterator[tuple[np.ndarray, sparse.csr_array]]:
    """(positions of the pairs, weights as `_weights`) of each signaling type of which an edge carries any signal."""
    for kind, mine in expression.by_signaling_type():
        weight = config.edge_weights(kind, graph)
        if bool((weight > 0).any()):
            yield mine, _weights(expression, graph, weight, statistic)
        else:
            log.warning("No edge carries signals of %s: their %d pairs are not scored.", kind, len(mine))


def global_association(
    expression: PairExpression,
    graph: CellGraph,
    weight_E: Tensor,
    statistic: str = "moran",
    *,
    self_weight: float = 0.0,
    clip: float = CLIP,
) -> pd.DataFrame:
    """One number per pair for the whole sample, with its null where that is known in closed form.

    .. math::
        \\text{moran:} \\quad R = \\frac{1}{S_0} \\sum_{ij} w_{ij} z^y_i z^x_j, \\qquad
        \\text{lee:} \\quad L = \\frac{\\sum_i (\\sum_j w_{ij} z^x_j) (\\sum_j w_{ij} z^y_j)}{\\sum_i (\\sum_j w_{ij})^2}

    cosine: the mean of its local values, without a null. R is `ops.bivariate_moran` (Wartenberg 1985,
    doi:10.1111/j.1538-4632.1985.tb00849.x), whose z-scores are not cut off; L is Lee's (2001, doi:10.1007/s101090100064).

    The null of these two holds the ligand and permutes the receptor over all cells, all orders alike; mean and variance
    are exact, p is two-sided and that of a normal with these moments, never 0. Where no order changes the value z is NaN
    and p 1. It is valid where one of the two does not lie in patches of its own; where both do, p is too small. What a
    cell has of both sides itself, as in any tissue of several types, counts as association in L (and in R with a
    `self_weight`).

    Parameters and errors as in `local_association`; choose pairs with `expression.select`.

    Returns
    -------
    A row per pair, in their order: `ligand`, `receptor`, `value`, `expected`, `variance`, `z`, `p`; NaN for a gene that
    does not vary (moran, lee), and for the null of the cosine.
    """
    weight = _weights(expression, graph, weight_E, statistic, self_weight, clip)
    found = np.full((expression.n_pairs, len(NUMBERS)), np.nan)
    for block, scored in _blocks(expression, weight, statistic, clip):
        found[block] = scored.overall()
    return _named(expression, found)


def _named(expression: PairExpression, found: np.ndarray) -> pd.DataFrame:
    """NUMBERS (P, 5) with the names of their pairs in front."""
    table = expression.pairs[list(ASSOCIATION[:2])].reset_index(drop=True)
    return table.join(pd.DataFrame(found, columns=list(NUMBERS)))


@dataclass(frozen=True)
class _Scored:
    """Ligands x and receptors y (N, at most 16) of some pairs; what is asked for is worked out once."""

    weight: sparse.csr_array
    x: np.ndarray
    y: np.ndarray
    statistic: str
    clip: float

    @cached_property
    def local(self) -> np.ndarray:
        """(N, P)"""
        if self.statistic == "cosine":
            return _local_cosine(self.weight, self.x, self.y)
        return (_local_moran if self.statistic == "moran" else _local_lee)(self.weight, *self._standardised)

    def overall(self) -> np.ndarray:
        """(P, 5) NUMBERS."""
        if self.statistic == "moran":
            return _global_moran(self.weight, self.x, self.y)
        if self.statistic == "lee":
            return _global_lee(self.weight, *self._standardised)
        return np.pad(self.local.mean(0)[:, None], ((0, 0), (0, len(NUMBERS) - 1)), constant_values=np.nan)

    @cached_property
    def _standardised(self) -> tuple[np.ndarray, np.ndarray]:
        return _standardised(self.x, self.clip), _standardised(self.y, self.clip)


def _local_moran(weight: sparse.csr_array, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (weight.shape[0] / weight.sum()) * (x * (weight @ y) + y * (weight @ x))


def _local_lee(weight: sparse.csr_array, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (weight @ x) * (weight @ y)


def _local_cosine(weight: sparse.csr_array, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (weight @ (x * y)) / np.sqrt((weight @ x**2) * (weight @ y**2) + COSINE_FLOOR)


def _global_moran(weight: sparse.csr_array, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(P, 5) for columns of x with the same columns of y."""
    own = torch.arange(x.shape[1])
    graph = torch.from_numpy(weight.indptr.astype(np.int64)), torch.from_numpy(weight.indices.astype(np.int32))
    found = bivariate_moran(
        *map(torch.from_numpy, (x, y)), torch.stack((own, own), 1), *graph, torch.from_numpy(weight.data)
    )
    return torch.stack(list(found), 1).numpy()


def _global_lee(weight: sparse.csr_array, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(P, 5) for z-scores: `sum y_i l_i` of the fixed `l = W'W x`, against permuted y."""
    n, scale = len(x), 1 / float((np.asarray(weight.sum(1)) ** 2).sum())
    reach = (weight.T @ (weight @ x)) * scale
    value, expected = (y * reach).sum(0), y.mean(0) * reach.sum(0)
    variance = ((reach - reach.mean(0)) ** 2).sum(0) * ((y - y.mean(0)) ** 2).sum(0) / max(n - 1, 1)
    # `reach` is at most this long.
    longest = float((weight.data**2).sum()) * scale * np.sqrt((x**2).sum(0))
    fixed = ((reach - reach.mean(0)) ** 2).sum(0) <= (ROUNDING * longest) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(fixed, np.nan, (value - expected) / np.sqrt(variance))
    p = np.where(fixed, 1.0, np.maximum(erfc(np.abs(z) / np.sqrt(2)), SMALLEST))
    return np.stack((value, expected, np.where(fixed, 0.0, variance), z, p), 1)


def _standardised(x: np.ndarray, clip: float) -> np.ndarray:
    """z-scores of the columns, within the bound; NaN where a column does not vary."""
    # Exactly 0 for a constant: float32 values have an exact mean in float64.
    spread = x.std(0)
    return np.clip((x - x.mean(0)) / np.where(spread > 0, spread, np.nan), -clip, clip)


def _blocks(
    expression: PairExpression, weight: sparse.csr_array, statistic: str, clip: float = CLIP
) -> Iterator[tuple[slice, _Scored]]:
    """(pairs, their scores), 16 at a time: dense (N, 16) float64."""
    ligand, receptor = (to_scipy(side).tocsc() for side in (expression.ligand_NL, expression.receptor_NR))
    for first in range(0, expression.n_pairs, PAIRS_AT_ONCE):
        block = slice(first, min(first + PAIRS_AT_ONCE, expression.n_pairs))
        columns = expression.lig_P[block].numpy(), expression.rec_P[block].numpy()
        sides = (side[:, c].toarray().astype(np.float64) for side, c in zip((ligand, receptor), columns))
        yield block, _Scored(weight, *sides, statistic, clip)


def _weights(
    expression: PairExpression,
    graph: CellGraph,
    weight_E: Tensor,
    statistic: str,
    self_weight: float = 0.0,
    clip: float = CLIP,
) -> sparse.csr_array:
    """(N, N) float64, row = receiver, with the weight of each cell on itself."""
    if statistic not in STATISTICS or not 0 <= self_weight < np.inf or not clip > 0:
        raise ConfigError(
            f"Expected a statistic in {STATISTICS}, self_weight of 0 or above and clip above 0, found {statistic!r}, "
            f"{self_weight} and {clip}."
        )
    n = graph.n_cells
    if graph.n_samples != 1 or expression.ligand_NL.shape[0] != n:
        raise GraphError(
            f"Expected expression of the {n} cells of one sample, found {expression.ligand_NL.shape[0]} rows and "
            f"{graph.n_samples} samples. Call once for each sample."
        )
    if weight_E.shape != graph.indices.shape or not bool((torch.isfinite(weight_E) & (weight_E >= 0)).all()):
        raise GraphError(
            f"Expected a finite weight of 0 or above for each of {graph.n_edges} edges, found shape "
            f"{tuple(weight_E.shape)} with {int((~(weight_E >= 0)).sum())} negative or NaN."
        )
    values = weight_E.double().numpy(), graph.indices.numpy(), graph.indptr.numpy()
    weight = sparse.csr_array(values, shape=(n, n))
    if self_weight:
        weight = sparse.csr_array(weight + self_weight * sparse.eye_array(n))
    if not weight.sum() > 0:
        raise GraphError(
            f"Expected weights that sum to more than 0, found {graph.n_edges} edges that do not. Take a longer decay, or "
            "a larger radius_um of the graph."
        )
    return weight
