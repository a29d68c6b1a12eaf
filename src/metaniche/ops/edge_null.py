"""Are the edge scores between two cell types larger than with shuffled types? Exact moments, no permutation drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import choose, native
from metaniche.ops.cuda import edge_null as cuda
from metaniche.ops.expression import check_indices, type_counts
from metaniche.ops.pearson import gamma_tails
from metaniche.ops.permutation_moments import PairSums, of_type_pairs, permutation_moments
from metaniche.ops.reference import edge_null as reference
from metaniche.ops.segment import check_graph


class EdgeNull(NamedTuple):
    """Sums of edge scores by cell type with their null; (T, T) float64 each, sender type first, where the graph is."""

    score: Tensor
    mean: Tensor
    variance: Tensor
    z: Tensor
    p_greater: Tensor
    p_less: Tensor


def edge_scores_null(score_E: Tensor, indptr: Tensor, indices: Tensor, type_N: Tensor, n_types: int) -> EdgeNull:
    """Sums of any per-edge score by the types of sender and receiver, against shuffled types.

    .. math:: T_{ab} = \\sum_{ij: type(j) = a, type(i) = b} w_{ij}

    The scores stay with their edges and the labels are permuted over all cells. Mean and variance of every T over
    the N! permutations are exact; they depend on the scores through six sums only,

    .. math::
        \\sum w, \\; \\sum w_{ij}^2, \\; \\sum w_{ij} w_{ji}, \\; \\sum_i r_i^2, \\; \\sum_i c_i^2, \\;
        \\sum_i r_i c_i, \\quad r_i = \\sum_j w_{ij}, \\; c_j = \\sum_i w_{ij}

    which hold for asymmetric scores too, unlike the two sums S1 and S2 of join counts. The tails are approximate:
    those of the gamma distribution with this mean and variance where no score is negative, else normal; a sum of 0
    has the p_less of a Poisson number of scores. For several samples call this for each and add up scores, means
    and variances.

    Parameters
    ----------
    score_E
        (E,) float score w of each edge.
    indptr, indices
        CSR of the graph: (N + 1,) int64 and (E,) int32, columns ascending within each row, no cell its own
        neighbour; row = receiver.
    type_N, n_types
        (N,) int32 cell type in [0, T), and T.

    Returns
    -------
    EdgeNull. A sum that no permutation changes has z 0 and p-values 1.

    Raises
    ------
    GraphError
        When shapes, dtypes or indices do not fit together, on scores that are not finite, on self-loops, and for fewer
        than 4 cells.

    Sources: Daniels 1944, doi:10.2307/2332112; Mantel 1967.
    """
    return _null(score_E, indptr, indices, type_N, n_types, whole=False)


def neighborhood_enrichment(indptr: Tensor, indices: Tensor, type_N: Tensor, n_types: int) -> EdgeNull:
    """Numbers of edges between types against shuffled types: `edge_scores_null` of score 1 on every edge.

    The z-scores are the limit of squidpy's nhood_enrichment for many permutations. Tails are taken half a step
    beyond each count, since counts are whole (and even within a type where every edge has its reverse).
    """
    ones = torch.ones(indices.shape, dtype=torch.float64, device=indices.device)
    return _null(ones, indptr, indices, type_N, n_types, whole=True)


def _null(score_E, indptr, indices, type_N, n_types, whole) -> EdgeNull:
    n_cells = type_N.numel()
    if n_types < 1 or n_cells < 4:
        raise GraphError(f"Expected n_types >= 1 and at least 4 cells, found {n_types} and {n_cells}.")
    check_indices(type_N, n_types, "type_N")
    check_graph(indptr, indices, n_cells)
    if score_E.shape != indices.shape or not score_E.is_floating_point():
        raise GraphError(
            f"Expected a floating-point score for each of the {indices.numel()} edges, "
            f"found {tuple(score_E.shape)} {score_E.dtype}."
        )
    check_rows_ascend(indptr, indices)
    if not bool(torch.isfinite(score_E).all()):
        raise GraphError(
            f"Expected finite scores, found {int((~torch.isfinite(score_E)).sum())} NaN or infinite ones. Drop their edges."
        )
    score = score_E.detach().to(torch.float64).contiguous()
    n = type_counts(type_N, n_types).double().cpu().numpy()
    run = {"reference": reference.edge_sums, "cpu": _native_sums, "cuda": cuda.edge_sums}
    graph = indptr.contiguous(), indices.contiguous()
    six, by_type = run[choose("edge_scores_null", indices.device)](*graph, score, type_N.contiguous(), n_types)
    mean, variance, fixed = permutation_moments(PairSums(*six.tolist()), of_type_pairs(n), n_cells)
    negative = score.numel() > 0 and bool(score.min() < 0)
    step = _steps(six.tolist(), n_types) if whole else 0.0
    z, greater, less = gamma_tails(by_type.cpu().numpy(), mean, variance, step, not negative)
    z, greater, less = (np.where(fixed, still, x) for still, x in ((0.0, z), (1.0, greater), (1.0, less)))
    fields = by_type, *(torch.from_numpy(field) for field in (mean, variance, z, greater, less))
    return EdgeNull(*(field.to(indices.device) for field in fields))


def _native_sums(indptr, indices, score, type_N, n_types):
    six, by_type = torch.empty(6, dtype=torch.float64), torch.empty(n_types, n_types, dtype=torch.float64)
    native().edge_null_sums(indptr, indices, score, type_N, six, by_type)
    return six, by_type


def _steps(six: list[float], n_types: int) -> np.ndarray:
    """Distance of neighbouring values of each count: 2 within a type when all edges have their reverse, else 1."""
    mutual = six[2] == six[1]
    return np.where(np.eye(n_types, dtype=bool), 2.0 if mutual else 1.0, 1.0)


def check_rows_ascend(indptr: Tensor, indices: Tensor) -> None:
    """GraphError on self-loops and on columns that do not ascend; values are looked at on the CPU only."""
    if indices.device.type != "cpu" or not indices.numel():
        return
    row = torch.arange(indptr.numel() - 1, dtype=torch.int32).repeat_interleave(indptr.diff())
    loops = torch.nonzero(row == indices).flatten()
    if loops.numel():
        raise GraphError(f"Expected no cell to be its own neighbour, found cell {int(row[loops[0]])}. Drop self-loops.")
    falls = torch.nonzero((indices.diff() <= 0) & (row.diff() == 0)).flatten()
    if falls.numel():
        raise GraphError(
            f"Expected `indices` to ascend within each row without repetition, found row {int(row[falls[0]])} out of "
            "order. Sort each row and add up the scores of repeated edges."
        )
