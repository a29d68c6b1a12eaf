"""Nulls of signals between cell types, each with its question; exact moments, or permutations where those do not exist.

- positions: do cells of these two types that express the pair stand nearer to each other than other cells of the same
  two types do? Cells change places within their type; composition, tissue architecture and what each type expresses stay.
- labels: is the signal between these two types larger than between cells drawn at random? Types are permuted over all
  cells, so that a pair whose genes mark the two types is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaniche.errors import ConfigError
from metaniche.graph import rows_of
from metaniche.io.progress import Tell
from metaniche.ops import LigandReceptor, received_by_pair, sent_by_pair, type_pair_sums
from metaniche.ops.by_sender import by_sender
from metaniche.ops.edge_null import check_rows_ascend
from metaniche.ops.expression import type_counts
from metaniche.ops.pearson import upper_tail
from metaniche.ops.permutation_moments import PairSums, of_type_pairs, permutation_moments
from metaniche.signaling.by_type import sums_by_type, sums_within_types, within_cells
from metaniche.signaling.csr import map_values, one_hot, take_rows, to_scipy, to_torch

NULLS = ("positions", "labels")
# What reaches a cell is summed in float32, in the order of its neighbours: sums that differ by less are the same.
ROUNDING = 1e-6
PAIRS_A_BLOCK = 256
ROWS_AT_ONCE = 1024


class SignalNull(NamedTuple):
    """Signals (T, T, P) float64, sender type first, summed over edges, with their null; z is NaN where nothing varies."""

    score: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    z: np.ndarray
    p: np.ndarray
    """Of a signal at least as large; 1 where the null leaves no choice, NaN where a signal is not finite."""


def position_null(problem: LigandReceptor, type_N: Tensor, n_types: int) -> SignalNull:
    """Signals between types when cells change places within their type; mean and variance are exact.

    For sender type a and receiver type b, ligand x and receptor y of their n_a and n_b cells,

    .. math:: T = \\sum_{i \\in b, j \\in a} w_{ij} y_i x_j, \\quad E[T] = W \\bar x \\bar y

    and, with :math:`S` the sums of squares about the mean, :math:`r_i, c_j` the row and column sums of w between the two,

    .. math::
        Var[T] = \\bar y^2 \\frac{S_x}{n_a - 1} \\Big(\\sum c_j^2 - \\frac{W^2}{n_a}\\Big)
        + \\bar x^2 \\frac{S_y}{n_b - 1} \\Big(\\sum r_i^2 - \\frac{W^2}{n_b}\\Big)
        + \\frac{S_x S_y}{(n_a - 1)(n_b - 1)}
        \\Big(\\sum w_{ij}^2 - \\frac{\\sum r_i^2}{n_a} - \\frac{\\sum c_j^2}{n_b} + \\frac{W^2}{n_a n_b}\\Big)

    since the two types are permuted independently. Within a type, ligand and receptor of a cell move together; the
    moments are then those of `permutation_moments`. The tail is that of a gamma variable, an approximation.

    `problem` holds sparse expression (see `PairExpression`). Costs a few passes of `type_pair_sums`; memory is
    O(T^2 (P + L + R)). Raises ConfigError for scores that are not separable, GraphError for a graph with self edges or
    whose columns do not ascend within each row.
    """
    _check(problem)
    score, _ = type_pair_sums(problem, type_N, n_types)
    n = type_counts(type_N, n_types).double().numpy(force=True)
    sent, received = (
        [sums_by_type(x, type_N, n_types), sum(sums_by_type(part, type_N, n_types) for part in _squared(x))]
        for x in (problem.ligand_NL, problem.receptor_NR)
    )
    lig, rec = problem.lig_P.numpy(force=True), problem.rec_P.numpy(force=True)
    edges = _edges_between_types(problem, type_N, n_types)
    mean, variance = _between(edges, [m[:, lig] for m in sent], [m[:, rec] for m in received], n)
    same = np.arange(n_types)
    within = PairSums(*(part[same, same, None] for part in edges))
    inner = permutation_moments(within, _pairs_of_cells(problem, type_N, n_types, sent, received), n[:, None])
    mean[same, same], variance[same, same] = inner[0], inner[1]
    return judged(score.numpy(force=True), mean, variance)


def label_null(problem: LigandReceptor, type_N: Tensor, n_types: int) -> SignalNull:
    """Signals between types when types are permuted over all cells; mean and variance are exact, as in
    `ops.edge_scores_null`, for every pair at once. Raises as `position_null`.
    """
    _check(problem)
    score, _ = type_pair_sums(problem, type_N, n_types)
    n = type_counts(type_N, n_types).double().numpy(force=True)
    of_pairs = PairSums(*(part[None, None, :] for part in _sums_of_pairs(problem)))
    of_types = PairSums(*(part[:, :, None] for part in of_type_pairs(n)))
    mean, variance, _ = permutation_moments(of_pairs, of_types, type_N.numel())
    return judged(score.numpy(force=True), mean, variance)


def permutation_null(
    problem: LigandReceptor,
    type_N: Tensor,
    n_types: int,
    null: str,
    n_permutations: int = 1000,
    *,
    stop_after: int = 20,
    seed: int = 0,
    progress: Tell | None = None,
) -> SignalNull:
    """The same nulls by permutation, for any score; stops when every test has been reached `stop_after` times.

    With b of n permuted signals at least as large as the one seen p = (b + 1) / (n + 1); a test that was reached
    `stop_after` = h times at permutation l has p = h / l (Besag and Clifford 1991, doi:10.1093/biomet/78.2.301).
    """
    if null not in NULLS or n_permutations < 1 or stop_after < 1:
        raise ConfigError(
            f"Expected null in {NULLS}, n_permutations and stop_after >= 1, found {null!r}, {n_permutations}, {stop_after}."
        )
    score = type_pair_sums(problem, type_N, n_types)[0].numpy(force=True)
    rng = np.random.default_rng(seed)
    draws = (_permuted(problem, type_N, n_types, null, rng) for _ in range(n_permutations))
    tell = progress and partial(tell_draws, progress, n_permutations, f"permutations of {null}")
    return judged_by_draws(score, draws, stop_after, tell)


def tell_draws(progress: Tell, total: int, text: str, done: int) -> None:
    """`progress` as what counts draws calls it."""
    progress(done, total, text)


def judged_by_draws(
    score: np.ndarray, draws: Iterable[np.ndarray], stop_after: int, progress: Callable[[int], None] | None
) -> SignalNull:
    """Scores beside those drawn under a null; no more are drawn when all tests were reached `stop_after` times."""
    reached, drawn = np.zeros(score.shape, np.int32), np.zeros(score.shape, np.int32)
    # Of differences to the score, so that what no draw changes has a variance of exactly 0.
    first, second = np.zeros(score.shape), np.zeros(score.shape)
    done = 0
    for found in draws:
        change, running = found - score, reached < stop_after
        drawn += running
        reached += running & (change >= -ROUNDING * score)
        first, second, done = first + change, second + change**2, done + 1
        if progress is not None:
            progress(done)
        if (reached >= stop_after).all():
            break
    mean = first / done
    variance = np.maximum(second / done - mean**2, 0.0)
    variance = np.where(variance <= (ROUNDING * score) ** 2, 0.0, variance)
    p = np.where(reached >= stop_after, reached / drawn, (reached + 1) / (drawn + 1))
    # No comparison with NaN holds: a signal that is none would look like the largest.
    p = np.where(np.isfinite(second), p, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(variance > 0, -mean / np.sqrt(variance), np.nan)
    return SignalNull(score, score + mean, variance, z, p)


def shuffled_within_types(type_N: Tensor, rng: np.random.Generator) -> Tensor:
    """(N,) int64 cell whose expression each cell is given, of its own type; drawn on the CPU, whatever the device."""
    order = np.empty(type_N.numel(), np.int64)
    types = type_N.numpy(force=True)
    by_type = np.argsort(types, kind="stable")
    for cells in np.split(by_type, np.flatnonzero(np.diff(types[by_type])) + 1):
        order[cells] = rng.permutation(cells)
    return torch.from_numpy(order).to(type_N.device)


def _permuted(problem, type_N, n_types, null, rng) -> np.ndarray:
    if null == "labels":
        order = torch.from_numpy(rng.permutation(type_N.numel())).to(type_N.device)
        return type_pair_sums(problem, type_N[order], n_types)[0].numpy(force=True)
    order = shuffled_within_types(type_N, rng)
    expression = {side: take_rows(getattr(problem, side), order) for side in ("ligand_NL", "receptor_NR")}
    return type_pair_sums(replace(problem, **expression), type_N, n_types)[0].numpy(force=True)


def judged(score: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> SignalNull:
    """Scores with the gamma tail of their null; without variance z is NaN and p 1."""
    # What rounding leaves of a difference of equal numbers is no variance.
    fixed = variance <= 1e-12 * mean**2
    z, greater = upper_tail(score, mean, variance)
    return SignalNull(
        score, mean, np.where(fixed, 0.0, variance), np.where(fixed, np.nan, z), np.where(fixed, 1.0, greater)
    )


def _between(edges: PairSums, x: list[np.ndarray], y: list[np.ndarray], n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (T, T, P) for two types that are permuted apart; x, y are sums and squares (T, P)."""
    count = np.maximum(n, 1)[:, None]
    (mean_x, spread_x), (mean_y, spread_y) = (
        (total / count, (squares - total**2 / count).clip(min=0) / np.maximum(count - 1, 1))
        for total, squares in (x, y)
    )
    w, squares, rows, columns = (part[:, :, None] for part in (edges.total, edges.squares, edges.rows, edges.columns))
    of_sender, of_receiver = count[:, None], count[None, :]
    mean = w * mean_x[:, None] * mean_y[None, :]
    by_sender = mean_y[None, :] ** 2 * spread_x[:, None] * (columns - w**2 / of_sender)
    by_receiver = mean_x[:, None] ** 2 * spread_y[None, :] * (rows - w**2 / of_receiver)
    both = squares - rows / of_sender - columns / of_receiver + w**2 / (of_sender * of_receiver)
    variance = by_sender + by_receiver + spread_x[:, None] * spread_y[None, :] * both
    return mean, variance.clip(min=0)


def _edges_between_types(problem: LigandReceptor, type_N: Tensor, n_types: int) -> PairSums:
    """Sums (T, T) over the weights of the edges from sender type to receiver type; the last two on the diagonal only."""
    problem, largest = _of_largest_weight(problem)
    plain = problem.weights_alone()
    total, squares, mutual = (
        type_pair_sums(replace(plain, weight_E=w), type_N, n_types)[0][..., 0]
        for w in (problem.weight_E, problem.weight_E**2, problem.weight_E * weight_of_reverse(problem))
    )
    of_type = one_hot(type_N, n_types)
    types = torch.arange(n_types, dtype=torch.int32, device=type_N.device)
    here = torch.zeros_like(types)
    heard = received_by_pair(replace(plain, ligand_NL=of_type, lig_P=types, rec_P=here))
    told = sent_by_pair(replace(plain, receptor_NR=of_type, lig_P=here, rec_P=types))
    rows, columns, across = (torch.zeros_like(total) for _ in range(3))
    for (first, r), (_, c) in zip(heard, told):
        r, c = r.double(), c.double()
        own = (type_N[first : first + len(r), None] == types).double().T
        rows += (own @ r**2).T  # of the sender's type, and the receiver's own
        columns += own @ c**2
        across += (own * (r * c).T).sum(1).diag()
    return _as_weighted(largest, total, squares, mutual, rows, columns, across)


def _of_largest_weight(problem: LigandReceptor) -> tuple[LigandReceptor, float]:
    """The problem with weights as shares of the largest one, which it was: squares of small ones are 0 in float32."""
    largest = float(problem.weight_E.abs().amax()) if problem.weight_E.numel() else 0.0
    return (replace(problem, weight_E=problem.weight_E / largest), largest) if largest else (problem, 1.0)


def _as_weighted(largest: float, total: Tensor, *others: Tensor) -> PairSums:
    """The sums of weights that are `largest` times as large."""
    return PairSums(*(part.numpy(force=True) for part in (total * largest, *(part * largest**2 for part in others))))


def weight_of_reverse(problem: LigandReceptor) -> Tensor:
    """(E,) weight of the edge from i to j for that from j to i; 0 where there is none."""
    indptr, receivers, edges = by_sender(problem.indptr, problem.indices)
    if torch.equal(indptr, problem.indptr) and torch.equal(receivers, problem.indices):
        return problem.weight_E[edges]
    n, weight = problem.indptr.numel() - 1, torch.zeros_like(problem.weight_E)
    for first in range(0, n, ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE + 1)
        here, back = (slice(*pointers[rows][[0, -1]].tolist()) for pointers in (problem.indptr, indptr))
        asked = rows_of(problem.indptr[rows]) * n + problem.indices[here]
        there = torch.cat((rows_of(indptr[rows]) * n + receivers[back], indptr.new_tensor([n * n])))  # above all others
        place = torch.searchsorted(there, asked)
        found = (there[place] == asked).nonzero()[:, 0]
        weight[here.start + found] = problem.weight_E[edges[back][place[found]]]
    return weight


def _pairs_of_cells(problem, type_N, n_types, sent, received) -> PairSums:
    """Sums (T, P) over ordered pairs of different cells of one type of y_i x_j, receptor of i and ligand of j."""
    lig, rec = problem.lig_P.numpy(force=True), problem.rec_P.numpy(force=True)
    (x, xx), (y, yy) = (part[:, lig] for part in sent), (part[:, rec] for part in received)

    def together(ligand: Tensor, receptor: Tensor) -> np.ndarray:
        return sums_within_types(within_cells(ligand, receptor, problem.lig_P, problem.rec_P), type_N, n_types)

    ligand, receptor = problem.ligand_NL, problem.receptor_NR
    ligands, receptors = _squared(ligand), _squared(receptor)
    xy, xxy = together(ligand, receptor), sum(together(part, receptor) for part in ligands)
    xyy, xxyy = (sum(together(x, part) for part in receptors for x in of_x) for of_x in ((ligand,), ligands))
    return PairSums(
        total=x * y - xy,
        squares=xx * yy - xxyy,
        mutual=xy**2 - xxyy,
        rows=yy * x**2 - 2 * x * xyy + xxyy,
        columns=xx * y**2 - 2 * y * xxy + xxyy,
        across=xy * x * y - x * xyy - y * xxy + xxyy,
    )


def _sums_of_pairs(problem: LigandReceptor) -> PairSums:
    """Sums (P,) over all edges of the signal of each pair."""
    problem, largest = _of_largest_weight(problem)
    n_pairs, device = problem.lig_P.numel(), problem.lig_P.device
    one_type = torch.zeros(problem.indptr.numel() - 1, dtype=torch.int32, device=device)
    total, rows, columns, across = torch.zeros(4, n_pairs, dtype=torch.float64, device=device)
    for (_, r), (_, c) in zip(received_by_pair(problem), sent_by_pair(problem)):
        r, c = r.double(), c.double()
        for sums, values in ((total, r), (rows, r**2), (columns, c**2), (across, r * c)):
            sums += values.sum(0)
    square = replace(
        problem,
        ligand_NL=_squared(problem.ligand_NL)[0],
        receptor_NR=_squared(problem.receptor_NR)[0],
        weight_E=problem.weight_E**2,
    )
    squares = type_pair_sums(square, one_type, 1)[0][0, 0]
    both_ways = replace(problem, weight_E=problem.weight_E * weight_of_reverse(problem))
    mutual = torch.empty_like(squares)
    ligand, receptor = (to_scipy(x).tocsc() for x in (problem.ligand_NL, problem.receptor_NR))
    lig, rec = problem.lig_P.numpy(force=True), problem.rec_P.numpy(force=True)
    for first in range(0, n_pairs, PAIRS_A_BLOCK):
        block = slice(first, first + PAIRS_A_BLOCK)
        product = to_torch(ligand[:, lig[block]] * receptor[:, rec[block]], device)
        own = torch.arange(product.shape[1], dtype=torch.int32, device=device)
        mutually = replace(both_ways, ligand_NL=product, receptor_NR=product, lig_P=own, rec_P=own)
        mutual[block] = type_pair_sums(mutually, one_type, 1)[0][0, 0]
    return _as_weighted(largest, total, squares, mutual, rows, columns, across)


def _squared(x: Tensor) -> tuple[Tensor, Tensor]:
    """Squares in float32, and what rounding took from them: with both a gene that does not vary has no variance."""
    exact = x.values().double() ** 2
    rounded = exact.float()
    return map_values(x, rounded), map_values(x, (exact - rounded).float())


def _check(problem: LigandReceptor) -> None:
    if problem.half_saturation is not None:
        raise ConfigError(
            "Expected a score that is a product of a ligand and a receptor term for closed-form moments, found mass "
            "action saturated per edge. Give n_permutations, or take score=hill."
        )
    check_rows_ascend(problem.indptr, problem.indices)
