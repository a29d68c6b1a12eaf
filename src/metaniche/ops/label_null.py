"""Is a ligand-receptor score of two cell types larger than with shuffled types? Closed form and exact permutations."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaniche.errors import GraphError
from metaniche.ops.backend import native
from metaniche.ops.cuda import label_moments as cuda_moments
from metaniche.ops.cuda import label_null as cuda
from metaniche.ops.cuda.by_gene import by_gene
from metaniche.ops.expression import Expression, check_indices, type_counts
from metaniche.ops.ligrec import pairs_by_gene
from metaniche.ops.neighbors import CPU, runner
from metaniche.ops.offsets import least_of_genes, without_offsets
from metaniche.ops.pearson import pearson3_tail
from metaniche.ops.reference import label_null as reference
from metaniche.ops.steps import steps_of

PAIRS_A_BLOCK = 256
GENES_A_PANEL = 32
MAX_TYPES = 2**8
# Of the terms that a variance is the difference of: no more than rounding leaves of one that is 0.
ROUNDING = 1e-13
# Above this share of the cells, adding up all of them is faster than those that express a gene.
EXPRESSED_BY_MANY = 0.15


class MomentNull(NamedTuple):
    """Scores (T, T, P) float64, sender type first, with the moments of their null and the tail beyond each score.

    All lie where the expression does.
    """

    score: Tensor
    mean: Tensor
    """(P,) the same for all types."""
    variance: Tensor
    skewness: Tensor
    p_value: Tensor


class PermutationNull(NamedTuple):
    """Scores (T, T, P) float64, sender type first, with the permutations drawn and those that reach each score."""

    score: Tensor
    reached: Tensor
    """(T, T, P) int32."""
    drawn: Tensor
    """(T, T, P) int32; the number asked for, less where a test stopped early."""
    p_value: Tensor


def cluster_means_null(x_NG: Tensor, type_N: Tensor, n_types: int, lig_P: Tensor, rec_P: Tensor) -> MomentNull:
    """Closed-form p-values of the sum of two cluster means under permutation of the labels over cells.

    .. math:: score_{abp} = \\overline{x}_{a,lig(p)} + \\overline{x}_{b,rec(p)}

    The statistic of CellPhoneDB and of squidpy's ligrec (they halve it, which changes no p-value). Its mean,
    variance and third central moment over all N! permutations are exact: a cluster is a sample without
    replacement, for a = b of the sum of the two genes. With n of N cells, central moments m of the genes and
    :math:`a \\ne b`

    .. math::
        Var[\\overline x_a] = m_2 \\frac{N-n_a}{n_a(N-1)}, \\;
        Cov[\\overline x_a, \\overline y_b] = -\\frac{m_{11}}{N-1}, \\;
        E[\\overline x_a^3] = m_3 \\frac{(N-n_a)(N-2n_a)}{n_a^2(N-1)(N-2)}, \\;
        E[\\overline x_a^2 \\overline y_b] = -m_{21} \\frac{N-2n_a}{n_a(N-1)(N-2)}

    and the tail is that of the Pearson III distribution with these three moments, which is an approximation. Where most
    cells are of the type and few cells hold most of the expression, that law would end below values which permutations
    reach: there it is the gamma law of what the other cells express, with two of the moments. Such p-values are too large
    rather than too small: of lognormal expression (sigma 1.5) with 2 % of 1000 cells outside the cluster 1.6 % are below
    0.05. A gene of which every value lies far from 0 is summed from its least value, in a copy of the expression.

    Parameters
    ----------
    x_NG
        (N, G) float32 expression, dense or torch.sparse_csr.
    type_N, n_types
        (N,) int32 cell type in [0, T), and T.
    lig_P, rec_P
        (P,) int32 columns of each pair's ligand and receptor.

    Returns
    -------
    MomentNull. A type without cells has score and p-value NaN; a score that no permutation changes has p-value 1.

    Raises
    ------
    GraphError
        When shapes, dtypes or indices do not fit together.

    Sources: Efremova et al. 2020, doi:10.1038/s41596-020-0292-x (statistic); Cochran, Sampling Techniques, 1977.
    """
    x = _checked(x_NG, type_N, n_types, lig_P, rec_P)
    n = type_counts(type_N, n_types).double().cpu().numpy()
    x, offset_G = without_offsets(x, torch.cat((lig_P, rec_P)))
    power_G3, sum_TG, cross_P3 = _raw_moments(x, type_N, n_types, lig_P, rec_P)
    lig, rec = lig_P.cpu().numpy(), rec_P.cpu().numpy()
    genes, cross = _central_moments(power_G3, cross_P3, x.shape[0], lig, rec)
    mean_TG = sum_TG / np.where(n > 0, n, np.nan)[:, None]
    # How far a score may lie above its mean: with the least expression there is in all other cells.
    least_G, others = least_of_genes(x).double().cpu().numpy(), x.shape[0] / np.maximum(n, 1) - 1
    offset_P = (offset_G[lig_P.long()] + offset_G[rec_P.long()]).cpu().numpy()
    fields = [np.empty((n_types, n_types, len(lig))) for _ in range(4)]
    for first in range(0, len(lig), PAIRS_A_BLOCK):
        block = slice(first, first + PAIRS_A_BLOCK)
        left, right = genes[lig[block]], genes[rec[block]]
        variance, third = _moments_of_sums(left, right, cross[block], n, x.shape[0])
        score = mean_TG[:, None, lig[block]] + mean_TG[None, :, rec[block]]
        away = score - (left[:, 0] + right[:, 0])
        room = left[:, 0] - least_G[lig[block]], right[:, 0] - least_G[rec[block]]
        farthest = room[0] * others[:, None, None] + room[1] * others[None, :, None]
        results = score + offset_P[block], variance, *_tails(away, variance, third, farthest, x.values.device)
        for field, result in zip(fields, results):
            field[..., block] = result
    score, *others = fields
    fields = score, genes[lig, 0] + genes[rec, 0] + offset_P, *others
    return MomentNull(*(torch.from_numpy(field).to(x.values.device) for field in fields))


def cluster_means_permutations(
    x_NG: Tensor,
    type_N: Tensor,
    n_types: int,
    lig_P: Tensor,
    rec_P: Tensor,
    n_permutations: int = 1000,
    *,
    seed: int = 0,
    stop_after: int | None = None,
) -> PermutationNull:
    """Permutation p-values of the scores of `cluster_means_null`: exact for any cluster size.

    Permutation k is a Fisher-Yates shuffle whose draws are a hash of (seed, k, position): the same on any device
    and for any number of threads. With b of n permuted scores at least as large as the one seen, p = (b + 1) /
    (n + 1), which is never 0. With `stop_after` = h a test stops at the permutation l that reaches its score for
    the h-th time, with p = h / l. Values are rounded to 15 bits of their gene's largest (whole numbers up to 32767
    are kept) so that all sums are exact integers, in the score seen as in the permuted ones; where an outlier makes
    that coarse for the other cells, a warning says so.

    Memory is at most 6 bytes for each value that is not 0 of the pairs' genes (2 N for each gene that many cells
    express, on the CPU) and 24 T^2 P for the counts. On the CPU come N for the labels and, for each thread, 9 N and
    256 T for each gene of the pairs; on a GPU 288 N for the permutations in flight, 256 T for each gene and, for a
    moment, some 50 bytes for each value.

    Parameters
    ----------
    x_NG, type_N, n_types, lig_P, rec_P
        As in `cluster_means_null`; finite, and at most 256 types.
    n_permutations
        At most this many for each test.
    seed
        Of the permutations.
    stop_after
        Besag and Clifford's h, such as 20; None draws all permutations for every test.

    Returns
    -------
    PermutationNull. A type without cells has score and p-value NaN.

    Raises
    ------
    GraphError
        As in `cluster_means_null`, and for expression that is not finite.

    Sources: Phipson and Smyth 2010, doi:10.2202/1544-6115.1585; Besag and Clifford 1991,
    doi:10.1093/biomet/78.2.301.
    """
    x = _checked(x_NG, type_N, n_types, lig_P, rec_P)
    if n_permutations < 1 or (stop_after is not None and stop_after < 1) or n_types > MAX_TYPES:
        raise GraphError(
            f"Expected n_permutations >= 1, stop_after >= 1 or None and n_types <= {MAX_TYPES}, "
            f"found {n_permutations}, {stop_after} and {n_types}."
        )
    runs, device = runner("cluster_means_permutations", x.values), x.values.device
    if runs != "cuda":
        x, type_N, lig_P, rec_P = (given.to(CPU) for given in (x, type_N, lig_P, rec_P))
    n = type_counts(type_N, n_types).double()
    scale, lig_P, rec_P, count = (_cuda_steps if runs == "cuda" else _host_steps)(x, lig_P, rec_P, runs)
    factor = torch.where(n > 0, scale[:, None] / n, 0.0)
    enough = 2**31 - 1 if stop_after is None else stop_after
    score, reached, drawn = count(scale, type_N, factor, lig_P, rec_P, n_permutations, seed % 2**64, enough)
    stopped = reached >= enough
    p_value = torch.where(stopped, reached / drawn.double(), (reached.double() + 1) / (drawn.double() + 1))
    empty = n == 0
    for field in (score, p_value):
        field[:, empty] = torch.nan
        field[:, :, empty] = torch.nan
    return PermutationNull(*(field.permute(1, 2, 0).to(device) for field in (score, reached, drawn, p_value)))


def _host_steps(x, lig_P, rec_P, runs):
    """(genes,) scale of the genes of the pairs, the pairs as positions among them, and what counts permutations."""
    largest_G, whole_G, count_G = (_native_ranges if runs == "cpu" else reference.ranges)(x)
    _check_finite(largest_G)
    genes, lig_P, rec_P = _genes_of_pairs(lig_P, rec_P, count_G < EXPRESSED_BY_MANY * x.shape[0])
    count = partial(_native_counts if runs == "cpu" else reference.permutation_counts, x, genes, count_G)
    return steps_of(x, genes, largest_G[genes], whole_G[genes]), lig_P, rec_P, count


def _cuda_steps(x, lig_P, rec_P, _):
    """As `_host_steps`; genes of no pair are looked at for finite values only."""
    if x.values.numel():
        _check_finite(torch.stack(torch.aminmax(x.values.detach())))
    genes, lig_P, rec_P = _genes_of_pairs(lig_P, rec_P, lig_P.new_zeros(x.shape[1]))
    entries = by_gene(x, genes)
    return steps_of(x, genes, *cuda.ranges(entries)), lig_P, rec_P, partial(cuda.permutation_counts, entries)


def _check_finite(extremes: Tensor) -> None:
    if not torch.isfinite(extremes).all():
        raise GraphError("Expected `x_NG` to be finite, found NaN or infinite values. Drop these cells or genes.")


def _native_counts(x, genes, count_G, scale, type_N, factor, lig_P, rec_P, n_permutations, seed, enough):
    """Scores (P, T, T), permutations that reach them and permutations drawn; genes run from common to rare."""
    steps = _native_steps(x, genes, scale, count_G)
    labels = type_N.to(torch.uint8)
    needed = torch.ones(len(genes), dtype=torch.uint8)
    means = torch.empty(1, *factor.shape, dtype=torch.float64)
    native().label_null_means(*steps, needed, labels, seed, -1, factor, means)
    score, threshold = reference.scores(means[0], lig_P, rec_P)
    reached, drawn = (torch.zeros(score.shape, dtype=torch.int32) for _ in range(2))
    # The size of a turn changes memory and how soon genes drop out, not the result.
    turn = 32 * torch.get_num_threads()
    for first in range(0, n_permutations, turn):
        means = torch.empty(min(turn, n_permutations - first), *factor.shape, dtype=torch.float64)
        native().label_null_means(*steps, needed, labels, seed, first, factor, means)
        native().label_null_count(means, lig_P, rec_P, threshold, enough, reached, drawn)
        open_P = (reached < enough).flatten(1).any(1)
        if not open_P.any():
            break
        needed.zero_()
        for gene_P in (lig_P, rec_P):
            needed[gene_P[open_P].long()] = 1
    return score, reached, drawn


def _native_steps(x, genes, scale, count_G):
    """Panels of the genes that many cells express, and the entries of the others; see csrc/cpu/label_null.cpp."""
    count = count_G[genes]
    n_dense = int((count >= EXPRESSED_BY_MANY * x.shape[0]).sum())
    place = torch.full((x.shape[1],), -1, dtype=torch.int32)
    place[genes] = torch.arange(len(genes), dtype=torch.int32)
    ptr = torch.cat((count.new_zeros(1), count[n_dense:].cumsum(0)))
    panels = torch.empty(-(-n_dense // GENES_A_PANEL), x.shape[0], GENES_A_PANEL, dtype=torch.int16)
    cells, values = torch.empty(int(ptr[-1]), dtype=torch.int32), torch.empty(int(ptr[-1]), dtype=torch.int16)
    native().label_null_quantise(x.native(), place, scale, n_dense, panels, ptr, cells, values)
    return panels, n_dense, ptr, cells, values


def _native_ranges(x):
    largest, whole, count = (torch.empty(x.shape[1], dtype=t) for t in (torch.float64, torch.uint8, torch.int64))
    native().label_null_ranges(x.native(), largest, whole, count)
    return largest, whole.bool(), count


def _checked(x_NG: Tensor, type_N: Tensor, n_types: int, lig_P: Tensor, rec_P: Tensor) -> Expression:
    x = Expression.of(x_NG, "x_NG").float32()
    if type_N.numel() != x.shape[0] or n_types < 1 or x.shape[0] < 3:
        raise GraphError(
            f"Expected at least 3 cells, n_types >= 1 and a type for each of the {x.shape[0]} cells, "
            f"found {type_N.numel()} types and n_types={n_types}."
        )
    if lig_P.shape != rec_P.shape:
        raise GraphError(
            "Expected a ligand and a receptor for each pair, "
            f"found `lig_P` {tuple(lig_P.shape)} and `rec_P` {tuple(rec_P.shape)}."
        )
    check_indices(type_N, n_types, "type_N")
    check_indices(lig_P, x.shape[1], "lig_P")
    check_indices(rec_P, x.shape[1], "rec_P")
    return x


def _raw_moments(x, type_N, n_types, lig_P, rec_P):
    runs = runner("cluster_means_null", x.values)
    if runs == "cuda":
        return [part.cpu().numpy() for part in cuda_moments.raw_moments(x, type_N, n_types, lig_P, rec_P)]
    x, type_N, lig_P, rec_P = (given.to(CPU) for given in (x, type_N, lig_P, rec_P))
    if runs == "reference":
        return reference.raw_moments(x, type_N, n_types, lig_P, rec_P)
    powers, by_type, cross = (
        torch.empty(shape, dtype=torch.float64) for shape in ((x.shape[1], 3), (n_types, x.shape[1]), (len(lig_P), 3))
    )
    slot_P = torch.arange(len(lig_P), dtype=torch.int32)
    pairs = pairs_by_gene(lig_P, rec_P, slot_P, x.shape[1])
    native().label_null_moments(x.native(), type_N.contiguous(), pairs, powers, by_type, cross)
    return powers.numpy(), by_type.numpy(), cross.numpy()


def _central_moments(power_G3, cross_P3, n_cells, lig, rec):
    """(G, 4) mean, m2, m3 and mean square of the genes, and (P, 3) m11, m21 and m12 of the pairs."""
    mean, square, cube = power_G3.T / n_cells
    m2 = square - mean**2
    # What rounding leaves of a constant gene is no variance.
    m2[m2 <= ROUNDING * square] = 0.0
    genes = np.stack((mean, m2, cube - 3 * mean * square + 2 * mean**3, square), axis=1)
    xy, xxy, xyy = cross_P3.T / n_cells
    x, y, xx, yy = mean[lig], mean[rec], square[lig], square[rec]
    m21 = xxy - 2 * x * xy - y * xx + 2 * x**2 * y
    m12 = xyy - 2 * y * xy - x * yy + 2 * y**2 * x
    return genes, np.stack((xy - x * y, m21, m12), axis=1)


def _moments_of_sums(left, right, cross, n, n_cells):
    """(T, T, P) variance and third central moment of the sums of two cluster means; see `cluster_means_null`."""
    (_, x2, x3, xx), (_, y2, y3, yy), (m11, m21, m12) = left.T, right.T, cross.T
    n = np.where(n > 0, n, np.nan)
    second = (n_cells - n) / (n * (n_cells - 1))
    third = (n_cells - n) * (n_cells - 2 * n) / (n**2 * (n_cells - 1) * (n_cells - 2))
    mixed = (n_cells - 2 * n) / (n * (n_cells - 1) * (n_cells - 2))
    a, b = np.s_[:, None, None], np.s_[None, :, None]
    variance = x2 * second[a] + y2 * second[b] - 2 * m11 / (n_cells - 1)
    skew = x3 * third[a] + y3 * third[b] - 3 * (m21 * mixed[a] + m12 * mixed[b])
    same = np.arange(len(n))
    variance[same, same] = (x2 + y2 + 2 * m11) * second[:, None]
    skew[same, same] = (x3 + y3 + 3 * m21 + 3 * m12) * third[:, None]
    # What rounding leaves of a difference of equal numbers is no variance.
    terms = xx * second[a] + yy * second[b] + 2 * np.sqrt(xx * yy) / (n_cells - 1)
    return np.where(variance <= ROUNDING * terms, 0.0, variance), skew


def _tails(away, variance, third, farthest, device):
    """Skewness and p-value; a score that no permutation changes has skewness 0 and p-value 1.

    A cluster of more than half of the cells makes the law end above its mean, where the sum over the other cells is least. A
    gamma law of that sum starts at its least value; one with a larger skewness would start above values that are seen.
    """
    fixed = variance == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(fixed, 0.0, third / variance**1.5)
        z, end = away / np.sqrt(variance), farthest / np.sqrt(variance)
        p = pearson3_tail(z, np.maximum(skewness, -2 / end), device)
        # No other cell expresses anything: as likely as no event of a Poisson number of them.
        p = np.where((skewness < 0) & (z >= end * (1 - 1e-9)), np.maximum(p, np.exp(-(end**2))), p)
    return skewness, np.where(fixed, 1.0, p)


def _genes_of_pairs(lig_P: Tensor, rec_P: Tensor, rare_G: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The genes that some pair names, common ones first, and the pairs as positions among them."""
    genes = torch.unique(torch.cat((lig_P, rec_P))).long()
    genes = genes[torch.argsort(rare_G[genes].int(), stable=True)]
    position = torch.full(rare_G.shape, -1, dtype=torch.int32, device=genes.device)
    position[genes] = torch.arange(len(genes), dtype=torch.int32, device=genes.device)
    return genes, position[lig_P.long()], position[rec_P.long()]
