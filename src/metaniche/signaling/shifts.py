"""A null for tissue in which expression is patchy by itself: ligands are shifted against receptors as one piece.

- shifts: do ligand and receptor of these two types stand together beyond what the patchiness of each one brings?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from metaniche.errors import ConfigError, GraphError
from metaniche.io.progress import Tell
from metaniche.ops import LigandReceptor, type_pair_sums
from metaniche.signaling.csr import take_rows
from metaniche.signaling.nulls import SignalNull, judged_by_draws, tell_draws

PLACES_TRIED = 8
KEPT_BYTES = 2**29  # of shifts of a sample, 4 bytes for each cell


def shift_null(
    problem: LigandReceptor,
    pos_um: Tensor,
    type_N: Tensor,
    n_types: int,
    n_shifts: int = 999,
    *,
    once: bool = True,
    stop_after: int = 20,
    seed: int = 0,
    sources: KeptShifts | None = None,
    progress: Tell | None = None,
) -> SignalNull:
    """Signals between types when all ligands are moved over the tissue by one random vector, and receptors are not.

    Do ligand and receptor stand together beyond each one's own patchiness? Two genes that each form patches (clones, a
    gradient of hypoxia or of staining, a tissue's layers) meet in many edges or in few by accident alone, and permuting
    cells, which takes the patches apart, calls both surprising. Here each side keeps its patches and only how they lie to
    one another is drawn: the signal keeps its edges and weights, and

    .. math:: T_v = \\sum_{i \\in b, j \\in a} w_{ij} y_i x_{m_v(j)}

    where :math:`m_v(j)` is the cell of j's type at the place of j + v, with v uniform and the bounding box of all cells
    closed to a torus (Lotwick and Silverman 1982, doi:10.1111/j.2517-6161.1982.tb01221.x). p and when shifts stop as in
    `nulls.permutation_null`.

    What it cannot do. Patches are cut where the box is closed and where a place holds no cell of the type, as outside of a
    round section or between the islands of a type, so the window must hold many patches (Mrkvicka et al. 2021,
    doi:10.1016/j.spasta.2020.100430): among simulated tissues with independent patches 7 to 10 % had p <= 0.05 in
    windows 13 to 25 times as wide as the patches' length (permuted cells: 30 to 36 %). Ligand and receptor that follow
    one gradient, or one third cause, do stand together: the null says nothing about why. It costs power against
    permutations where expression is not patchy.

    Parameters
    ----------
    problem
        Of one sample, with sparse expression; any score.
    pos_um
        (N, 2 or 3) positions in micrometres.
    type_N, n_types
        (N,) int32 type of each cell, and T.
    n_shifts
        At most as many; each costs a pass of `type_pair_sums` and a search of N places. p is at least 1 / (n_shifts + 1).
    once
        True: a place goes to the nearest cell of the type that no nearer place has taken, so that each cell's ligands are
        used once and what the type expresses stays. False: to the nearest, taken or not; what a cell has of its own,
        beside its patch, then weighs more where the cell is used twice. p of noisy genes is too large and power is lost,
        but p is hardly ever too small (0.5 to 6 % had p <= 0.05).
    stop_after
        Times that a shifted signal must reach a test to decide it.
    seed
        Of the vectors; the same one gives the same result.
    sources
        The shifts of other pairs of the same cells, types, number and seed, which then are not searched again.

    Returns
    -------
    SignalNull, with mean and variance of the shifts. Memory is O(T^2 P + nnz), never edges times pairs, and KEPT_BYTES at most
    for `sources`.

    Raises
    ------
    ConfigError for n_shifts or stop_after below 1, GraphError for positions that are not finite or not one per cell.
    """
    _check(problem, pos_um, n_shifts, stop_after)
    score = type_pair_sums(problem, type_N, n_types)[0].numpy(force=True)
    if sources is None:
        places = pos_um.double().numpy(force=True), type_N.numpy(force=True)
        sources = shifts_of_cells(*places, n_shifts, once, seed)
    cells = (torch.from_numpy(cell).to(type_N.device).long() for cell in sources)
    shifted = (replace(problem, ligand_NL=take_rows(problem.ligand_NL, cell)) for cell in cells)
    draws = (type_pair_sums(there, type_N, n_types)[0].numpy(force=True) for there in shifted)
    tell = progress and partial(tell_draws, progress, n_shifts, "shifts of ligands against receptors")
    return judged_by_draws(score, draws, stop_after, tell)


def _check(problem: LigandReceptor, pos_um: Tensor, n_shifts: int, stop_after: int) -> None:
    n = problem.indptr.numel() - 1
    if n_shifts < 1 or stop_after < 1:
        raise ConfigError(
            f"Expected n_shifts and stop_after >= 1, found {n_shifts} and {stop_after}. Take 999 shifts for p values down to "
            "0.001."
        )
    if pos_um.shape not in ((n, 2), (n, 3)) or not bool(torch.isfinite(pos_um).all()):
        raise GraphError(
            f"Expected finite positions (N, 2 or 3) of the {n} cells, found {tuple(pos_um.shape)} with "
            f"{int((~torch.isfinite(pos_um)).sum())} NaN or infinite values. Drop cells without a place."
        )


class KeptShifts:
    """`shifts_of_cells` to go through any number of times: what was drawn is kept up to KEPT_BYTES, the rest is drawn anew."""

    def __init__(self, pos_um: Tensor, type_N: Tensor, n_shifts: int, once: bool, seed: int) -> None:
        places = pos_um.double().numpy(force=True), type_N.numpy(force=True)
        self._from = partial(shifts_of_cells, *places, n_shifts, once, seed)
        self._n_shifts, self._n_kept = n_shifts, min(n_shifts, KEPT_BYTES // (4 * max(len(places[0]), 1)))
        self._kept: list[np.ndarray] = []
        self._drawn = self._from()

    def __iter__(self) -> Iterator[np.ndarray]:
        """(N,) integers, shift by shift."""
        for number in range(self._n_kept):
            if number == len(self._kept):
                self._kept.append(next(self._drawn).astype(np.int32))
            yield self._kept[number]
        if self._n_kept < self._n_shifts:
            yield from self._from(self._n_kept)


def shifts_of_cells(
    pos: np.ndarray, types: np.ndarray, n_shifts: int, once: bool, seed: int, first: int = 0
) -> Iterator[np.ndarray]:
    """(N,) cell whose ligands each cell is given, for each shift from the one at position `first` on."""
    rng = np.random.default_rng(seed)
    rng.random((first, pos.shape[1]))
    low = pos.min(0, initial=np.inf)
    side = np.maximum(pos.max(0, initial=-np.inf) - low, 1e-9)
    groups = [np.flatnonzero(types == kind) for kind in np.unique(types)]
    trees = [cKDTree(pos[cells]) for cells in groups]
    for _ in range(first, n_shifts):
        places = low + (pos - low + rng.random(pos.shape[1]) * side) % side
        source = np.empty(len(pos), np.int64)
        for cells, tree in zip(groups, trees):
            arrived = places[cells]
            source[cells] = cells[matched(tree, arrived) if once else tree.query(arrived)[1]]
        yield source


def matched(tree: cKDTree, places: np.ndarray) -> np.ndarray:
    """(n,) a point of the tree for each of its n places, each point once.

    All places ask for the nearest point that is free among their few nearest, the closest that asks is given it, and the
    others ask again; those whose nearest points are all taken look among the points that are left.
    """
    given = np.full(len(places), -1)
    free = np.ones(len(places), dtype=bool)
    points, waiting, k = np.arange(len(places)), np.arange(len(places)), PLACES_TRIED
    while len(waiting):
        k = min(k, len(points))
        distance, near = (part.reshape(len(waiting), k) for part in tree.query(places[waiting], k))
        _give(given, free, waiting, points[near], distance)
        waiting = waiting[given[waiting] < 0]
        if len(waiting):
            left = np.flatnonzero(free)
            tree, points, k = cKDTree(tree.data[np.searchsorted(points, left)]), left, min(2 * k, 64)
    return given


def _give(given: np.ndarray, free: np.ndarray, waiting: np.ndarray, near: np.ndarray, distance: np.ndarray) -> None:
    """Fill `given` and empty `free` until no place that waits has a free point among its near ones."""
    asking = np.arange(len(waiting))
    while True:
        open_ = free[near[asking]]
        some = open_.any(1)
        asking, open_ = asking[some], open_[some]
        if not len(asking):
            return
        column = open_.argmax(1)
        wish = near[asking, column]
        order = np.lexsort((distance[asking, column], wish))
        winner = order[np.diff(wish[order], prepend=-1) > 0]
        given[waiting[asking[winner]]] = wish[winner]
        free[wish[winner]] = False
        asking = np.delete(asking, winner)
